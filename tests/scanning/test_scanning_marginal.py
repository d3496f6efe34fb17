"""MM-BD against linear models, whose largest margins are known, and its law by hand."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from doorward.data import ImageData, load
from doorward.errors import InvalidInput
from doorward.models import create
from doorward.randomness import generator
from doorward.scanning import MaximumMargin, scan
from doorward.scanning.marginal import LARGEST, margins, order_statistics


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits").sample(6, seed=0).resized(16)


class Blocks(nn.Module):
    """Logit k is `strength[k]` times the mean of the k-th tenth of the pixels."""

    def __init__(self, strengths: list[float]) -> None:
        super().__init__()
        self.head = nn.Linear(256, 10, bias=False)
        with torch.no_grad():
            self.head.weight.zero_()
            for k, strength in enumerate(strengths):
                self.head.weight[k, 25 * k : 25 * (k + 1)] = strength / 25

    def forward(self, images: Tensor) -> Tensor:
        answers: Tensor = self.head(images.flatten(1))
        return answers


def test_the_largest_margin_of_a_linear_model(digits: ImageData) -> None:
    """White where the class looks, black elsewhere: the margin is the class's strength."""
    strengths = [1.0, 2.0, 1.5, 40.0, 1.0, 1.2, 0.8, 1.1, 1.3, 0.9]
    method = MaximumMargin(images=2, steps=150, lr=5.0)
    result, recovered = scan(Blocks(strengths), digits, method)
    found = [finding.details["margin"] for finding in result.findings]
    assert found == pytest.approx(strengths, rel=1e-3)
    assert (result.accused, recovered) == ([3], {})
    assert result.details["p_value"] == pytest.approx(10 ** -result.finding(3).statistic)
    assert all(finding.details["steps"] < 150 for finding in result.findings)


def test_a_step_by_hand(digits: ImageData) -> None:
    """One step of 0.5 on ``sum of margins`` from known images: momentum has no part yet."""
    method = MaximumMargin(images=1, steps=1, lr=0.5)
    strengths = [float(k + 1) for k in range(10)]
    result, _ = scan(Blocks(strengths), digits, method, seed=7)
    start = torch.rand((10, 1, 16, 16), generator=generator(7, "scanning", "probes"))
    start.requires_grad_(True)
    margins(Blocks(strengths)(start), torch.arange(10)).sum().backward()
    end = (start + 0.5 * start.grad).detach().clamp(0, 1)
    expected = margins(Blocks(strengths)(end), torch.arange(10)).detach()
    found = [finding.details["margin"] for finding in result.findings]
    assert found == pytest.approx(expected.tolist(), rel=1e-5)


def test_equal_classes_accuse_nobody(digits: ImageData) -> None:
    result, _ = scan(Blocks([2.0] * 10), digits, MaximumMargin(images=2, steps=100, lr=5.0))
    assert result.accused == []


def test_the_law_by_hand() -> None:
    values = [4.0, 6.0, 5.0, 7.0, 3.0, 12.0]
    shape, _, scale = stats.gamma.fit(values[:5], floc=0)
    p = 1 - stats.gamma.cdf(12.0, shape, scale=scale) ** 6
    assert order_statistics(values)[5] == pytest.approx(-math.log10(p), rel=1e-4)
    assert order_statistics([*values[:5], 1e9])[5] == LARGEST


@settings(max_examples=40)
@given(st.lists(st.floats(-10, 1000), min_size=4, max_size=12))
def test_statistics_are_finite_and_ordered(values: list[float]) -> None:
    found = order_statistics(values)
    assert all(0 <= value <= LARGEST for value in found)
    assert max(found) == pytest.approx(found[values.index(max(values))])


def test_a_class_that_alone_ever_wins() -> None:
    assert order_statistics([0.0, -1.0, -2.0, 5.0]) == [0.0, 0.0, 0.0, LARGEST]


def test_few_classes_are_refused(digits: ImageData) -> None:
    three = create("resnet8", classes=3, input_shape=(1, 16, 16), width=4)
    with pytest.raises(InvalidInput, match="3 classes are too few"):
        scan(three, digits, "mm-bd", labels="model")
