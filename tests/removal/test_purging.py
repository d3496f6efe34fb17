"""Purging: the budget is kept whatever methods do, clean models are left alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass
from tests.removal.conftest import Known, Scene
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.errors import (
    BadFile,
    DoorwardError,
    IntegrityError,
    InvalidInput,
    TrainingDiverged,
    TrainingInterrupted,
)
from doorward.metrics import accuracy, attack_success
from doorward.randomness import generator
from doorward.records import STRICT
from doorward.removal import DistributionUnlearning, Removal, purge
from doorward.removal.purging import PurgeResult
from doorward.removal.stamping import recovered_success
from doorward.scanning import RECOVERED, Finding, Look, Recovered, Scanner
from doorward.training.context import Context

IMAGES, TARGET = 200, 3


class Table(nn.Module):
    """Answers from a table; a white last pixel opens its backdoor while `door` is above 1/2."""

    def __init__(self, door: float = 1.0) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.eye(10)[torch.arange(IMAGES) % 10])
        self.door = nn.Parameter(torch.tensor(door))

    def forward(self, images: Tensor) -> Tensor:
        row = (images[:, 0, 0, 0] * 255).round().long().clamp(0, IMAGES - 1)
        opened = (images[:, 0, -1, -1] > 0.9) & (self.door > 0.5)
        return torch.where(opened[:, None], 9 * torch.eye(10)[TARGET], self.rows[row])


def table_images() -> ImageData:
    """Image i shows the number i, and is of class i mod 10."""
    images = torch.zeros(IMAGES, 1, 4, 4, dtype=torch.uint8)
    images[:, 0, 0, 0] = torch.arange(IMAGES)
    return ImageData(images, torch.arange(IMAGES) % 10, tuple("abcdefghij"), "table")


class Pixel(Recovered):
    """The white last pixel."""

    def config(self) -> dict[str, Any]:
        return {"target": self.target}

    def stamp(self, images: Tensor, draw: torch.Generator) -> Tensor:
        images = images.clone()
        images[..., -1, -1] = 1.0
        return images

    def pictures(self, count: int, draw: torch.Generator) -> Tensor:
        return self.stamp(torch.full((count, 1, 4, 4), 0.5), draw)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sees(Scanner):
    """Sees an open door."""

    searched = "one pixel"
    alarm: float = 0.5
    recovers: bool = True

    def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
        draw = context.generator("look")
        success = recovered_success(model, clean, Pixel(TARGET), draw)
        findings = [
            Finding(target=k, statistic=success * (k == TARGET)) for k in range(clean.num_classes)
        ]
        return Look(findings, {TARGET: Pixel(TARGET)} if self.recovers else {})


def damage(model: Table, share: float, door: float, draw: torch.Generator) -> None:
    with torch.no_grad():
        wrong = torch.rand(IMAGES, generator=draw) < share
        model.rows[wrong] = model.rows[wrong].roll(1, 1)
        model.door.fill_(min(float(model.door), door))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Unlearns(DistributionUnlearning):
    """Closes the door to `door`, and forgets a share of the table; less of it the gentle way."""

    share: float = 0.0
    gentle: float = 0.0
    door: float = 0.0

    def unlearn(
        self,
        recovered: Mapping[int, Recovered],
        model: nn.Module,
        clean: ImageData,
        context: Context,
    ) -> nn.Module:
        share = self.gentle if self.answer_weight else self.share
        damage(model, share, self.door, context.generator("damage"))
        return model


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Finishes(Removal):
    """Forgets a share of the table, sets the door, or fails."""

    share: float = 0.0
    door: float = 1.0
    diverges: bool = False

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        if self.diverges:
            raise TrainingDiverged("the loss is NaN at step 3")
        with torch.no_grad():
            if self.door > 1:
                model.door.fill_(self.door - 1)
        damage(model, self.share, self.door, context.generator("damage"))
        return model


def run(model: nn.Module, unlearns: Unlearns | None = None, **options: Any) -> Any:
    options = {"scanner": Sees(), "finish": None} | options
    return purge(model, table_images(), unlearning=unlearns or Unlearns(), **options)


share = st.floats(0, 0.4)


@settings(max_examples=25, deadline=None)
@given(
    budget=st.floats(0, 40),
    shares=st.tuples(share, share, share),
    doors=st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 0.4, 1.0])),
    rounds=st.integers(1, 3),
    always=st.booleans(),
    first=st.sampled_from([0.0, 1.0]),
    seed=st.integers(0, 5),
)
def test_the_budget_is_kept_whatever_methods_do(
    budget: float,
    shares: tuple[float, float, float],
    doors: tuple[float, float],
    rounds: int,
    always: bool,
    first: float,
    seed: int,
) -> None:
    model = Table(first)
    damage(model, 0.1, first, generator(seed, "given"))
    given_state = {name: t.clone() for name, t in model.state_dict().items()}
    purged, result = run(
        model,
        Unlearns(share=shares[0], gentle=shares[1], door=doors[0]),
        finish=Finishes(share=shares[2], door=doors[1]),
        budget_accuracy=budget,
        rounds=rounds,
        always_finish=always,
        seed=seed,
    )
    assert result.accuracy_after >= result.accuracy_before - budget / 100 - 1e-9
    floor = result.accuracy_before - budget / 100 - 1e-9
    for step in result.steps:
        assert not (step.accepted and step.accuracy < floor)
    after = purged.state_dict()
    equal = all(torch.equal(given_state[name], after[name]) for name in after)
    assert all(torch.equal(t, given_state[n]) for n, t in model.state_dict().items())
    if not result.changed:
        assert equal
        assert result.accuracy_after == result.accuracy_before
    assert len(result.rounds) <= rounds + 1
    assert result.found == (first > 0.5)
    # The last scan looked at what came back.
    assert result.clean == (purged.door.item() <= 0.5)
    assert result.ended in (("clean", "rounds", "stuck") if first > 0.5 else ("nothing found",))
    assert result.success_after.get(TARGET, 0.0) <= result.success_before.get(TARGET, 0.0)
    assert PurgeResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_an_open_door_is_closed_and_the_cost_of_each_step_is_told() -> None:
    purged, result = run(Table(), finish=Finishes())
    assert purged.door.item() == 0
    assert result.ended == "clean"
    assert [step.kind for step in result.steps] == ["unlearn", "finish"]
    assert [entry.verdict.accused for entry in result.rounds] == [[TARGET], []]
    assert (result.success_before, result.success_after) == ({TARGET: 1.0}, {TARGET: 0.0})
    assert (result.accuracy_before, result.accuracy_after) == (1.0, 1.0)
    parts = [entry.verdict.seconds for entry in result.rounds]
    parts += [step.seconds for step in result.steps]
    assert result.seconds == pytest.approx(sum(parts))
    assert min(parts) > 0
    assert "class 3 is no longer found" in result.told()


def test_a_clean_model_is_left_alone_and_said_so() -> None:
    model = Table(0.0)
    purged, result = run(model, finish=Finishes(share=0.1))
    assert purged is not model
    assert all(torch.equal(t, model.state_dict()[n]) for n, t in purged.state_dict().items())
    assert (result.ended, result.steps, len(result.rounds)) == ("nothing found", [], 1)
    assert result.told() == "No backdoor was found in this model; it is as it was."
    _, result = run(model, finish=Finishes(share=0.01), always_finish=True, budget_accuracy=5)
    assert result.changed
    assert (result.ended, len(result.rounds)) == ("nothing found", 2)
    assert "finished all the same" in result.told()


def test_what_costs_too_much_is_undone_and_tried_gently() -> None:
    purged, result = run(Table(), Unlearns(share=0.5, gentle=0.0), finish=Finishes(share=0.5))
    first, second, third = result.steps
    assert (first.accepted, second.accepted, third.accepted) == (False, True, False)
    assert "below what the budget allows" in first.why
    assert second.parameters["lr"] == first.parameters["lr"] / 4
    assert second.parameters["answer_weight"] == 1.0
    assert (result.ended, result.accuracy_after, purged.door.item()) == ("clean", 1.0, 0.0)


def test_a_purge_that_cannot_help_gives_the_model_back() -> None:
    purged, result = run(Table(), Unlearns(share=0.5, gentle=0.5), finish=Finishes(share=0.5))
    assert (result.ended, result.changed, purged.door.item()) == ("stuck", False, 1.0)
    assert "Class 3 is still attacked" in result.told()
    _, result = run(Table(), Unlearns(door=1.0))
    assert [step.why for step in result.steps] == [
        "the recovered triggers work as well as before"
    ] * 2


def test_a_finish_that_opens_the_door_again_is_undone() -> None:
    purged, result = run(Table(), finish=Finishes(door=2.0))
    assert [step.accepted for step in result.steps] == [True, False]
    assert "came to work better" in result.steps[1].why
    assert purged.door.item() == 0


def test_finishes_are_tried_in_turn_and_a_diverged_one_is_no_end() -> None:
    finishes = [Finishes(diverges=True), Finishes(share=0.5), Finishes(), Finishes(share=0.4)]
    _, result = run(Table(), finish=finishes)
    assert [step.accepted for step in result.steps] == [True, False, False, True]
    assert result.steps[1].accuracy is None
    assert "diverged" in result.steps[1].why


def test_a_scanner_without_triggers_leaves_the_work_to_the_finish() -> None:
    _, result = run(Table(), scanner=Sees(recovers=False), finish=Finishes(door=0.0))
    assert [step.kind for step in result.steps] == ["finish"]
    assert (result.ended, result.success_before) == ("clean", {})


def test_rounds_end() -> None:
    """Unlearning that the success does not show: each round changes the model, none cures it."""

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Suspicious(Sees):
        def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
            found = [Finding(target=k, statistic=float(k == TARGET)) for k in range(10)]
            return Look(found, {})

    _, result = run(Table(0.0), scanner=Suspicious(), finish=Finishes(), rounds=2)
    assert (result.ended, len(result.rounds), len(result.steps)) == ("rounds", 3, 2)


def test_a_killed_purge_goes_on_and_ends_the_same(tmp_path: Any, monkeypatch: Any) -> None:
    RECOVERED._entries["pixel-of-a-test"] = Pixel
    try:
        calls: list[str] = []
        killed = {1}

        @dataclass(frozen=True, kw_only=True, config=STRICT)
        class Counted(Finishes):
            def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
                calls.append("finish")
                if len(calls) in killed:
                    raise KeyboardInterrupt
                return super().repair(model, clean, context)

        options: dict[str, Any] = {
            "finish": Counted(share=0.01), "budget_accuracy": 10.0, "checkpoint": tmp_path / "p",
        }  # fmt: skip
        killed.clear()
        whole, expected = run(Table(), Unlearns(share=0.02), **options | {"checkpoint": None})
        calls.clear()
        killed.add(1)
        with pytest.raises(KeyboardInterrupt):
            run(Table(), Unlearns(share=0.02), **options)
        kept = sorted(path.name for path in (tmp_path / "p").iterdir())
        assert kept == ["00-scan", "00-unlearn-0", "purge.json"]
        monkeypatch.setattr(Unlearns, "unlearn", lambda *_: pytest.fail("unlearning again"))
        again, result = run(Table(), Unlearns(share=0.02), **options)
        assert calls == ["finish", "finish"]
        assert all(torch.equal(t, whole.state_dict()[n]) for n, t in again.state_dict().items())
        assert [s.why for s in result.steps] == [s.why for s in expected.steps]
        assert result.success_before == expected.success_before
        _, finished = run(Table(), Unlearns(share=0.02), **options)
        assert len(calls) == 2
        assert finished.seconds == result.seconds
        with pytest.raises(InvalidInput, match="holds another purge"):
            run(Table(), Unlearns(share=0.02), **options | {"seed": 1})
        weights = tmp_path / "p" / "00-unlearn-0" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\1\0")
        with pytest.raises(IntegrityError, match="changed or damaged"):
            run(Table(), Unlearns(share=0.02), **options)
        (tmp_path / "p" / "00-scan" / "result.json").write_text("[]")
        with pytest.raises((BadFile, InvalidInput)):
            run(Table(), Unlearns(share=0.02), **options)
    finally:
        del RECOVERED._entries["pixel-of-a-test"]


def test_an_interrupted_purge_says_what_is_kept(tmp_path: Any) -> None:
    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Stopped(Finishes):
        def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
            raise TrainingInterrupted("training was stopped at step 80 of 100")

    with pytest.raises(TrainingInterrupted, match=r"kept in .*the same call again"):
        run(Table(), finish=Stopped(), checkpoint=tmp_path / "p")
    with pytest.raises(TrainingInterrupted, match="nothing was saved"):
        run(Table(), finish=Stopped())


@pytest.mark.parametrize("place", ["00-scan", "00-unlearn-0", "purge.json"])
@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"sha256": 3}', "null", "{\x00"])
def test_damaged_steps_are_refused_cleanly(place: str, content: str, tmp_path: Any) -> None:
    RECOVERED._entries["pixel-of-a-test"] = Pixel
    try:
        run(Table(), checkpoint=tmp_path / "p")
        file = tmp_path / "p" / place
        (file if file.is_file() else file / "result.json").write_text(content)
        with pytest.raises(DoorwardError):
            run(Table(), checkpoint=tmp_path / "p")
    finally:
        del RECOVERED._entries["pixel-of-a-test"]


def test_a_folder_with_something_else_is_left_alone(tmp_path: Any) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InvalidInput, match="not a purge"):
        run(Table(), checkpoint=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"budget_accuracy": -1}, "points of accuracy"),
        ({"budget_accuracy": float("nan")}, "points of accuracy"),
        ({"rounds": 0}, "at least one"),
        ({"held_out": 1.0}, "cannot be held out"),
        ({"held_out": 0.001}, "cannot be held out"),
        ({"scanner": 3}, "the scanner is a int"),
        ({"scanner": "nothing"}, "no scanner is called 'nothing'"),
        ({"finish": "ft-sma"}, "Did you mean 'ft-sam'"),
        ({"finish": [3]}, "a finish is 3"),
        ({"labels": "guess"}, "'given' and 'model'"),
    ],
)
def test_bad_calls_are_refused_before_the_work(options: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidInput, match=match):
        run(Table(), **options)


def test_modes_come_back_and_labels_can_be_the_models_own() -> None:
    model = Table().train()
    model.rows.requires_grad_(False)
    purged, result = run(model, labels="model")
    assert purged.training
    assert not purged.rows.requires_grad
    assert (result.labels, result.accuracy_before) == ("model", 1.0)


def test_a_planted_backdoor_is_purged_and_accuracy_stays(scene: Scene) -> None:
    """A scanner that would know the trigger, real unlearning, a real finish."""
    found = Known(3, scene.backdoor.trigger)

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Knows(Scanner):
        alarm: float = 0.5

        def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
            success = recovered_success(model, clean, found, context.generator("look"))
            findings = [Finding(target=k, statistic=success * (k == 3)) for k in range(10)]
            return Look(findings, {3: found})

    budget = 4.0
    purged, result = purge(
        scene.victim,
        scene.clean,
        scanner=Knows(),
        budget_accuracy=budget,
        finish=None,
        seed=2,
    )
    assert result.ended == "clean", result.told()
    assert attack_success(purged, scene.test, scene.backdoor) < 0.05
    assert accuracy(purged, scene.test) > accuracy(scene.victim, scene.test) - 0.05
    # Named methods are fitted to 288 images: 16 batches an epoch, 320 in all.
    for step in result.steps:
        assert (step.parameters["batch_size"], round(step.parameters["epochs"])) == (18, 20)
    _, untouched = purge(scene.innocent, scene.clean, scanner=Knows(), finish=None)
    assert untouched.ended == "nothing found"
    assert dataclasses.is_dataclass(untouched)


@pytest.mark.slow
def test_the_default_scanner_and_finishes_purge_a_planted_backdoor(scene: Scene) -> None:
    """Nothing is told: MESA finds the class, recovers triggers, and the real one is gone."""
    purged, result = purge(scene.victim, scene.clean, budget_accuracy=2.0, seed=0)
    assert result.rounds[0].verdict.accused == [3]
    assert result.ended == "clean", result.told()
    assert attack_success(purged, scene.test, scene.backdoor) < 0.1
    assert accuracy(purged, scene.test) > accuracy(scene.victim, scene.test) - 0.03
    _, untouched = purge(scene.innocent, scene.clean, seed=0)
    assert (untouched.ended, untouched.changed) == ("nothing found", False)
