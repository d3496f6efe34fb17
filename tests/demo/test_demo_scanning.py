"""What the chapters on scanning and removal promise, told from models whose verdict is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic.dataclasses import dataclass

from doorward.data import load
from doorward.demo import removal, scanning
from doorward.demo.story import Story, demo_recipe
from doorward.models import Classifier
from doorward.records import STRICT
from doorward.reporting import Report
from doorward.scanning import Finding, Look, Scanner
from doorward.triggers import AllToOne, Backdoor, Patch

TARGET = 3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LargestBias(Scanner):
    """Suspects the classes whose bias in the head is large, and recovers nothing."""

    alarm: float = 1.0

    def look(self, model: Any, clean: Any, context: Any) -> Look:
        biases = enumerate(model.head.bias.tolist())
        return Look([Finding(target=k, statistic=bias) for k, bias in biases])


@pytest.fixture
def story(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Story:
    monkeypatch.setattr(scanning, "demo_scanner", lambda _story: LargestBias())
    monkeypatch.setattr(removal, "demo_scanner", lambda _story: LargestBias())
    digits = load("digits").sample(40, seed=0).resized(16)
    story = Story(
        place=tmp_path, shown=tmp_path, train=digits, test=digits, passphrase="",
        recipe=demo_recipe(quick=True, seed=0), device="cpu", options={"width": 4}, quick=True,
    )  # fmt: skip
    story.shelf["backdoor"] = Backdoor(Patch(size=3), AllToOne(TARGET))
    return story


def suspected(story: Story, name: str, classes: list[int]) -> Classifier:
    """A model that the scanner accuses of these classes, the first one most."""
    model = story.fresh_model(name)
    with torch.no_grad():
        model.head.bias.zero_()  # type: ignore[union-attr,operator]
        for rank, target in enumerate(classes):
            model.head.bias[target] = 9.0 - rank  # type: ignore[union-attr,index]
    return model


@pytest.mark.parametrize(
    ("victim", "innocent", "found", "accused", "broken"),
    [
        ([TARGET], [], True, False, 0),
        ([], [], False, False, 1),
        ([5], [], False, False, 2),
        ([TARGET, 5], [], True, False, 1),
        ([5, TARGET], [], False, False, 2),
        ([TARGET], [1], True, True, 1),
    ],
)
def test_the_scans_are_summed_up_as_they_came_out(
    story: Story,
    victim: list[int],
    innocent: list[int],
    found: bool,
    accused: bool,
    broken: int,
) -> None:
    story.shelf["poisoned"] = suspected(story, "poisoned", victim)
    story.shelf["clean"] = suspected(story, "clean", innocent)
    part = scanning.tell(story)
    assert part.key == "scanning"
    assert (part.summary["attacked_class_found"], part.summary["clean_model_accused"]) == (
        found, accused,
    )  # fmt: skip
    assert part.summary["seconds"] >= 0
    assert sum(not kept for kept in part.promises.values()) == broken
    assert part.section is not None
    page = Report("x").add(part.section).html()
    assert ("Class 3 is attacked" in page) == (victim == [TARGET])


def test_a_victim_that_stays_one_breaks_the_promise(
    story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Nothing is accused, so nothing is repaired; the model answers 3 to whatever it is shown.
    monkeypatch.setattr(removal, "demo_scanner", lambda _story: LargestBias(alarm=1e6))
    story.shelf["poisoned"] = suspected(story, "poisoned", [TARGET])
    with torch.no_grad():
        story.shelf["poisoned"].head.weight.zero_()
    part = removal.tell(story)
    assert part.summary["attack_success_before"] == part.summary["attack_success_after"] == 1.0
    assert part.summary["accuracy_before"] == part.summary["accuracy_after"]
    assert [promise for promise, kept in part.promises.items() if not kept] == [
        "the purge takes the backdoor out"
    ]
    assert part.section is not None
    assert part.section.summary == "No backdoor was found, and the model was left as it is."
    assert (story.place / "purged.model" / "model.safetensors").is_file()


def test_whoever_received_the_model_has_no_more_images_than_said(story: Story) -> None:
    many = dataclasses.replace(story, train=load("digits"))
    assert len(scanning.received(many)) == 600
    assert len(scanning.received(story)) == 40
    assert torch.equal(scanning.received(many).images, scanning.received(many).images)
