"""Methods that invert or disturb before they unlearn, against what can be worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.models.layers import Behind, head_view
from doorward.models.translation import Translator
from doorward.removal import (
    CleanseUnlearning,
    DecoupledUnlearning,
    ImplicitUnlearning,
    ReconstructivePruning,
    SharedUnlearning,
    remove,
)
from doorward.removal.ibau import fixed_point
from doorward.removal.ncunlearning import _Unlearn
from doorward.removal.sau import _disagreement
from doorward.scanning.inversion import Reversed, Stamps, _Smallest, anomaly_index


def batch_of(images: Tensor, labels: list[int], epoch: int = 0) -> Batch:
    n = len(images)
    return Batch(images, torch.tensor(labels), torch.arange(n), epoch, epoch, n)


def corner_model(corner: float = 40.0) -> nn.Module:
    """Answers by the mean of ten row blocks, unless the top left pixel is white: then class 3."""

    class Corner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(17, 10, bias=False)
            with torch.no_grad():
                self.head.weight.zero_()
                self.head.weight[:, :10] = torch.eye(10)
                self.head.weight[3, 16] = corner

        def forward(self, images: Tensor) -> Tensor:
            rows = images.mean((1, 3))
            return self.head(torch.cat([rows, (images[:, 0, 0, :1] - 0.9).relu()], 1))

    return Corner()


def test_the_implicit_vector_solves_its_equation() -> None:
    """J = [[0.2, 0.1], [0, 0.5]]: v = (I - J^T)^-1 slope."""
    jacobian = torch.tensor([[0.2, 0.1], [0.0, 0.5]])
    variable = torch.ones(2, requires_grad=True)
    slope = torch.tensor([1.0, 2.0])
    found = fixed_point(jacobian @ variable, variable, slope, steps=60)
    assert torch.allclose(found, torch.linalg.solve(torch.eye(2) - jacobian.T, slope))
    assert torch.equal(fixed_point(jacobian @ variable, variable, slope, steps=1), slope)
    assert torch.equal(fixed_point(jacobian @ variable, variable, slope, steps=0), 0 * slope)


def test_disturbances_stay_in_their_ball(digits: ImageData, model: nn.Module) -> None:
    method = ImplicitUnlearning(rounds=3, ascent_lr=1e6, radius=10.0, batch_size=8)
    repaired, result = remove(model, digits, method)
    radius = 10 * (256 / 3072) ** 0.5
    assert result.details["disturbance_norms"] == pytest.approx([radius] * 3, rel=1e-4)
    kept = {name: t for name, t in repaired.state_dict().items() if "running" in name}
    assert all(torch.equal(kept[name], model.state_dict()[name]) for name in kept)
    assert [entry["phase"] for entry in result.history] == ["unlearn"] * 3


def test_the_implicit_part_matters(digits: ImageData, model: nn.Module) -> None:
    with_it, _ = remove(model, digits, ImplicitUnlearning(rounds=1, share=0.5))
    without, _ = remove(model, digits, ImplicitUnlearning(rounds=1, share=0.5, fixed_point_steps=0))
    one, other = with_it.state_dict(), without.state_dict()
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_anomaly_index_by_hand() -> None:
    """Median 10, deviations (0, 2, 1, 8, 1): MAD 1."""
    index = anomaly_index(torch.tensor([10.0, 12.0, 11.0, 2.0, 9.0]))
    assert index.tolist() == pytest.approx([0.0, 0.0, 0.0, 8 / 1.4826, 1 / 1.4826])
    assert anomaly_index(torch.full((5,), 3.0)).tolist() == [0.0] * 5


def test_stamps_by_hand() -> None:
    stamps = Stamps(nn.Flatten(), classes=2, image_shape=(1, 2, 2))
    assert stamps.masks().unique().tolist() == [0.5]
    with torch.no_grad():
        stamps.raw_masks[1] = 50.0
        stamps.raw_patterns[1] = -50.0
    images = torch.ones(3, 1, 2, 2)
    assert stamps.stamped(images)[:, 0, 0, 0, 0].tolist() == [0.75, 0.0]
    found = Reversed(
        stamps.masks().detach(),
        stamps.patterns().detach(),
        torch.ones(2),
        torch.ones(2),
        torch.ones(2),
    )
    stamped = found.stamp(images, torch.tensor([0, 1, 0]))
    assert stamped[:, 0, 0, 0].tolist() == [0.75, 0.0, 0.75]


def test_the_weight_of_size_rises_and_falls() -> None:
    """Patience 2: two good epochs 0 -> 1e-3 -> 2e-3, two bad ones back by 2^1.5."""
    stamps = Stamps(nn.Flatten(), classes=1, image_shape=(1, 2, 2))
    search = _Smallest(1, torch.device("cpu"), wanted=0.9, patience=2)
    costs, sizes = [], []
    for good in (True, True, True, True, False, False, True):
        with torch.no_grad():
            stamps.raw_masks.sub_(0.1)
        search.hits, search.shown = torch.tensor([10.0 if good else 0.0]), torch.tensor([10.0])
        search.settle(stamps)
        costs.append(float(search.cost))
        sizes.append(float(stamps.masks().detach().sum()))
    assert costs == pytest.approx([0, 1e-3, 1e-3, 2e-3, 2e-3, 2e-3 / 2**1.5, 2e-3 / 2**1.5])
    assert float(search.norms) == pytest.approx(sizes[-1])
    assert search.found(4, stamps).reached.tolist() == [True]


def test_nothing_suspicious_nothing_changed(digits: ImageData) -> None:
    model = corner_model(corner=0.0)
    method = CleanseUnlearning(epochs=2, search_epochs=4, alarm=1e15)
    same, result = remove(model, digits, method)
    assert torch.equal(same.head.weight, model.head.weight)
    assert result.details["targets"] == []
    forced, result = remove(
        model, digits, CleanseUnlearning(epochs=2, search_epochs=1, targets=(2,))
    )
    assert result.details["targets"] == [2]
    assert not torch.equal(forced.head.weight, model.head.weight)
    with pytest.raises(InvalidInput, match="no class 10"):
        remove(model, digits, CleanseUnlearning(targets=(1, 10)))


def test_a_fifth_of_the_batch_is_stamped() -> None:
    seen: list[Tensor] = []

    class Look(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            seen.append(images)
            return images.flatten(1)

    ones = torch.ones(2, 1, 2, 2)
    found = Reversed(ones, ones, torch.ones(2), torch.ones(2), torch.ones(2))
    images = torch.zeros(20, 1, 2, 2)
    _Unlearn(found, [1], 0.2, seed=0)(Look(), batch_of(images, [0] * 20))
    assert int(seen[0].sum()) == 4 * 4
    assert int(images.sum()) == 0


def test_disagreement_by_hand() -> None:
    """One image on which the models err alike counts for nothing; others for what they differ."""
    right, wrong = [8.0, 0.0], [0.0, 8.0]
    calm = [torch.zeros(1, dtype=torch.int64)] * 2
    labels = torch.zeros(1, dtype=torch.int64)

    def loss(one: list[float], other: list[float], adversarial: float) -> float:
        answers = [torch.tensor([one]), torch.tensor([other])]
        return float(_disagreement(answers, calm, labels, adversarial))

    assert loss(wrong, wrong, 1.0) == 0
    assert loss(right, right, 0.0) == pytest.approx(0, abs=1e-6)
    assert loss(wrong, right, 0.0) == pytest.approx(0.6931, abs=0.01)  # log 2 nats
    assert loss(right, right, 1.0) == pytest.approx(-float(torch.tensor(1 + 2.718281828**-8).log()))


def test_shared_unlearning_leaves_batchnorm_unless_told(
    digits: ImageData, model: nn.Module
) -> None:
    for follows in (False, True):
        method = SharedUnlearning(epochs=1, batchnorm_train=follows, robust=1.0)
        repaired, result = remove(model, digits, method)
        before, after = model.state_dict(), repaired.state_dict()
        moved = any(not torch.equal(before[n], after[n]) for n in before if "running" in n)
        assert moved is follows
        assert {"risk", "fooled", "accuracy"} <= set(result.history[0])


def test_unlearning_stops_when_the_task_is_forgotten(scene: Any) -> None:
    method = ReconstructivePruning(iterations=4, unlearn_lr=0.1, batch_size=64)
    _, result = remove(scene.victim, scene.clean, method, device="cpu")
    phases = [entry["phase"] for entry in result.history]
    assert result.details["unlearned_accuracy"] <= 0.2
    assert phases.count("unlearn") == result.details["unlearned_epochs"] < 20
    assert phases[-1] == "masks"


def test_a_translator_changes_little_at_first() -> None:
    draws = [torch.Generator().manual_seed(0) for _ in "ab"]
    translators = [Translator(3, width=4, draw=draw) for draw in draws]
    images = torch.rand(2, 3, 17, 21)
    change = (translators[0](images) - images).detach()
    assert 0 < float(change.abs().max()) < 0.1
    states = [translator.state_dict() for translator in translators]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    nn.init.constant_(translators[0].leave.weight, 100.0)
    assert float(translators[0](images).detach().max()) == 1.0
    alone = translators[1].eval()(images[:1])
    assert torch.allclose(alone, translators[1].train()(images)[:1], atol=1e-6)


def test_what_stands_before_a_model_leaves_it_alone() -> None:
    inner = nn.Sequential(nn.BatchNorm2d(1), nn.Flatten())
    behind = Behind(inner)
    behind.train()
    behind(torch.rand(4, 1, 2, 2))
    assert behind.training
    assert not inner.training
    assert int(inner[0].num_batches_tracked) == 0


def test_head_view() -> None:
    model = corner_model()
    images = torch.rand(3, 1, 16, 16)
    seen, logits = head_view(model, "head", images)
    assert seen.shape == (3, 17)
    assert torch.equal(model.get_submodule("head")(seen), logits)


def test_decoupling_finds_the_planted_class(digits: ImageData) -> None:
    """The feature that only the trigger uses is outside the mask, and images are moved along it."""
    method = DecoupledUnlearning(
        rounds=1,
        mask_epochs=20,
        mask_lr=0.3,
        translate_epochs=12,
        translate_lr=0.01,
        unlearn_epochs=1,
        width=8,
        batch_size=24,
    )
    _, result = remove(corner_model(), digits, method)
    assert [e["phase"] for e in result.history] == ["mask"] * 20 + ["translate"] * 12 + ["unlearn"]
    assert len(result.details["targets"]) == 1
    moves = [e["moved"] for e in result.history if e["phase"] == "translate"]
    assert moves[-1] > moves[0]
