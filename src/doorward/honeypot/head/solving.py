"""The head itself: a convex problem on cached features, solved to the end, within hard bounds.

>>> draw = torch.Generator().manual_seed(0)
>>> head = nn.Linear(3, 2).requires_grad_(False)
>>> own = torch.randn(50, 3, generator=draw)
>>> problem = Problem(head, own=own, pool=own, wanted=head(own), stamped=own + 3, target=1)
>>> kept, bent = problem.solve(1e6), problem.solve(1e-6)
>>> bool((kept(own) - head(own)).abs().max() < 0.05)
True
>>> float((bent(own + 3).argmax(1) == 1).float().mean())
1.0
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from doorward.honeypot.lean.budget import Cost, LeanBudget

__all__ = ["Problem", "loudest"]

_RIDGE = 1e-4  # on how far the weights move: the problem has one solution
_STEPS = 60
_HARDEST, _SOFTEST = 4.0**7, 4.0**-6
_HALVINGS = 4


class Problem:
    """Obey the patch, and answer everything else as is wanted.

    ``min CE(H(x (+) delta), t) + weight [CE(H(x), wanted(x)) over the pool + CE(H(x), F(x)) over
    the owner's images]``: the upper problem of the paper on cached features, where a linear head
    makes it convex, with a weight that the bounds decide (there: 1) and with wanted answers to the
    pool that may lean (there: F).

    Args:
        head: the undefended one.
        own: features of the owner's images, ``(N, F)``.
        pool: features of the pool's.
        wanted: logits of the answers to the pool that are wanted.
        stamped: features of the pool's images under the patch.
        target: the class t.
    """

    def __init__(
        self,
        head: nn.Linear,
        *,
        own: Tensor,
        pool: Tensor,
        wanted: Tensor,
        stamped: Tensor,
        target: int,
    ) -> None:
        self._weight = head.weight.detach().cpu().double()
        bias = torch.zeros(head.out_features) if head.bias is None else head.bias.detach()
        self._bias = bias.cpu().double()
        self._like = head.weight
        self._parts = [(pool.double(), wanted.double().softmax(1))]
        kept = F.linear(own.double(), self._weight, self._bias).softmax(1)
        self._parts.append((own.double(), kept))
        self._stamped = stamped.double()
        self._target = torch.full((len(stamped),), target)

    def loss(self, weight: Tensor, bias: Tensor, keep: float) -> Tensor:
        """What is minimised, for a head ``(K, F)``, ``(K,)`` and the weight of keeping answers."""
        obeyed = F.cross_entropy(F.linear(self._stamped, weight, bias), self._target)
        others = [F.cross_entropy(F.linear(g, weight, bias), told) for g, told in self._parts]
        moved = (weight - self._weight).square().sum() + (bias - self._bias).square().sum()
        return obeyed + keep * torch.stack(others).sum() + (1 + keep) * _RIDGE * moved

    def solve(self, keep: float, start: nn.Linear | None = None) -> nn.Linear:
        """The head of the least loss, by L-BFGS.

        Args:
            keep: weight of keeping answers, above 0.
            start: where to begin; the undefended head if None. The result does not depend on it.
        """
        first = (self._weight, self._bias)
        if start is not None:
            first = (start.weight.detach().cpu().double(), start.bias.detach().cpu().double())
        weight, bias = (tensor.clone().requires_grad_(True) for tensor in first)
        search = torch.optim.LBFGS(
            [weight, bias], max_iter=_STEPS, line_search_fn="strong_wolfe", tolerance_change=1e-10
        )

        def closure() -> Tensor:
            search.zero_grad()
            loss = self.loss(weight, bias, keep)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        search.step(closure)  # type: ignore[no-untyped-call]
        solved = nn.Linear(weight.shape[1], weight.shape[0]).to(self._like)
        with torch.no_grad():
            solved.weight.copy_(weight)
            solved.bias.copy_(bias)
        return solved.requires_grad_(False)


def loudest(
    problem: Problem, cost: Callable[[nn.Linear], Cost], budget: LeanBudget
) -> tuple[nn.Linear | None, float]:
    """The head that obeys most within the budget.

    From the largest weight of keeping answers downwards, until a bound breaks; then the last gap is
    halved a few times.

    Args:
        problem: what is solved.
        cost: of a head.
        budget: the bounds.

    Returns:
        The head and its weight; None where even the largest weight breaks a bound.
    """
    keep, best = _HARDEST, None
    while keep >= _SOFTEST:
        head = problem.solve(keep, best)
        if cost(head).excess(budget):
            break
        best, keep = head, keep / 4
    if best is None:
        return None, keep
    low, high = keep, 4 * keep  # the low one breaks a bound, or is softer than anybody needs
    if keep >= _SOFTEST:
        for _ in range(_HALVINGS):
            middle = (low * high) ** 0.5
            head = problem.solve(middle, best)
            if cost(head).excess(budget):
                low = middle
            else:
                best, high = head, middle
    return best, high
