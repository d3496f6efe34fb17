"""BAN: noise on a model's neurons that is meant to harm it sends images to the attacked class.

    result, _ = scan(model, clean, "ban")            # needs a model with BatchNorm
    result.findings[3].statistic                     # how clearly other classes' images went to 3

>>> NeuronNoise().bound, NeuronNoise().steps
(0.3, 30)
"""

from __future__ import annotations

import math
from typing import Annotated, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.models import find_head
from doorward.models.layers import Behind, head_view, none_found
from doorward.records import STRICT
from doorward.scanning.base import Finding, Look, Scanner, file_scanner
from doorward.scanning.marginal import margins
from doorward.scanning.measuring import require_several_classes
from doorward.scanning.noisynorms import NoisyNorms, norms_of
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["NeuronNoise"]


@file_scanner(
    "ban",
    paper="Xu et al. 2024, BAN: Detecting Backdoors Activated by Adversarial Neuron Noise",
    finds="attacked classes near to all others for small changes of BatchNorm",
    images="some hundreds",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class NeuronNoise(Scanner):
    """Change BatchNorm's scales and shifts a little, against the model, and see where images go.

    First a mask over the features is learned, which keeps what the classes need and leaves the
    rest; then noise on all scales and shifts, each a share of the value itself, which harms the
    answers most. A class to which the noisy model sends images of other classes by the features
    outside the mask is suspicious. Its statistic is the margin by which it wins there, on average
    over those images, in units of the margin with which the model answers clean images.

    Args:
        alarm: statistic above which a class is accused; 1 says that images go there as clearly as
            they otherwise go where they belong.
        bound: largest change of a scale or shift, as a share of it.
        steps: sign-gradient steps of ``bound / steps``, from noise drawn within the bound.
        batch_size: images per step.
        mask_steps: steps for the mask.
        mask_lr: of Adam for it.
        mask_weight: of the mask's L1 norm, relative to itself.
        held_out: share of the clean images that only serve to see where images go.

    Xu et al. (2024), constants of the authors' README (20 epochs of 20 batches for the mask). Ours,
    where their code differs from the paper or depends on the order of batches: noise stays within
    the bound, it is computed over all batches (there anew for each, so that the last one's is
    used), and BatchNorm keeps its stored statistics. Features are what the head sees (there the
    maps before pooling), so that it works with any head. The paper counts the images that go to a
    class; what the mask leaves, a clean model sends to one class, too, but not clearly (our trial:
    0.1 on a clean network, 4.8 on its attacked twin), so margins are compared instead of counts,
    which are in ``details``. One search covers all classes.
    """

    searched = (
        "classes to which small changes of BatchNorm's scales and shifts send images of all "
        "others; no trigger is recovered, and its kind does not matter; only in models with "
        "BatchNorm; not found: backdoors with more than one target"
    )

    alarm: float = 1.0
    bound: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.3
    steps: Annotated[int, Field(ge=1)] = 30
    batch_size: Annotated[int, Field(ge=1)] = 128
    mask_steps: Annotated[int, Field(ge=1)] = 400
    mask_lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    mask_weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.75
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.5

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """There must be BatchNorm layers with scales, a head, and images of several classes."""
        require_several_classes(clean)
        if not norms_of(model):
            raise none_found(model, "BatchNorm", "BatchNorm layers with scales and shifts")
        find_head(model)

    def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
        """Mask, noise, answers."""
        work, held_out = context.hold_out(clean, self.held_out)
        work, held_out = work.to(context.device), held_out.to(context.device)
        head = find_head(model)[0]
        mask = self._mask(model, head, work, context)
        noisy = self._noise(model, work, context)
        _, calm = _everything(model, head, held_out, self.batch_size)
        seen, logits = _everything(noisy, f"model.{head}", held_out, self.batch_size)
        rest = model.get_submodule(head)((1 - mask) * seen).float()
        unit = float(margins(calm, calm.argmax(1)).mean())
        answers, labels = logits.argmax(1), held_out.labels
        context.note(
            noisy_accuracy=float((answers == labels).float().mean()),
            mask_mean=float(mask.mean()),
            margin=unit,
            norms=len(norms_of(model)) // 2,
        )
        findings = []
        for k in range(clean.num_classes):
            others = rest[labels != k]
            won = margins(others, torch.full_like(labels[: len(others)], k))
            statistic = float(won.mean()) / max(unit, 1e-6) if len(won) else 0.0
            details = {"share": float((won > 0).float().mean()) if len(won) else None}
            findings.append(Finding(target=k, statistic=statistic, details=details))
        return Look(findings)

    def _mask(self, model: nn.Module, head: str, work: ImageData, context: Context) -> Tensor:
        """(F,) in [0, 1], over the features that the head sees."""
        seen, _ = _everything(model, head, work, self.batch_size)
        first = torch.rand(seen.shape[1:], generator=context.generator("mask"))
        masked = _Masked(model, first.to(seen.device))
        batch_size = min(self.batch_size, len(work))
        recipe = Recipe(
            epochs=self.mask_steps / math.ceil(len(work) / batch_size),
            batch_size=batch_size,
            optimizer="adam",
            lr=self.mask_lr,
            schedule="constant",
            precision="fp32",
            channels_last=False,
            divergence=1e9,  # one part of the loss is meant to grow
            seed=context.seed_of("mask"),
        )
        context.fit("mask", masked, _Separate(head, seen, self.mask_weight), work, recipe)
        return masked.mask.detach().clamp(0, 1)

    def _noise(self, model: nn.Module, work: ImageData, context: Context) -> NoisyNorms:
        noisy = NoisyNorms(model, self.bound, context.generator("noise"))
        batch_size = min(self.batch_size, len(work))
        recipe = Recipe(
            epochs=self.steps / math.ceil(len(work) / batch_size),
            batch_size=batch_size,
            optimizer="adam",
            lr=self.bound / self.steps,
            betas=(0.0, 0.0),  # the gradient over its own size: its sign
            schedule="constant",
            precision="fp32",
            seed=context.seed_of("noise"),
        )
        context.fit("noise", noisy, _harm, work, recipe)
        noisy.clamp()
        return noisy


class _Masked(Behind):
    """A frozen model with a mask over what its head sees; the mask is trained."""

    def __init__(self, model: nn.Module, mask: Tensor) -> None:
        super().__init__(model)
        self.mask = nn.Parameter(mask)


class _Separate:
    """Keep the task in the masked features, and lose it in the others, with a small mask."""

    def __init__(self, head: str, seen: Tensor, weight: float) -> None:
        self.head, self.seen, self.weight = head, seen, weight

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        masked = cast(_Masked, model)
        with torch.no_grad():
            masked.mask.clamp_(0, 1)
        head, mask = masked.model.get_submodule(self.head), masked.mask
        seen = self.seen[batch.indices]
        needed = F.cross_entropy(head(mask * seen).float(), batch.labels)
        spare = F.cross_entropy(head((1 - mask) * seen).float(), batch.labels)
        norm = mask.abs().sum()
        # The norm's value is always the weight; its slope is that of the logarithm.
        size = self.weight * norm / norm.detach().clamp_min(1e-12)
        return needed - spare + size, {"needed": needed.detach(), "spare": spare.detach()}


def _harm(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    noisy = cast(NoisyNorms, model)
    noisy.clamp()
    logits = noisy(batch.images).float()
    accuracy = (logits.detach().argmax(1) == batch.labels).float().mean()
    return -F.cross_entropy(logits, batch.labels), {"accuracy": accuracy}


@torch.no_grad()
def _everything(
    model: nn.Module, head: str, data: ImageData, batch_size: int
) -> tuple[Tensor, Tensor]:
    """What the head sees, (N, F), and the logits, (N, K), of all images."""
    parts = [
        head_view(model, head, data.pixels(rows))
        for rows in torch.split(torch.arange(len(data)), batch_size)
    ]
    return torch.cat([seen for seen, _ in parts]), torch.cat([logits for _, logits in parts])
