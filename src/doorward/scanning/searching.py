"""Searching one trigger per class, all at once: what is minimised, and when a class is done.

A search by size is a model behind triggers (`Inverse`) and an objective (`Search`) that weighs each
trigger's size against its success, and keeps the smallest that succeeds::

    search = Smallest(SizeWeight(classes, device, patience=5, up=2.0, down=2.0**1.5), wanted=0.99)
    context.fit("invert", stamps, search, clean, recipe)

All classes share one forward pass through the frozen model; classes that are done leave it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch
from doorward.models.layers import Behind
from doorward.scanning.sizing import SizeWeight, smallness

__all__ = ["PASS_SIZE", "Inverse", "Search", "SizeWeight", "in_parts", "smallness"]

PASS_SIZE = 512
"""Images per pass through the classifier, unless a scanner says otherwise."""


class Inverse(Behind, ABC):
    """A frozen model behind one trainable trigger per class."""

    @abstractmethod
    def stamped(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """All images under the triggers of some classes.

        Args:
            images: (B, C, H, W) in [0, 1].
            rows: int64 (R,), classes; None for all.

        Returns:
            (R, B, C, H, W).
        """

    @abstractmethod
    def sizes(self) -> Tensor:
        """(K,): what is to become small."""


class Search(ABC):
    """Cross-entropy towards every class plus the weighted size of its trigger.

    Args:
        weight: of the sizes.
        wanted: share of images that counts as success.
        others_only: leave each class's own images out.
        pass_size: images per pass through the classifier.

    Attributes:
        success: (K,), share of the images that the kept trigger sent to its class.
        norms: (K,), its size; infinite for none.
    """

    def __init__(
        self,
        weight: SizeWeight,
        wanted: float,
        *,
        others_only: bool = False,
        pass_size: int = PASS_SIZE,
    ) -> None:
        self.weight, self.wanted, self.others_only = weight, wanted, others_only
        self.pass_size = pass_size
        self.epoch = 0
        cost = weight.cost
        self.rows = torch.arange(len(cost), device=cost.device)
        self.hits, self.shown = torch.zeros_like(cost), torch.zeros_like(cost)
        self.norms, self.success = torch.full_like(cost, torch.inf), torch.zeros_like(cost)

    @property
    def cost(self) -> Tensor:
        """(K,), the weights of the sizes."""
        return self.weight.cost

    @property
    def least(self) -> Tensor:
        """(K,): what has to shrink for a class to make progress."""
        return self.norms

    @abstractmethod
    def keep(self, model: nn.Module, success: Tensor, good: Tensor) -> None:
        """Keep successful triggers that are smaller than before, and their `norms`.

        Args:
            model: the `Inverse`; may be changed in place.
            success: (K,), of this epoch.
            good: bool (K,), whether that is enough; False for classes that are done.
        """

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Loss over all classes that are not done."""
        inverse = cast(Inverse, model)
        if batch.epoch > self.epoch:
            self.settle(inverse)
            self.epoch = batch.epoch
        if not len(self.rows):  # the loop goes on; its steps cost next to nothing
            trained = [p.sum() for p in model.parameters() if p.requires_grad]
            return 0 * torch.stack(trained).sum(), {"size": self.norms.min(), "searched": 0.0}
        stamped = inverse.stamped(batch.images, self.rows)
        classes, count = stamped.shape[:2]
        targets = self.rows[:, None].expand(-1, count)
        wanted = targets.flatten()
        losses, logits = in_parts(
            model,
            stamped.flatten(0, 1),
            lambda found, part: F.cross_entropy(found, wanted[part], reduction="none"),
            self.pass_size,
        )
        losses, logits = losses.view(classes, count), logits.view(classes, count, -1)
        counted = torch.ones_like(logits[..., 0])
        if self.others_only:
            counted = (batch.labels != targets).float()
        loss = (losses * counted).sum(1) / counted.sum(1).clamp_min(1)
        sizes = inverse.sizes()[self.rows]
        hits = ((logits.argmax(2) == targets) * counted).sum(1)
        self.hits.index_add_(0, self.rows, hits)
        self.shown.index_add_(0, self.rows, counted.sum(1))
        scalars: dict[str, Tensor | float] = {
            "size": sizes.detach().min(),
            "searched": float(classes),
        }
        return (loss + self.cost[self.rows] * sizes).sum(), scalars

    @torch.no_grad()
    def settle(self, model: nn.Module) -> None:
        """After an epoch: keep smaller triggers, adapt the weights, see which classes are done."""
        success = self.hits / self.shown.clamp_min(1)
        open_ = torch.zeros_like(self.weight.settled).index_fill_(0, self.rows, True)
        good = (success >= self.wanted) & open_
        self.keep(model, success, good)
        self.weight.update(good, self.least)
        self.rows = (~self.weight.settled).nonzero().squeeze(1)
        self.hits, self.shown = torch.zeros_like(self.hits), torch.zeros_like(self.hits)


def in_parts(
    model: nn.Module,
    images: Tensor,
    score: Callable[[Tensor, slice], Tensor],
    pass_size: int,
) -> tuple[Tensor, Tensor]:
    """Score images, with a gradient that reaches them, in passes of bounded memory.

    Args:
        model: frozen, in evaluation mode: no image's answer depends on another image.
        images: (N, C, H, W), with a history or without.
        score: from the logits (n, K) of a part of the images, and which part that is, to one
            number each, (n,).
        pass_size: images per pass; a single one keeps its activations until the backward pass.

    Returns:
        The numbers (N,), and the logits (N, K) without gradient.

    >>> images = torch.arange(4.0).view(4, 1, 1, 1).requires_grad_()
    >>> scores, _ = in_parts(nn.Flatten(), images, lambda logits, part: logits[:, 0] ** 2, 3)
    >>> scores.sum().backward(); scores.tolist(), images.grad.flatten().tolist()
    ([0.0, 1.0, 4.0, 9.0], [0.0, 2.0, 4.0, 6.0])
    """
    if len(images) <= pass_size:
        logits = model(images).float()
        return score(logits, slice(None)), logits.detach()
    found = []
    for start in range(0, len(images), pass_size):
        part = slice(start, start + pass_size)
        leaf = images[part].detach().requires_grad_(True)
        logits = model(leaf).float()
        scores = score(logits, part)
        (slope,) = torch.autograd.grad(scores.sum(), leaf)
        found.append((scores.detach(), logits.detach(), slope))
    values, answers, slopes = (torch.cat(parts) for parts in zip(*found, strict=True))
    pull = (images * slopes).flatten(1).sum(1)
    return values + pull - pull.detach(), answers
