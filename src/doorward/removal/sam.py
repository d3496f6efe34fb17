"""Fine-tuning with sharpness-aware minimisation: leave the narrow valley that holds the backdoor.

>>> SharpnessAware().rho, SharpnessAware().label_smoothing
(2.0, 0.1)
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from doorward.data import Batch, ImageData
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.tuning import Count, NonNegative, Positive, Share, TunedRemoval
from doorward.training.context import Context

__all__ = ["SharpnessAware", "ascent"]


@file_removal(
    "ft-sam",
    paper="Zhu et al. 2023, Enhancing Fine-Tuning Based Backdoor Defense with SAM",
    needs="nothing beyond trainable weights",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class SharpnessAware(TunedRemoval):
    """Fine-tune on the loss at the worst point near the weights (FT-SAM).

    Each step goes `rho` up the loss from the weights w, and descends from w by the gradient found
    there. Adaptive neighbourhoods are measured in units of each weight's magnitude.

    Args:
        rho: radius.
        adaptive: neighbourhoods scaled by ``|w|`` (Kwon et al. 2021), as in the paper.
        label_smoothing: of the clean labels.

    All other fields are those of `TunedRemoval`. The constants are those of BackdoorBench for
    CIFAR-10 (5 % of the training data, 100 epochs, cosine schedule); the second pass of a step
    leaves the running statistics of BatchNorm alone.
    """

    epochs: NonNegative = 100.0
    batch_size: Count = 256
    lr: Positive = 0.01
    schedule: Literal["constant", "onecycle", "cosine", "refit"] = "cosine"
    rho: NonNegative = 2.0
    adaptive: bool = True
    label_smoothing: Share = 0.1

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Fine-tune."""
        recipe = self.recipe(context.seed_of("fine-tune"))
        context.fit("fine-tune", model, _Worst(self), clean, recipe)
        return model


class _Worst:
    def __init__(self, method: SharpnessAware) -> None:
        self.method = method

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        smoothing = self.method.label_smoothing
        weights = {n: p for n, p in model.named_parameters() if p.requires_grad}
        logits = model(batch.images).float()
        calm = F.cross_entropy(logits, batch.labels, label_smoothing=smoothing)
        slopes = torch.autograd.grad(calm, list(weights.values()), allow_unused=True)
        moves = ascent(
            list(weights.values()), slopes, self.method.rho, adaptive=self.method.adaptive
        )
        # The moves are constants, so the gradient of this loss is the one at the moved weights.
        moved = {name: p + move for (name, p), move in zip(weights.items(), moves, strict=True)}
        scratch = {name: buffer.clone() for name, buffer in _statistics(model).items()}
        worst = F.cross_entropy(
            functional_call(model, moved | scratch, (batch.images,)).float(),
            batch.labels,
            label_smoothing=smoothing,
        )
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        return worst, {"accuracy": accuracy, "calm": calm.detach()}


@torch.no_grad()
def ascent(
    weights: list[nn.Parameter],
    slopes: tuple[Tensor | None, ...],
    rho: float,
    *,
    adaptive: bool,
) -> list[Tensor]:
    """Moves of length `rho`, all weights together, that raise the loss most.

    Args:
        weights: of any shapes.
        slopes: gradients of the loss there; None for weights it does not depend on.
        rho: length; with `adaptive` that of the moves divided by the weights, elementwise.
        adaptive: whether lengths are measured that way.

    >>> weight, slope = nn.Parameter(torch.tensor([1.0, -2.0])), torch.tensor([4.0, 1.5])
    >>> ascent([weight], (slope,), 5.0, adaptive=True)[0].tolist()
    [4.0, 6.0]
    """
    factors = [w.abs() if adaptive else torch.ones_like(w) for w in weights]
    units = [
        torch.zeros_like(factor) if slope is None else factor * slope
        for factor, slope in zip(factors, slopes, strict=True)
    ]
    scale = rho / (torch.stack([unit.norm() for unit in units]).norm() + 1e-12)
    return [factor * unit * scale for factor, unit in zip(factors, units, strict=True)]


def _statistics(model: nn.Module) -> dict[str, Tensor]:
    """Running statistics of all BatchNorm layers, by name."""
    return {
        f"{name}.{part}": buffer
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm)
        for part, buffer in module.named_buffers(recurse=False)
    }
