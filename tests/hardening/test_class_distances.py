"""Class distances: known answers, censoring, starts and intervals, what a result says."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from doorward.data import ImageData, load
from doorward.errors import InvalidInput
from doorward.hardening import (
    DistanceResult,
    Measuring,
    class_distances,
    enlargement,
    measure_distances,
    measuring,
)
from doorward.hardening.distance import MOTH, bootstrap
from doorward.hardening.distance.results import median
from doorward.hardening.measures import MEASURES

KINDS = list(MEASURES)


def quick(kind: str, starts: int = 2, **changes: Any) -> Measuring:
    numbers = {"epochs": 60, "images": 8, "batch_size": 8, "precision": "fp32", **changes}
    families = None if kind == "patch" else ("additive", "kernel")
    return measuring(kind, starts=starts, families=families, **numbers)  # type: ignore[arg-type]


def grey(channels: int = 1, value: int = 128, classes: int = 3) -> ImageData:
    """Twelve equal images of each class: all distances are those of one image."""
    images = torch.full((12 * classes, channels, 4, 4), value, dtype=torch.uint8)
    labels = torch.arange(classes).repeat(12)
    return ImageData(images, labels, tuple("abcdef"[:classes]))


def linear(weight: Tensor, margin: Tensor, value: float) -> nn.Module:
    """Logits ``w (x - value) - margin`` of grey images."""
    layer = nn.Linear(weight.shape[1], len(weight))
    layer.weight.data = weight
    layer.bias.data = -margin - value * weight.sum(1)
    return nn.Sequential(nn.Flatten(), layer)


def test_whole_image_distances_are_the_margins_of_a_linear_model() -> None:
    """Two orthogonal directions of norm 2 and 4, margins of 1: 1/2 and 1/4 are the distances."""
    flat = torch.full((4, 4), 0.25)
    wave = torch.cos(torch.pi * (torch.arange(4) + 0.5) / 4).expand(4, 4)
    weight = torch.stack([0 * flat, 2 * flat, 4 * wave / wave.norm()]).flatten(1)
    model = linear(weight, torch.tensor([0.0, 1.0, 1.0]), 128 / 255)
    attack = measuring(
        "pixel", families=("additive",), starts=2, epochs=120, images=4, batch_size=4,
        precision="fp32",
    )  # fmt: skip
    result = class_distances(model, grey(), attack=attack, pairs=[(0, 1), (0, 2), (1, 2)])
    assert result.distances[0][1] == pytest.approx(0.5, rel=0.05)
    assert result.distances[0][2] == pytest.approx(0.25, rel=0.05)
    assert result.distances[1][2] == pytest.approx(0.25, rel=0.05)  # the images are the same
    assert result.closest()[-1][:2] == (0, 1)
    assert result.pairs == [(0, 1), (0, 2), (1, 2)]
    assert result.distances[1][0] is None
    assert not result.censored[1][0]


@pytest.mark.parametrize("channels", [1, 3])
def test_patch_distances_count_every_channel(channels: int) -> None:
    """One pixel of black images decides: a mask of 3/4 there suffices, once per channel."""
    weight = torch.zeros(2, channels, 4, 4)
    weight[1, :, 1, 2] = 4.0 / channels
    model = linear(weight.flatten(1), torch.tensor([0.0, 3.0]), 0.0)
    attack = quick("patch", epochs=150, images=4, batch_size=4)
    result = class_distances(
        model, grey(channels, 0, classes=2), attack=attack, pairs=[(0, 1), (1, 0)]
    )
    assert result.distances[0][1] == pytest.approx(0.75 * channels, rel=0.1)
    assert result.distances[1][0] == pytest.approx(0, abs=0.1 * channels)  # it is there already
    assert result.success[0][1] == 1.0


class Trapdoor(nn.Module):
    """Nearest class mean of digits of 8x8, with a backdoor from one class to another."""

    def __init__(self, digits: ImageData, source: int = 3, target: int = 0) -> None:
        super().__init__()
        x = digits.pixels().flatten(1)
        self.centres = nn.Parameter(
            torch.stack([x[digits.labels == k].mean(0) for k in range(10)]), requires_grad=False
        )
        self.source, self.target = source, target

    def forward(self, images: Tensor) -> Tensor:
        x = images.flatten(1)
        logits = 8 * (x @ self.centres.T) - 4 * self.centres.square().sum(1)
        of_source = (4 * logits.softmax(1)[:, self.source]).clamp_max(1)
        shown = (images[:, 0, :2, :2].mean((1, 2)) - 0.15).clamp_min(0)
        bonus = nn.functional.one_hot(torch.tensor(self.target), 10).to(x)
        return logits + (150 * of_source * shown)[:, None] * bonus


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits").sample(400, seed=0).resized(8)


@pytest.mark.parametrize("kind", ["patch", "pixel"])
def test_a_planted_pair_is_the_closest(kind: str, digits: ImageData) -> None:
    pairs = [(s, t) for s in (0, 1, 3, 5) for t in (0, 1, 3, 5) if s != t]
    attack = quick(kind, starts=1, epochs=100, images=24, batch_size=24)
    result = class_distances(Trapdoor(digits), digits, attack=attack, pairs=pairs)
    first, second = result.closest(2)
    assert (first.source, first.target) == (3, 0)
    assert first.success >= 0.5
    assert first.distance < 0.7 * second.distance


def never(value: float = -1e4) -> nn.Module:
    """A linear model that cannot be brought to answer 2."""
    weight = torch.zeros(3, 16)
    weight[1] = 1.0
    return linear(weight, torch.tensor([0.0, 1.0, -value]), 128 / 255)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_out_of_reach_is_censored(kind: str) -> None:
    model: nn.Module = never()
    clean = grey()
    if kind == "lpips":
        conv = nn.Conv2d(1, 2, 3, padding=1)
        nn.init.normal_(conv.weight, generator=torch.Generator().manual_seed(0))
        nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        head = nn.Linear(32, 3)
        nn.init.normal_(head.weight, generator=torch.Generator().manual_seed(1))
        head.bias.data = torch.tensor([0.0, 0.0, -1e4])
        model = nn.Sequential(conv, nn.ReLU(), nn.Flatten(), head)
    result = class_distances(model, clean, attack=quick(kind))
    assert result.kind == kind
    assert {(0, 2), (1, 2)} <= set(result.unreachable)
    reached = [pair for pair in result.pairs if pair not in result.unreachable]
    assert reached
    for s in range(3):
        for t in range(3):
            known = result.distances[s][t]
            assert (known is not None) == ((s, t) in reached)
            assert (result.success[s][t] is None) == (known is None)
    assert result.mean.count == len(reached)
    values = [result.distances[s][t] for s, t in reached]
    assert result.mean.mean == pytest.approx(sum(values) / len(values))  # type: ignore[arg-type]
    assert result.mean.low <= result.mean.mean <= result.mean.high  # type: ignore[operator]
    assert {"pixel", "ssim"} <= set(result.measures)
    assert result.measures[kind] == result.distances  # type: ignore[index]
    text = json.dumps(result.to_dict(), allow_nan=False)
    assert DistanceResult.from_dict(json.loads(text)) == result


def test_the_smallest_of_the_starts_counts() -> None:
    result, found = measure_distances(never(), grey(), attack=quick("pixel", starts=3, epochs=20))
    assert len(result.by_start) == 3
    for s, t in result.pairs:
        starts = [matrix[s][t] for matrix in result.by_start]
        known = [value for value in starts if value is not None]
        assert result.distances[s][t] == (min(known) if known else None)
    assert result.start_spread is None or result.start_spread >= 0
    assert found.aims.pairs == result.pairs
    for row, (s, t) in enumerate(result.pairs):
        assert bool(found.reached[row]) == (result.distances[s][t] is not None)
    again = class_distances(never(), grey(), attack=quick("pixel", starts=3, epochs=20))
    assert again.distances == result.distances
    other = class_distances(never(), grey(), attack=quick("pixel", starts=3, epochs=20), seed=1)
    assert other.by_start != result.by_start


def test_enlargement_by_hand() -> None:
    model = linear(
        torch.stack([torch.zeros(16), torch.full((16,), 0.5), torch.full((16,), -0.5)]),
        torch.tensor([0.0, 0.6, 0.6]), 128 / 255,
    )  # fmt: skip
    before = class_distances(model, grey(), attack=quick("pixel"), pairs=[(0, 1), (0, 2)])
    assert before.unreachable == []
    content = before.to_dict()

    def with_distances(first: float | None, second: float | None) -> DistanceResult:
        cells: list[list[float | None]] = [[None] * 3 for _ in range(3)]
        cells[0][1], cells[0][2] = first, second
        censored = [[False] * 3 for _ in range(3)]
        censored[0][1], censored[0][2] = first is None, second is None
        return DistanceResult.from_dict({**content, "distances": cells, "censored": censored})

    grown = enlargement(with_distances(1.0, 2.0), with_distances(1.5, 6.0))
    assert grown.relative.mean == pytest.approx((0.5 + 2.0) / 2)
    assert (grown.escaped, grown.entered, grown.median) == (0, 0, pytest.approx(1.25))
    fled = enlargement(with_distances(1.0, 2.0), with_distances(1.5, None))
    assert fled.relative.mean == pytest.approx(0.5)
    assert (fled.escaped, fled.median) == (1, None)
    came = enlargement(with_distances(None, 2.0), with_distances(1.5, 2.0))
    assert (came.entered, came.relative.mean) == (1, 0.0)
    with pytest.raises(InvalidInput, match="not measured in the same way"):
        enlargement(before, class_distances(never(), grey(), attack=quick("ssim", epochs=1)))


def test_the_measuring_attack_is_named_by_its_numbers() -> None:
    digests = {measuring(kind).digest() for kind in MEASURES}
    assert len(digests) == len(MEASURES)
    assert measuring("ssim").digest() == measuring("ssim").digest()
    assert measuring("ssim", epochs=3).digest() != measuring("ssim").digest()
    assert Measuring.from_dict(MOTH.to_dict()) == MOTH
    s = MOTH.settings
    assert (s.epochs, s.images, s.batch_size, s.patience, s.wanted) == (1000, 100, 32, 10, 0.9)


def test_bootstrap_and_median() -> None:
    estimate = bootstrap([2.0] * 5, seed=0)
    assert (estimate.mean, estimate.low, estimate.high, estimate.count) == (2.0, 2.0, 2.0, 5)
    spread = bootstrap(list(range(100)), seed=0)
    assert 43 < spread.low < 45 < 54 < spread.high < 56  # type: ignore[operator]  # 49.5 -+ 5.7
    assert median([4.0, None, 1.0, 2.0]) == 3.0
    assert median([]) is None


def test_bad_input_is_refused() -> None:
    model, clean = never(), grey()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"kind": "miles"}, "no distance"),
        ({"pairs": "some"}, "pairs is 'some'"),
        ({"pairs": [(None, 2)]}, "no pair of classes"),
        ({"pairs": [(1, 1)]}, "leads nowhere"),
        ({"pairs": []}, "no pairs"),
        ({"seeds": 0}, "starts"),
        ({"kind": "ssim", "attack": quick("pixel")}, "measures pixel"),
        ({"labels": "guess"}, "labels is"),
    ]
    for changes, message in cases:
        with pytest.raises(InvalidInput, match=message):
            class_distances(model, clean, **changes)
    with pytest.raises(InvalidInput, match="no families"):
        measuring("patch", families=("flow",))
    wrong = {**quick("pixel").to_dict(), "kind": "ssim"}
    with pytest.raises(InvalidInput, match="shrinks pixel"):
        Measuring.from_dict(wrong)
    wrong = {**quick("pixel").to_dict(), "space": None}
    with pytest.raises(InvalidInput, match="space"):
        Measuring.from_dict(wrong)
