"""Neural attention distillation: a fine-tuned copy shows the model where to look.

>>> AttentionDistillation().betas, AttentionDistillation().teacher_epochs
((500.0, 1000.0, 1000.0), 10.0)
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.models import capture, site
from doorward.models.layers import positions, stages, trace
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.tuning import Count, NonNegative, Positive, TunedRemoval
from doorward.training.context import Context

__all__ = ["AttentionDistillation", "attention"]


@file_removal(
    "nad",
    paper="Li et al. 2021, Neural Attention Distillation: Erasing Backdoor Triggers",
    needs="feature maps (N, C, H, W) or tokens (N, T, C) of more than one position",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttentionDistillation(TunedRemoval):
    """Fine-tune while the attention maps of the stages follow those of a fine-tuned copy (NAD).

    Args:
        teacher_epochs: of fine-tuning the copy.
        teacher_lr: at that constant rate.
        betas: weights of the maps' distances, from shallow to deep; with fewer maps, the last.
        power: p of the maps, ``mean over channels of |activation|^p``.
        sites: dotted names of the layers whose maps are compared, shallow to deep, as many as
            `betas` or fewer; None for the last site of each of the deepest resolutions.
        drop: after this share of the run the learning rate is a tenth (``schedule="drop"`` of the
            authors, who fall from 0.1 to 0.01 after 2 of 20 epochs); 1 to keep it.

    All other fields are those of `TunedRemoval`. Constants of the authors' code and of
    BackdoorBench (betas); `drop` acts with ``schedule="constant"`` only. The rate is that of wide
    networks on CIFAR-10; our narrow test networks lose their accuracy at it and keep it at 0.02.
    """

    lr: Positive = 0.1
    batch_size: Count = 64
    nesterov: bool = True
    weight_decay: NonNegative = 1e-4
    teacher_epochs: Positive = 10.0
    teacher_lr: Positive = 0.01
    betas: Annotated[tuple[NonNegative, ...], Field(min_length=1)] = (500.0, 1000.0, 1000.0)
    power: Positive = 2.0
    sites: tuple[str, ...] | None = None
    drop: Annotated[float, Field(gt=0, le=1)] = 0.1

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """The sites must exist."""
        if self.sites is not None:
            if not 1 <= len(self.sites) <= len(self.betas):
                raise InvalidInput(
                    f"{len(self.sites)} sites for {len(self.betas)} betas",
                    remedy="give as many betas as sites",
                )
            for name in self.sites:
                site(model, name)

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Fine-tune the teacher, then distil."""
        images = clean.pixels([0]).to(context.device)
        sites = list(self.sites or stages(model, images, len(self.betas)))
        _require_maps(model, images, sites)
        teacher = context.copy_of_original()
        recipe = self.recipe(
            context.seed_of("teacher"),
            epochs=self.teacher_epochs,
            lr=self.teacher_lr,
            schedule="constant",
        )
        context.fit("teacher", teacher, None, clean, recipe)
        teacher.requires_grad_(False)
        objective = _Distil(teacher, sites, self.betas[-len(sites) :], self.power)
        changes: dict[str, object] = {}
        if self.schedule == "constant" and self.drop < 1:
            changes = {"schedule": "step", "milestones": (self.drop,), "gamma": 0.1}
        recipe = self.recipe(context.seed_of("distil"), **changes)
        context.fit("distil", model, objective, clean, recipe)
        context.note(sites=sites, betas=list(objective.betas))
        return model


class _Distil:
    def __init__(
        self, teacher: nn.Module, sites: list[str], betas: tuple[float, ...], power: float
    ) -> None:
        self.teacher, self.sites, self.betas, self.power = teacher, sites, betas, power

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        with torch.no_grad(), capture(self.teacher, self.sites) as shown:
            self.teacher(batch.images)
        with capture(model, self.sites) as own:
            logits = model(batch.images).float()
        task = F.cross_entropy(logits, batch.labels)
        distances = [
            F.mse_loss(attention(own[name], self.power), attention(shown[name], self.power))
            for name in self.sites
        ]
        total = task
        for beta, distance in zip(self.betas, distances, strict=True):
            total = total + beta * distance
        accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
        attention_loss = (total - task).detach()
        return total, {"accuracy": accuracy, "task": task.detach(), "attention": attention_loss}


def attention(maps: Tensor, power: float = 2.0) -> Tensor:
    """Attention map of activations, as a unit vector per image.

    Args:
        maps: (N, C, H, W), or tokens (N, T, C).
        power: p in ``mean over channels of |activation|^p``.

    Returns:
        (N, H * W) or (N, T), float32, rows of L2 norm 1.

    >>> attention(torch.tensor([[[[3.0, 0.0]], [[0.0, 0.0]]]])).tolist()
    [[1.0, 0.0]]
    """
    channels = 1 if maps.ndim == 4 else 2
    strength = maps.float().abs().pow(power).mean(channels)
    return F.normalize(strength.flatten(1), dim=1)


def _require_maps(model: nn.Module, images: Tensor, sites: list[str]) -> None:
    shapes = {call.name: positions(call.output) for call in trace(model, images)}
    fitting = [name for name, shape in shapes.items() if shape is not None]
    for name in sites:
        if shapes.get(name) is None:
            raise ModelUnsuitable(
                f"the site {name!r} makes no feature maps",
                why="outputs (N, C, H, W) or (N, T, C) of more than one position are needed",
                remedy=f"name one of {', '.join(fitting) or 'no site of this model'}",
            )
