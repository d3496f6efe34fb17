"""Magnitude pruning: set the smallest weights to zero, and train the rest a little if wanted.

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(32, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> pruned, result = MagnitudePruning(share=0.75, scope="layer")(model, digits)
>>> int((pruned.head.weight == 0).sum()), pruned.head.weight.numel()
(120, 160)
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from doorward.data import ImageData
from doorward.models.layers import none_found
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.tuning import NonNegative, Projected, Share, TunedRemoval, holding
from doorward.training.context import Context

__all__ = ["MagnitudePruning", "weights_of"]


@file_removal(
    "magnitude-pruning",
    paper="Han et al. 2015, Learning both Weights and Connections",
    needs="convolutions or linear layers",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class MagnitudePruning(TunedRemoval):
    """Zero the share of convolution and linear weights that are smallest in magnitude.

    Args:
        share: of the weights to zero, in [0, 1); exactly ``round(share * weights)`` are.
        scope: ``"global"`` ranks all weights together, ``"layer"`` prunes every layer by `share`.
        epochs: of fine-tuning afterwards, with pruned weights kept at zero; 0 for none.

    All other fields are those of `TunedRemoval`. Biases and normalisation are not pruned.
    """

    share: Share = 0.5
    scope: Literal["global", "layer"] = "global"
    epochs: NonNegative = 0.0

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """There must be something to prune."""
        weights_of(model)

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Prune, then fine-tune."""
        weights = weights_of(model)
        if self.scope == "global":
            joined = torch.cat([weight.detach().flatten() for weight in weights.values()])
            sizes = [weight.numel() for weight in weights.values()]
            pieces = torch.split(keep_largest(joined, self.share), sizes)
            masks = [m.view_as(w) for m, w in zip(pieces, weights.values(), strict=True)]
        else:
            masks = [keep_largest(weight.detach(), self.share) for weight in weights.values()]
        kept = list(zip(weights.values(), masks, strict=True))
        project = holding(kept)
        project()
        if self.epochs:
            recipe = self.recipe(context.seed_of("fine-tune"))
            context.fit("fine-tune", model, Projected(project), clean, recipe)
            project()
        pruned, total = sum(int((m == 0).sum()) for m in masks), sum(m.numel() for m in masks)
        context.note(pruned=pruned, weights=total, pruned_share=pruned / total)
        return model


def weights_of(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of all convolutions and linear layers by dotted name, each once.

    Raises:
        ModelUnsuitable: there are none; the message lists what kinds of layers exist.
    """
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        weight = module.weight if isinstance(module, (_ConvNd, nn.Linear)) else None
        known = any(weight is other for other in found.values())
        if isinstance(weight, nn.Parameter) and weight.is_floating_point() and not known:
            found[f"{name}.weight" if name else "weight"] = weight
    if not found:
        raise none_found(model, "weights to prune", "convolutions and linear layers")
    return found


def keep_largest(weight: Tensor, share: float) -> Tensor:
    """A mask of the weight's shape and dtype: 0 for the smallest ``round(share * n)``, else 1.

    >>> keep_largest(torch.tensor([3.0, -1.0, 0.5, -4.0]), 0.5)
    tensor([1., 0., 0., 1.])
    """
    flat = weight.abs().flatten()
    mask = torch.ones_like(flat)
    # A stable sort, not a threshold: ties must not change how many are pruned.
    mask[flat.argsort(stable=True)[: round(share * flat.numel())]] = 0
    return mask.view_as(weight)
