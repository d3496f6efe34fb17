"""Fine-pruning: drop the features that clean images leave dormant, then fine-tune.

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(32, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> pruned, result = FinePruning(share=0.5, epochs=1)(model, digits)
>>> int((pruned.head.weight == 0).all(0).sum()), result.details["channels"]
(8, 16)
"""

from __future__ import annotations

from typing import Annotated, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from doorward.data import ImageData
from doorward.errors import ModelUnsuitable
from doorward.models import capture, evaluating, features, find_head, site
from doorward.models.layers import followers
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.choosing import strongest
from doorward.removal.tuning import (
    NonNegative,
    Probability,
    Projected,
    Share,
    TunedRemoval,
    holding,
)
from doorward.training.context import Context

__all__ = ["FinePruning"]

_CHUNK = 256
_PRUNABLE = (nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm, nn.Linear)
Kept = list[tuple[nn.Parameter, Tensor]]


@file_removal(
    "fine-pruning",
    paper="Liu et al. 2018, Fine-Pruning: Defending Against Backdooring Attacks",
    needs="a linear head, or a named convolution or BatchNorm layer",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class FinePruning(TunedRemoval):
    """Prune the channels that are least active on clean images, then fine-tune without them.

    Args:
        layer: whose channels are pruned: a convolution, a BatchNorm or a linear layer by its
            dotted name. None for what the head sees, which in networks with global pooling are
            the channels of the last block; their columns of the head's weight are then zeroed.
        share: of the channels to prune; None to prune in steps of 1 % for as long as the accuracy
            on held-out clean images falls by no more than `budget`.
        budget: that fall, before fine-tuning, in [0, 1].
        held_out: share of the clean images that is held out to measure it (only without `share`).
        epochs: of fine-tuning, with pruned channels kept at zero; 0 for none.

    All other fields are those of `TunedRemoval`. A channel's activity is the mean magnitude of its
    outputs, after ReLU for a named layer. As in BackdoorBench, the budget is 10 points and pruning
    stops at the first step past it; unlike there, it is measured on images held out for it.
    """

    layer: str | None = None
    share: Share | None = None
    budget: Probability = 0.1
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    epochs: NonNegative = 20.0

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """The head or the named layer must be there."""
        _find(model, self.layer)

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Prune, then fine-tune."""
        images = clean.pixels([0]).to(context.device)
        work, held = (
            context.hold_out(clean, self.held_out) if self.share is None else (clean, clean)
        )
        activity = _activity(model, work, self.layer, context.device)
        order = activity.argsort(stable=True)
        targets = _targets(model, self.layer, images)

        def prune(share: float) -> Kept:
            dormant = order[: round(share * len(order))]
            kept = [(parameter, _mask(parameter, dormant, dim)) for parameter, dim in targets]
            holding(kept)()
            return kept

        share = self.share
        if share is None:
            steps = [step / 100 for step in range(1, 100)]
            choice = strongest(model, held, steps, prune, budget=self.budget)
            share = choice.strength or 0.0
            context.note(**choice.to_dict())
        kept = prune(share)
        if self.epochs:
            recipe = self.recipe(context.seed_of("fine-tune"))
            context.fit("fine-tune", model, Projected(holding(kept)), work, recipe)
            holding(kept)()
        pruned = round(share * len(order))
        context.note(channels=len(order), pruned=pruned, pruned_share=pruned / len(order))
        return model


def _find(model: nn.Module, layer: str | None) -> nn.Module:
    if layer is None:
        return find_head(model)[1]
    module = site(model, layer)
    if not isinstance(module, _PRUNABLE) or module.weight is None:
        fitting = [name for name, other in model.named_modules() if isinstance(other, _PRUNABLE)]
        raise ModelUnsuitable(
            f"the channels of {layer!r} cannot be pruned",
            why=f"it is a {type(module).__name__}",
            remedy=f"name one of {', '.join(fitting) or 'no layer of this model'}",
        )
    return module


def _targets(model: nn.Module, layer: str | None, images: Tensor) -> list[tuple[nn.Parameter, int]]:
    """Parameters to zero, and along which dimension their channels lie."""
    if layer is None:
        return [(cast(nn.Parameter, find_head(model, images=images)[1].weight), 1)]
    modules = [site(model, layer)]
    if layer in (pairs := followers(model, images)):  # or its BatchNorm would bring a constant back
        modules.append(site(model, pairs[layer]))
    found = [getattr(module, name, None) for module in modules for name in ("weight", "bias")]
    return [(parameter, 0) for parameter in found if isinstance(parameter, nn.Parameter)]


@torch.no_grad()
def _activity(
    model: nn.Module, clean: ImageData, layer: str | None, device: torch.device
) -> Tensor:
    """Mean magnitude of every channel over the clean images, (channels,), on the CPU."""
    total, seen = torch.zeros(()), 0
    with evaluating(model):
        for rows in torch.split(torch.arange(len(clean)), _CHUNK):
            outputs = _outputs(model, clean.pixels(rows).to(device), layer)
            if outputs.ndim == 4:
                outputs = outputs.mean((2, 3))
            total = total + outputs.flatten(0, -2).sum(0).double().cpu()
            seen += outputs.flatten(0, -2).shape[0]
    return total / seen


def _outputs(model: nn.Module, images: Tensor, layer: str | None) -> Tensor:
    if layer is None:
        return features(model, images).abs()
    name = followers(model, images[:1]).get(layer, layer)
    with capture(model, [name]) as outputs:
        model(images)
    return outputs[name].relu()


def _mask(parameter: nn.Parameter, dormant: Tensor, dim: int) -> Tensor:
    mask = torch.ones_like(parameter)
    return mask.index_fill_(dim, dormant.to(mask.device), 0.0)
