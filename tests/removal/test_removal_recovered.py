"""Unlearning recovered triggers: who is stamped, what it does, when it stops, what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tests.removal.conftest import Known, Scene
from torch import Tensor, nn

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.metrics import accuracy, attack_success
from doorward.removal import MESA_PAPER, DistributionUnlearning, remove, unlearn
from doorward.removal.stamping import TrueLabels, recovered_success


def test_unlearning_the_true_trigger_removes_it_and_keeps_accuracy(scene: Scene) -> None:
    found = {3: Known(3, scene.backdoor.trigger)}
    before = accuracy(scene.victim, scene.test)
    repaired, result = unlearn(
        scene.victim,
        scene.clean,
        found,
        DistributionUnlearning(lr=0.02, epochs=8, held_out=0.2),
        seed=1,
    )
    assert attack_success(scene.victim, scene.test, scene.backdoor) > 0.9
    assert attack_success(repaired, scene.test, scene.backdoor) < 0.1
    assert accuracy(repaired, scene.test) > before - 0.03
    assert result.method == "mesa-unlearning"
    assert result.details["targets"] == [3]
    checks = result.details["checks"]
    assert checks[0]["success"] > 0.9
    chosen = next(c for c in checks if c["epochs"] == result.details["epochs"])
    gains = [
        checks[0]["success"] - c["success"] - max(0, checks[0]["accuracy"] - c["accuracy"])
        for c in checks
    ]
    assert gains[checks.index(chosen)] == max(gains)


def test_it_ends_when_nothing_improves_and_keeps_the_best_state(scene: Scene) -> None:
    """A trigger that does nothing cannot get better: the model comes back as it was."""
    nothing = {3: Known(3, nn.Identity())}  # type: ignore[arg-type]
    method = DistributionUnlearning(lr=1e-6, epochs=30, patience=2, held_out=0.2)
    _, result = unlearn(scene.innocent, scene.clean, nothing, method)
    assert len(result.details["checks"]) < 30
    # Nothing changes, so the last of equals is kept.
    assert result.details["checks"][-1]["epochs"] == result.details["epochs"] == 2


def test_equal_seeds_give_equal_weights(scene: Scene) -> None:
    found = {3: Known(3, scene.backdoor.trigger)}
    method = DistributionUnlearning(epochs=1)
    one, other, third = (
        unlearn(scene.victim, scene.clean, found, method, seed=seed)[0].state_dict()
        for seed in (1, 1, 2)
    )
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not all(torch.equal(one[name], third[name]) for name in one)


def test_no_triggers_leave_the_model_as_it_was(scene: Scene) -> None:
    repaired, result = unlearn(scene.victim, scene.clean, {})
    assert result.details["targets"] == []
    given = scene.victim.state_dict()
    assert all(torch.equal(t, given[name]) for name, t in repaired.state_dict().items())


@pytest.mark.parametrize(
    ("targets", "sure", "unlearnt"),
    [("accused", 1.0, [3]), ("accused", 0.1, []), ("suspect", 0.1, [3]), ((3,), 0.1, [3])],
)
def test_what_is_unlearnt_after_a_scan(
    scene: Scene, knowing: None, targets: Any, sure: float, unlearnt: list[int]
) -> None:
    _, result = remove(
        scene.victim,
        scene.clean.sample(60, seed=0),
        DistributionUnlearning(
            scanner="knowing",
            scanner_options={"target": 3, "sure": sure},
            targets=targets,
            epochs=1,
        ),
    )
    assert result.details["targets"] == unlearnt
    assert result.details["suspect"] == 3
    assert bool(result.history) == bool(unlearnt)


def test_a_scanner_without_triggers_is_no_use(scene: Scene, knowing: None) -> None:
    method = DistributionUnlearning(scanner="knowing", scanner_options={"target": 3, "blind": True})
    with pytest.raises(InvalidInput, match="recovered no triggers of class 3"):
        remove(scene.victim, scene.clean.sample(30, seed=0), method)


def test_what_was_recovered_is_unlearnt_though_more_classes_are_accused(
    scene: Scene, knowing: None
) -> None:
    method = DistributionUnlearning(
        scanner="knowing", scanner_options={"target": 3, "unseen": 5}, epochs=1
    )
    _, result = remove(scene.victim, scene.clean.sample(30, seed=0), method)
    assert result.details["accused"] == [3, 5]
    assert (result.details["targets"], result.details["not_recovered"]) == ([3], [5])


def test_each_image_is_stamped_with_the_given_probability() -> None:
    found = [Known(0, value=0.25), Known(1, value=0.75)]
    objective = TrueLabels(found, share=0.3, seed=0)
    images = objective.stamped(torch.zeros(4000, 1, 2, 2), torch.Generator().manual_seed(0))
    first, second = ((images[:, 0, 0, 0] == v).double().mean().item() for v in (0.25, 0.75))
    assert first == pytest.approx(0.15, abs=0.03)
    assert second == pytest.approx(0.15, abs=0.03)
    assert (
        TrueLabels(found, share=1.0, seed=0)
        .stamped(torch.zeros(5, 1, 2, 2), torch.Generator())
        .min()
        > 0
    )


def test_steps_draw_anew_and_labels_stay() -> None:
    objective = TrueLabels([Known(0, value=1.0)], share=0.5, seed=3)
    seen = []

    class Spy(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images.clone())
            return images.flatten(1)[:, :3]

    for step in (0, 1, 0):
        batch = Batch(
            images=torch.zeros(16, 1, 2, 2),
            labels=torch.arange(16) % 3,
            indices=torch.arange(16),
            step=step,
            epoch=0,
            size_global=16,
        )
        loss, scalars = objective(Spy(), batch)
    assert torch.equal(seen[0], seen[2])
    assert not torch.equal(seen[0], seen[1])
    # Stamped or not, all three logits of this model are equal: log 3, and a third is right.
    assert float(loss) == pytest.approx(1.0986, abs=1e-3)
    assert float(scalars["accuracy"]) == pytest.approx(6 / 16)


def test_both_kinds_of_consistency_are_zero_without_change_and_positive_with(
    scene: Scene,
) -> None:
    rows = torch.arange(8)
    batch = Batch(
        images=scene.clean.pixels(rows), labels=scene.clean.labels[rows], indices=rows,
        step=0, epoch=0, size_global=8,
    )  # fmt: skip
    for trigger, moved in ((nn.Identity(), False), (scene.backdoor.trigger, True)):
        found = [Known(3, trigger)]  # type: ignore[arg-type]
        objective = TrueLabels(
            found, share=1.0, seed=0, head="head", features=1.0, answers=1.0, given=scene.victim
        )
        _, scalars = objective(scene.victim, batch)
        assert (float(scalars["shift"]) > 1e-3) == moved
        assert (float(scalars["drift"]) > 1e-3) == moved


def test_success_counts_images_of_other_classes_only(scene: Scene) -> None:
    class Always(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.eye(10)[torch.full((len(images),), 4)]

    draw = torch.Generator()
    assert recovered_success(Always(), scene.clean, Known(4), draw) == 1.0
    assert recovered_success(Always(), scene.clean.of_class(4), Known(4), draw) == 0.0
    assert recovered_success(Always(), scene.clean, Known(5), draw) == 0.0


class Wide(Known):
    def stamp(self, images: Tensor, draw: torch.Generator) -> Tensor:
        return images[:, :, :4, :4]


class Fails(Known):
    def stamp(self, images: Tensor, draw: torch.Generator) -> Tensor:
        return images + torch.ones(3, 5, 7)


@pytest.mark.parametrize(
    ("recovered", "match"),
    [
        ({2: Known(3)}, "of class 3"),
        ({2: "triggers"}, "is a str"),
        ({12: Known(12)}, "no class 12"),
        ({2: Wide(2)}, "turn images"),
        ({2: Fails(2)}, "cannot be put on images"),
    ],
)
def test_triggers_that_do_not_fit_are_refused(
    model: nn.Module, digits: ImageData, recovered: Any, match: str
) -> None:
    with pytest.raises(InvalidInput, match=match):
        unlearn(model, digits, recovered)


@pytest.mark.parametrize(
    "field",
    [{"stamped_share": 0}, {"targets": "all"}, {"targets": []}, {"held_out": 1.0}, {"patience": 0}],
)
def test_parameters_out_of_range_are_refused(field: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        DistributionUnlearning.from_dict(field)


def test_the_papers_constants() -> None:
    assert (MESA_PAPER.stamped_share, MESA_PAPER.lr, MESA_PAPER.epochs) == (0.01, 1e-3, 10)
    assert (MESA_PAPER.momentum, MESA_PAPER.nesterov, MESA_PAPER.weight_decay) == (0.9, False, 0)
    assert (MESA_PAPER.batch_size, MESA_PAPER.batchnorm) == (128, "train")
    assert (MESA_PAPER.schedule, MESA_PAPER.held_out) == ("constant", 0)
    assert MESA_PAPER.augment == type(MESA_PAPER.augment)()
