"""What hardening is made of: schedule of pairs, images by class, searches, the shared objective."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.hardening import Aims, Patches, Pervasive, Space, hardening
from doorward.hardening.methods import Hard, HardObjective, Inversion, PairSchedule, Searching
from doorward.hardening.methods.images import ClassImages
from doorward.training.context import Context

CPU = torch.device("cpu")


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def schedule(explore: float = 0.0, blend_steps: int = 0) -> PairSchedule:
    return PairSchedule(torch.arange(3), 3, explore=explore, blend_steps=blend_steps)


def test_growth_by_hand() -> None:
    pairs = schedule()
    for target, size in enumerate((4.0, 2.0, math.inf)):
        pairs.warmed(target, size=size, eased=torch.zeros(3))
    pairs.settled()
    # Shares of the largest, 1 for a target that nothing leads to; nothing on the diagonal.
    assert pairs.growth.tolist() == [[0, 0.5, 1], [1, 0, 1], [1, 0.5, 0]]
    assert pairs.next(3, step=9, draw=draw()) == [(0, 2), (0, 1), (1, 2)]
    pairs.note(0, 2, 8.0)  # the first size of a pair without one says nothing of growth
    assert pairs.growth[0, 2] == 1
    pairs.note(0, 2, 4.0)
    assert pairs.growth[0, 2] == pytest.approx((1 - 0.5) / 2)
    pairs.note(2, 0, 6.0)  # half as large again as the universal change of class 0
    assert pairs.growth[2, 0] == pytest.approx((1 + 0.5) / 2)


def test_ease_counts_first_and_growth_later() -> None:
    pairs = schedule(blend_steps=10)
    pairs.warmed(0, size=1.0, eased=torch.tensor([0.5, 0.9, 0.1]))
    pairs.warmed(1, size=2.0, eased=torch.tensor([0.0, 0.7, 0.0]))
    pairs.warmed(2, size=4.0, eased=torch.tensor([0.0, 0.0, 0.0]))
    pairs.settled()
    assert pairs.eased.diagonal().tolist() == [0, 0, 0]
    assert pairs.next(1, step=0, draw=draw()) == [(0, 1)]
    assert pairs.next(1, step=10, draw=draw()) == [(1, 2)]


def test_pairs_are_explored_and_never_taken_twice() -> None:
    pairs, seen = schedule(explore=1.0), set()
    for seed in range(20):
        chosen = pairs.next(2, step=0, draw=draw(seed))
        assert len(set(chosen)) == 2
        seen |= set(chosen)
    assert seen == {(0, 1), (0, 2), (1, 2)}
    assert len(pairs.next(99, step=0, draw=draw())) == 3
    twin = schedule()
    pairs.note(0, 1, 3.0)
    twin.load_state_dict(pairs.state_dict())
    assert torch.equal(twin.sizes.nan_to_num(-1), pairs.sizes.nan_to_num(-1))


def test_images_of_a_class_however_few() -> None:
    images = torch.arange(7, dtype=torch.uint8).view(7, 1, 1, 1).expand(7, 1, 2, 2).contiguous()
    labels = torch.tensor([0, 2, 0, 2, 2, 1, 2])
    pool = ClassImages(ImageData(images, labels, ("a", "b", "c", "d")), CPU)
    assert pool.present.tolist() == [0, 1, 2]
    aims = Aims.of([(1, 0), (2, 3), (None, 2)], 4)
    x, y = pool.draw(aims, 50, draw())
    stored = (x[:, :, 0, 0, 0] * 255).round().long()
    assert torch.equal(labels[stored], y)
    assert stored[0].unique().tolist() == [5]
    assert stored[1].unique().tolist() == [1, 3, 4, 6]
    assert stored[2].unique().tolist() == [0, 2, 5]  # of all classes but the target
    assert 0.3 < float((y[2] == 1).float().mean()) < 0.7  # classes, not images, are drawn evenly
    with pytest.raises(InvalidInput, match="one class"):
        ClassImages(ImageData(images[:2], torch.tensor([1, 1]), ("a", "b")), CPU)


@pytest.mark.parametrize("kind", ["patch", "pixel"])
def test_a_search_keeps_the_smallest_change_that_works(
    kind: str, trained: nn.Module, small_digits: ImageData
) -> None:
    aims = Aims.of([(3, 5), (5, 3)], 10)
    images, labels = ClassImages(small_digits, CPU).draw(aims, 12, draw())
    change = Patches(2, (1, 8, 8)) if kind == "patch" else Pervasive(2, (1, 8, 8), Space())
    change.start([draw(1), draw(2)])
    settings = Searching(measure=kind)  # type: ignore[arg-type]
    search = Inversion(change, aims, settings)
    before = {name: tensor.clone() for name, tensor in trained.state_dict().items()}
    rough = search(trained, images, labels, 30)
    fine = search(trained, images, labels, 60)
    assert bool(rough.size.isfinite().all())
    assert bool((fine.size < rough.size).all())
    assert bool((fine.success >= settings.wanted).all())
    with torch.no_grad():
        answers = trained(change(images).flatten(0, 1)).argmax(1).view(2, 12)
    # What is said is true of the change that is in place afterwards.
    hits = (answers == aims.targets[:, None]).float().mean(1)
    torch.testing.assert_close(hits, fine.success)
    assert all(torch.equal(before[name], t) for name, t in trained.state_dict().items())
    assert all(parameter.grad is None for parameter in trained.parameters())


def test_a_search_that_finds_nothing_says_so(trained: nn.Module, small_digits: ImageData) -> None:
    aims = Aims.of([(3, 5)], 10)
    images, labels = ClassImages(small_digits, CPU).draw(aims, 12, draw())
    search = Inversion(Pervasive(1, (1, 8, 8)), aims, Searching(lr=1e-6))
    found = search(trained, images, labels, 3)
    assert found.size.tolist() == [math.inf]
    assert found.success.tolist() == [0.0]


class Inverted(HardObjective):
    """The negatives of the batch's first images."""

    count = 3

    def hard(self, model: nn.Module, batch: Batch) -> Hard:
        return Hard(1 - batch.images[: self.count], batch.labels[: self.count], {})


def batch_of(data: ImageData, count: int) -> Batch:
    rows = torch.arange(count)
    return Batch(
        images=data.pixels(rows),
        labels=data.labels[rows],
        indices=rows,
        step=0,
        epoch=0,
        size_global=count,
    )


def test_the_loss_is_what_it_says(trained: nn.Module, small_digits: ImageData) -> None:
    """Weighted sum of both cross-entropies and of the drift, which begins at nothing."""
    context = Context(trained, seed=0, device=CPU)
    method = hardening("universal", clean_weight=0.5, hard_weight=2.0, consistency=1.0)
    objective, batch = Inverted(method, context), batch_of(small_digits, 8)
    loss, scalars = objective(trained.eval(), batch)
    logits: Tensor = trained(torch.cat([batch.images, 1 - batch.images[:3]]))
    task = F.cross_entropy(logits[:8], batch.labels)
    hard = F.cross_entropy(logits[8:], batch.labels[:3])
    torch.testing.assert_close(loss, 0.5 * task + 2 * hard)
    assert float(scalars["drift"]) == pytest.approx(0, abs=1e-6)
    assert (scalars["hard_images"], objective.steps) == (3.0, 1)
    objective.count = 0
    torch.testing.assert_close(objective(trained, batch)[0], 0.5 * task)


def test_statistics_follow_clean_images_only(trained: nn.Module, small_digits: ImageData) -> None:
    """Under the default policy BatchNorm's averages are the same with and without hard images."""
    ends: list[Any] = []
    for count in (0, 3):
        context = Context(trained, seed=0, device=CPU)
        objective = Inverted(hardening("universal", batchnorm="clean-only"), context)
        objective.count = count
        model = context.copy_of_original()
        recipe = objective.method.recipe(0, 1, 40, 1e-12)
        context.fit("one step", model, objective, small_digits.sample(40, seed=0), recipe)
        ends.append(model[2].running_mean)
    torch.testing.assert_close(ends[0], ends[1])
    assert not torch.equal(ends[0], trained[2].running_mean)
