"""Gradients that conflict, computed by hand; and how they reach the optimiser."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.trading.gradients import agreement, carried, pcgrad


def flat(*numbers: float) -> list[Tensor | None]:
    return [torch.tensor([float(number)]) for number in numbers]


def test_agreeing_gradients_are_only_added() -> None:
    total = pcgrad([flat(1, 2), flat(3, -1)])  # 3 - 2 > 0
    assert torch.cat(total).tolist() == [4, 1]


def test_conflicting_gradients_by_hand() -> None:
    # g1 = (3, 4), g2 = (-2, 0): g1.g2 = -6.
    # g1' = g1 + 6/4 g2 = (0, 4);  g2' = g2 + 6/25 g1 = (-2 + 0.72, 0.96)
    total = torch.cat(pcgrad([flat(3, 4), flat(-2, 0)]))
    torch.testing.assert_close(total, torch.tensor([-1.28, 4.96]))


def test_three_tasks_by_hand() -> None:
    # g1 = (1, 0), g2 = (-1, 1), g3 = (0, -1)
    # g1: off g2 (g1.g2 = -1, |g2|^2 = 2): (0.5, 0.5); off g3 (dot -0.5): (0.5, 0)
    # g2: off g1 (dot -1): (0, 1);        off g3 (dot -1): (0, 0)
    # g3: off g1 (dot 0): (0, -1);        off g2 (dot -1, |g2|^2 = 2): (-0.5, -0.5)
    total = torch.cat(pcgrad([flat(1, 0), flat(-1, 1), flat(0, -1)]))
    torch.testing.assert_close(total, torch.tensor([0.0, -0.5]))


def test_none_is_zero() -> None:
    assert pcgrad([[None], [None]]) == [None]
    # g2 = (1; -1, -1), g1 = (0; 1, 1): g1' = g1 + 2/3 g2, g2' = g2 + 2/2 g1
    by_hand = pcgrad([[None, torch.ones(2)], [torch.ones(1), -torch.ones(2)]])
    torch.testing.assert_close(by_hand[0], torch.tensor([1 + 2 / 3]))
    torch.testing.assert_close(by_hand[1], torch.full((2,), 1 / 3))


def test_refused() -> None:
    for wrong in ([], [flat(1), flat(1, 2)]):
        with pytest.raises(InvalidInput, match="one length"):
            pcgrad(wrong)


def test_agreement() -> None:
    assert float(agreement(flat(1, 0), flat(1, 1))) == pytest.approx(math.sqrt(0.5))
    assert float(agreement(flat(1, 0), flat(0, 0))) == 0


def test_carried_gradients_arrive_scaled_as_the_loss_is() -> None:
    weights = [torch.ones(2, requires_grad=True), torch.ones(1, requires_grad=True)]
    loss = carried(torch.tensor(5.0), weights, [torch.tensor([1.0, -1.0]), None])
    (loss * 3).backward()
    assert loss.item() == 5
    assert weights[0].grad is not None
    assert weights[0].grad.tolist() == [3, -3]
    assert weights[1].grad is None
