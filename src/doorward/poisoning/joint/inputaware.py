"""The input-aware dynamic attack: every image its own trigger, which works on no other image.

>>> InputAware(width=8).mask_density, InputAware.name
(0.032, 'input-aware')
>>> one, two = torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)
>>> round(diversity(one, two, one, two / 2).item(), 3)     # images differ by 1, patterns by 1/2
2.0
"""

from __future__ import annotations

from typing import Annotated, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Batch, ImageSource, to_pixels
from doorward.poisoning.joint.base import (
    Count,
    JointAttack,
    NonNegative,
    Positive,
    TriggerTraining,
    accuracy_under,
    constant,
    passed_on,
    refuse_processes,
    rows_of,
)
from doorward.poisoning.planting import file_procedure
from doorward.poisoning.procedures import Job, Planted
from doorward.randomness import generator
from doorward.records import STRICT
from doorward.training import clean_rows
from doorward.triggers import Backdoor, LabelRule, MaskedPattern

__all__ = ["InputAware", "diversity"]

_TINY = 1e-7  # of the paper's quotient


@file_procedure(
    "input-aware", paper="Nguyen and Tran 2020", rule="all-to-one", rate=0.1, share_of="every batch"
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class InputAware(JointAttack):
    """Two networks draw a mask and a pattern for each image; another image's trigger is void.

    Nguyen and Tran 2020, *Input-Aware Dynamic Backdoor Attack*. First the mask network learns
    alone: masks that cover little (`mask_density`) and differ between images. Then victim and
    pattern network learn together: a share of `rate` of each batch carries its own trigger and the
    attacker's label, `cross_ratio` times as many carry the trigger of another image and keep their
    labels, and patterns of different images shall differ (the diversity loss).

    Reproduced: both stages with the authors' constants; rates fall to a tenth at the same
    fractions of the run. Ours: the second images come from the same batch; the generator's
    gradient begins at zero in each step (their code lets it pile up); triggers are put on after
    the augmentation, as at test time.

    Args:
        width: channels of the networks.
        mask_epochs: of the first stage.
        mask_lr: Adam's rate there.
        mask_density: mean openness that a mask may have for free.
        norm_weight: of what goes beyond it.
        pattern_lr: Adam's rate for the pattern network.
        diversity_weight: of the diversity loss in both stages.
        cross_ratio: crossed images for every attacked one.

    The result's ``cross_accuracy`` is the accuracy on test images that carry another's trigger.
    """

    width: Count = 32
    mask_epochs: Positive = 25.0
    mask_lr: Positive = 0.01
    mask_density: Annotated[float, Field(ge=0, le=1)] = 0.032
    norm_weight: NonNegative = 100.0
    pattern_lr: Positive = 0.01
    diversity_weight: NonNegative = 1.0
    cross_ratio: NonNegative = 1.0

    def crossed_share(self, job: Job) -> float:
        """`cross_ratio` images for every attacked one."""
        return self.cross_ratio * job.rate

    def check(self, model: nn.Module, job: Job) -> None:
        """One process, and rows enough."""
        refuse_processes(job)
        super().check(model, job)

    def carry_out(self, model: nn.Module, job: Job) -> Planted:
        """The mask alone, then pattern and victim."""
        channels = job.source.image_shape[0]
        trigger = MaskedPattern(width=self.width, channels=channels, seed=job.seed)
        backdoor = Backdoor(trigger, self.rule(job))
        self._learn_mask(trigger, job)
        objective = _Crossed(self, trigger, backdoor.rule, job)
        fitted = job.fit_victim(model, objective, job.source)
        trigger.requires_grad_(False)
        return Planted(backdoor, round(job.rate * len(job.source)), fitted)

    def measure(self, model: nn.Module, test: ImageSource, backdoor: Backdoor) -> dict[str, float]:
        """Accuracy under other images' triggers."""
        trigger = cast(MaskedPattern, backdoor.trigger)

        def crossed(images: Tensor, rows: Tensor) -> Tensor:
            others, _ = test.fetch((rows + 1 + len(test) // 2) % len(test))
            return trigger.to(images.device).crossed(images, to_pixels(others))

        return {"cross_accuracy": accuracy_under(model, test, crossed)}

    def _learn_mask(self, trigger: MaskedPattern, job: Job) -> None:
        trigger.mask_network.requires_grad_(True)
        recipe = constant(
            self.mask_lr,
            betas=(0.5, 0.9),
            schedule="step",
            milestones=(0.4, 0.8),
            epochs=self.mask_epochs,
            batch_size=job.recipe.batch_size,
            augment=job.recipe.augment,
            precision="fp32",
            seed=job.seed_of("mask"),
        )
        alone = _MaskAlone(trigger, job.source.num_classes)
        job.fit("mask", alone, _Sparse(self), job.source, recipe)
        trigger.requires_grad_(False)


def diversity(one: Tensor, two: Tensor, of_one: Tensor, of_two: Tensor) -> Tensor:
    """How much less two images' patterns differ than the images: ``|x1 - x2| / |P1 - P2|``.

    Args:
        one: images (N, C, H, W).
        two: other images, of the same shape.
        of_one: patterns or masks of `one` (N, c, H, W).
        of_two: of `two`.

    Returns:
        The mean over the pairs; distances are roots of mean squares.
    """
    return (_distance(one, two) / (_distance(of_one, of_two) + _TINY)).mean()


def _distance(one: Tensor, two: Tensor) -> Tensor:
    # The root has no slope at zero, where two images are the same.
    return (one - two).square().mean((1, 2, 3)).clamp_min(_TINY**2).sqrt()


class _MaskAlone(nn.Module):
    """The mask network in the shape of a classifier, which is what the loop trains."""

    def __init__(self, trigger: MaskedPattern, classes: int) -> None:
        super().__init__()
        self.mask_network, self.classes = trigger.mask_network, classes
        self._trigger = (trigger,)  # in a tuple, so that only the mask network is a submodule

    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images), self.classes)

    def masks(self, images: Tensor) -> Tensor:
        return self._trigger[0].mask(images)


class _Sparse:
    """Masks that are small and differ from that of the next image in the batch."""

    def __init__(self, attack: InputAware) -> None:
        self.attack = attack

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        attack, images = self.attack, batch.images
        masks = cast(_MaskAlone, model).masks(images)
        excess = F.relu(masks - attack.mask_density).mean()
        differing = diversity(images, images.roll(1, 0), masks, masks.roll(1, 0))
        loss = attack.norm_weight * excess + attack.diversity_weight * differing
        return loss, {"open": masks.detach().mean(), "diversity": differing.detach()}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.attack!r})"


class _Crossed(TriggerTraining):
    """Own triggers get the attacker's label, others' keep theirs, and patterns differ."""

    def __init__(
        self, attack: InputAware, trigger: MaskedPattern, rule: LabelRule, job: Job
    ) -> None:
        recipe = constant(
            attack.pattern_lr,
            betas=(0.5, 0.9),
            schedule="step",
            milestones=(1 / 3, 1 / 2, 2 / 3, 5 / 6),
        )
        steps = job.recipe.steps(len(job.source))
        super().__init__(trigger, trigger.pattern_network, recipe, steps)
        self.attack, self.rule, self.rate = attack, rule, job.rate
        self.seed, self.smoothing = job.seed_of("rows"), job.recipe.label_smoothing

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = batch.images, batch.labels.clone()
        attacked = round(self.rate * len(batch))
        crossed = round(self.attack.cross_ratio * self.rate * len(batch))
        draw = generator(self.seed, batch.step)
        drawn = rows_of(len(batch), attacked=attacked, crossed=crossed, draw=draw)
        rows, cross, partners = (part.to(images.device) for part in drawn)
        touched = torch.cat([rows, cross])
        labels[rows] = self.rule.labels(labels[rows])
        clean = torch.ones_like(labels, dtype=torch.bool)
        clean[touched] = False
        if not len(touched):  # a last, smaller batch
            return self._loss(model(images), labels), {}
        seen, onto = images[torch.cat([rows, partners])], images[touched]
        patterns, marked = self._marked(seen, onto)
        leaf = marked.detach().requires_grad_(True)
        with clean_rows(model, clean):
            logits = model(images.index_copy(0, touched, leaf)).float()
        loss = self._loss(logits, labels)
        right = (logits.detach().argmax(1) == labels).float()
        scalars = {"accuracy": right[clean].mean(), "attack": right[rows].mean()}
        pull = passed_on(loss, marked, leaf)
        pairs = min(len(rows), len(cross))
        if pairs:
            one, two = slice(pairs), slice(len(rows), len(rows) + pairs)
            differing = diversity(seen[one], seen[two], patterns[one], patterns[two])
            pull = pull + self.attack.diversity_weight * differing
            scalars |= {"cross": right[cross].mean(), "diversity": differing.detach()}
        self.step_trigger(pull, batch.step)
        return loss, scalars

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits.float(), labels, label_smoothing=self.smoothing)

    def _marked(self, seen: Tensor, onto: Tensor) -> tuple[Tensor, Tensor]:
        """The patterns of the images `seen`, and the images `onto` under these triggers."""
        trigger = cast(MaskedPattern, self.trigger)
        with torch.autocast(seen.device.type, enabled=False):
            patterns = trigger.pattern(seen)
            return patterns, onto + (patterns - onto) * trigger.mask(seen)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.attack!r}, {self.rule!r}, {self.rate}, {self.seed})"
