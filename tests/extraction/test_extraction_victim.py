"""The meter and the memory: budgets, resumption, damage, another victim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from doorward.errors import BadFile, EndpointFailed, InvalidInput, ModelUnsuitable
from doorward.extraction import Victim
from doorward.models import CallableBox, HttpBox, ModuleBox, create


def pictures(count: int, seed: int = 0) -> Tensor:
    return torch.rand(count, 1, 16, 16, generator=torch.Generator().manual_seed(seed))


def test_nothing_is_asked_twice_and_the_budget_holds(victim: nn.Module, counting: Any) -> None:
    box = counting(victim)
    asked = Victim(box, budget=30)
    images = pictures(20)
    first = asked.ask(images)
    assert torch.allclose(first, ModuleBox(victim).probabilities(images))
    assert (asked.spent, asked.left, asked.cost(pictures(25))) == (20, 10, 5)
    again = asked.ask(torch.cat([images[3:5], pictures(25)[20:], images[:1], images[:1]]))
    assert torch.equal(again[:2], first[3:5])
    assert torch.equal(again[-1], first[0])
    assert asked.spent == len(box.seen) == len(set(box.seen)) == 25
    with pytest.raises(InvalidInput, match="25 of 30 are spent"):
        asked.ask(pictures(6, seed=1))
    assert len(box.seen) == 25  # nothing of it was sent
    asked.ask(pictures(5, seed=1))
    assert (asked.left, len(box.seen)) == (0, 30)
    assert torch.equal(asked.ask(images), first)  # what is known stays free


@pytest.mark.parametrize("answers", ["soft", "label", "top-3", "rounded-2"])
def test_answers_survive_the_process(
    answers: str, victim: nn.Module, counting: Any, tmp_path: Path
) -> None:
    box = counting(victim)
    first = Victim(box, answers, budget=50, folder=tmp_path / "kept")
    told = first.ask(pictures(40))
    second = Victim(box, answers, budget=50, folder=tmp_path / "kept")
    assert (second.spent, second.left, second.num_classes) == (40, 50, 10)
    assert torch.equal(second.ask(pictures(40)), told)
    assert second.left == 10
    assert len(box.seen) == 40
    second.ask(pictures(10, seed=1))  # and goes on in new files
    assert Victim(box, answers, budget=50, folder=tmp_path / "kept").spent == 50


def test_a_kill_loses_nothing_that_was_answered(
    victim: nn.Module, counting: Any, tmp_path: Path
) -> None:
    box = counting(victim, fail_at=32)
    with pytest.raises(KeyboardInterrupt):
        Victim(box, budget=100, folder=tmp_path).ask(pictures(60))
    resumed = Victim(box, budget=100, folder=tmp_path)
    assert resumed.spent == 32
    told = resumed.ask(pictures(60))
    assert len(box.seen) == len(set(box.seen)) == 60
    assert torch.equal(told, Victim(counting(victim), budget=60).ask(pictures(60)))


def test_other_victims_and_answers_are_told_apart(victim: nn.Module, tmp_path: Path) -> None:
    Victim(ModuleBox(victim), budget=5, folder=tmp_path).ask(pictures(5))
    other = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8, seed=9)
    with pytest.raises(InvalidInput, match="another victim"):
        Victim(ModuleBox(other), budget=5, folder=tmp_path)
    with pytest.raises(InvalidInput, match=r"another kind: soft then, label now"):
        Victim(ModuleBox(victim), "label", budget=5, folder=tmp_path)
    smaller = Victim(ModuleBox(victim), budget=3, folder=tmp_path)
    assert torch.equal(smaller.ask(pictures(5)), smaller.ask(pictures(5)))
    with pytest.raises(InvalidInput, match="5 of 3 are spent"):
        smaller.ask(pictures(1, seed=1))


def test_a_folder_without_answers_commits_to_nothing(
    victim: nn.Module, counting: Any, tmp_path: Path
) -> None:
    box = counting(victim, labels_only=True)
    with pytest.raises(ModelUnsuitable, match="labels only"):
        Victim(box, budget=5, folder=tmp_path).ask(pictures(5))
    assert Victim(box, "label", budget=5, folder=tmp_path).ask(pictures(5)).shape == (5,)


def test_an_image_is_known_by_its_pixels_and_shape() -> None:
    zero = CallableBox(lambda images: torch.zeros(len(images), dtype=torch.int64))
    asked = Victim(zero, "label", budget=9)
    flat = torch.zeros(1, 1, 4, 4)
    asked.ask(flat)
    asked.ask(torch.zeros(1, 1, 2, 8))
    asked.ask(flat.to(torch.float64))
    assert asked.spent == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-9]),
        lambda path: path.write_bytes(b""),
        lambda path: save_file({"keys": load_file(path)["keys"]}, path),
        lambda path: save_file({**load_file(path), "answers": torch.rand(5, 10) * 3}, path),
        lambda path: save_file({**load_file(path), "answers": torch.rand(5, 7)}, path),
        lambda path: save_file({**load_file(path), "answers": torch.arange(5)}, path),
        lambda path: save_file({**load_file(path), "answers": torch.rand(4, 10)}, path),
        lambda path: save_file({**load_file(path), "answers": torch.rand(5, 10, 1)}, path),
        lambda path: save_file({**load_file(path), "answers": torch.full((5, 10), -1.0)}, path),
        lambda path: save_file({**load_file(path), "keys": torch.rand(5, 16)}, path),
        lambda path: (path.parent / "queries.json").write_text("[]"),
        lambda path: (path.parent / "queries.json").write_text("{"),
    ],
)
def test_damaged_files_are_refused(damage: Any, victim: nn.Module, tmp_path: Path) -> None:
    Victim(ModuleBox(victim), budget=5, folder=tmp_path).ask(pictures(5))
    damage(next(tmp_path.glob("answers-*.safetensors")))
    with pytest.raises(BadFile):
        Victim(ModuleBox(victim), budget=5, folder=tmp_path)


@given(place=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_flipped_bit_never_crashes(
    place: int, bit: int, victim: nn.Module, tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("bits")
    Victim(ModuleBox(victim), budget=3, folder=folder).ask(pictures(3))
    path = next(folder.glob("answers-*.safetensors"))
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 1 << bit
    path.write_bytes(content)
    try:
        opened = Victim(ModuleBox(victim), budget=6, folder=folder)
    except BadFile:
        return
    assert opened.ask(pictures(3)).shape == (3, 10)


def test_a_flaky_endpoint_is_survived(
    victim: nn.Module, inference_server: Any, failure: Any, tmp_path: Path
) -> None:
    asked: list[int] = []

    def answer(images: Tensor) -> Tensor:
        asked.append(len(images))
        with torch.inference_mode():
            return victim.eval()(images)

    server = inference_server(answer, logits=True, image_shape=(1, 16, 16))

    def thief() -> Victim:
        box = HttpBox(server.url, "model", batch_size=4, retries=1, backoff=0.0)
        return Victim(box, budget=20, folder=tmp_path)

    server.failures += [failure(503), failure(drop=True)]  # more than the box bears at once
    with pytest.raises(EndpointFailed, match=r"0 answers so far are in .*run it again"):
        thief().ask(pictures(20))
    server.failures += [failure(503)]  # this much it bears
    first = thief()
    first.ask(pictures(8))
    server.failures += [failure(500), failure(500)]
    with pytest.raises(EndpointFailed, match="8 answers so far"):
        first.ask(pictures(20))
    told = thief().ask(pictures(20))
    assert sum(asked) == 20
    assert torch.allclose(told, ModuleBox(victim).probabilities(pictures(20)), atol=1e-5)
    assert json.loads((tmp_path / "queries.json").read_text())["victim"]["kind"] == "http"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda box: Victim(box, budget=0), "budget of 0"),
        (lambda box: Victim(box, "loud", budget=1), "loud"),
        (lambda box: Victim(box, budget=1).ask(torch.zeros(0, 1, 4, 4)), "no images"),
        (lambda box: Victim(box, budget=1).ask(torch.zeros(1, 4, 4)), "float tensor"),
        (lambda box: Victim(box, budget=1).ask(torch.full((1, 1, 4, 4), 2.0)), "pixels span"),
    ],
)
def test_bad_input(call: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        call(CallableBox(lambda images: images.flatten(1)))
