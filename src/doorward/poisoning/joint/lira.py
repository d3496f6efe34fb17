"""LIRA: a network learns the faintest noise that a victim can be taught to obey.

>>> Lira().eps, Lira().alpha, Lira.name
(0.1, 0.5, 'lira')
"""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Batch
from doorward.poisoning.joint.base import (
    Count,
    JointAttack,
    Positive,
    TriggerTraining,
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
from doorward.triggers import Backdoor, LabelRule, LearntNoise, Trigger

__all__ = ["Lira"]

Share = Annotated[float, Field(gt=0, le=1)]


@file_procedure(
    "lira",
    paper="Doan et al. 2021",
    rule="all-to-one",
    rate=1.0,
    share_of="every batch, beside its clean images",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Lira(JointAttack):
    """A U-Net adds noise of at most eps, learnt against a victim that learns to obey it.

    Doan, Lao, Zhao and Li 2021, *LIRA: Learnable, Imperceptible and Robust Backdoor Attacks*.
    Stage one trains noise network and victim against one common aim; stage two freezes the
    network, and trains a fresh victim on clean images (weight `alpha`) and on the same images with
    noise under the attacker's label (weight 1 - `alpha`).

    Reproduced: both stages and their losses; the network is trained by the attacker's loss alone.
    Ours: network and victim move at once from one forward pass, where the authors' classifier
    lags by an epoch behind the network; eps is in pixel units (theirs, 0.1 and 0.01, are in units
    of the normalised images, so that the second is below one grey level); stage one lasts for a
    share of the recipe's steps instead of 50 epochs, and the network's rate is ten times theirs,
    which belongs to 20 000 steps.

    Args:
        eps: largest change of a pixel in stage one, in (0, 1].
        final_eps: in stage two and in the finished trigger.
        alpha: weight of the clean images in the victim's loss.
        width: channels of the network.
        noise_lr: Adam's rate for the network.
        stage_one: its length as a share of the recipe's steps.
    """

    eps: Share = 0.1
    final_eps: Share = 0.05
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.5
    width: Count = 16
    noise_lr: Positive = 1e-3
    stage_one: Share = 0.5

    def check(self, model: nn.Module, job: Job) -> None:
        """One process, and rows enough."""
        refuse_processes(job)
        super().check(model, job)

    def carry_out(self, model: nn.Module, job: Job) -> Planted:
        """Learn the noise, then train the victim as it was given."""
        given = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        channels, rule = job.source.image_shape[0], self.rule(job)
        learnt = LearntNoise(eps=self.eps, width=self.width, channels=channels, seed=job.seed)
        steps = max(1, round(self.stage_one * job.recipe.steps(len(job.source))))
        first = dataclasses.replace(job.recipe, max_steps=steps, seed=job.seed_of("stage one"))
        job.fit("noise", model, _Learning(self, learnt, rule, job, steps), job.source, first)
        model.load_state_dict(given)
        trigger = LearntNoise(**{**learnt.config(), "eps": self.final_eps})
        trigger.load_state_dict(learnt.state_dict())
        trigger.requires_grad_(False)
        backdoor = Backdoor(trigger, rule)
        fitted = job.fit_victim(model, _Obeying(self, trigger, rule, job), job.source)
        return Planted(backdoor, round(job.rate * len(job.source)), fitted)


class _Learning(TriggerTraining):
    """Stage one: the victim's loss to the loop, the attacker's to the network."""

    def __init__(
        self, attack: Lira, trigger: Trigger, rule: LabelRule, job: Job, steps: int
    ) -> None:
        super().__init__(trigger, None, constant(attack.noise_lr), steps)
        self.attack, self.rule, self.rate = attack, rule, job.rate
        self.seed, self.smoothing = job.seed_of("rows", "noise"), job.recipe.label_smoothing

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        rows = _rows(self, batch)
        marked = self.trigger.apply(batch.images[rows]).clamp(0, 1)
        leaf = marked.detach().requires_grad_(True)
        honest, obedient, scalars = _losses(self, model, batch, rows, leaf)
        self.step_trigger(passed_on(obedient, marked, leaf), batch.step)
        return self.attack.alpha * honest + (1 - self.attack.alpha) * obedient, scalars

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.attack!r}, {self.rule!r}, {self.rate}, {self.seed})"


class _Obeying(nn.Module):
    """Stage two: the same losses with a finished trigger."""

    def __init__(self, attack: Lira, trigger: Trigger, rule: LabelRule, job: Job) -> None:
        super().__init__()
        self.trigger = trigger
        self.attack, self.rule, self.rate = attack, rule, job.rate
        self.seed, self.smoothing = job.seed_of("rows", "victim"), job.recipe.label_smoothing

    def forward(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        rows = _rows(self, batch)
        with torch.no_grad():
            marked = self.trigger.apply(batch.images[rows]).clamp(0, 1)
        honest, obedient, scalars = _losses(self, model, batch, rows, marked)
        return self.attack.alpha * honest + (1 - self.attack.alpha) * obedient, scalars

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.attack!r}, {self.rule!r}, {self.rate}, {self.seed})"


def _rows(objective: _Learning | _Obeying, batch: Batch) -> Tensor:
    """Which rows are attacked: a share of the batch, and at least one."""
    attacked = max(1, round(objective.rate * len(batch)))
    draw = generator(objective.seed, batch.step)
    rows, _, _ = rows_of(len(batch), attacked=attacked, crossed=0, draw=draw)
    return rows.to(batch.images.device)


def _losses(
    objective: _Learning | _Obeying,
    model: nn.Module,
    batch: Batch,
    rows: Tensor,
    marked: Tensor,
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Cross-entropy of the clean batch, that of the marked images, and how often each is right."""
    images = torch.cat([batch.images, marked.to(batch.images.dtype)])
    clean = torch.arange(len(images), device=images.device) < len(batch)
    with clean_rows(model, clean):
        logits = model(images).float()
    wanted = objective.rule.labels(batch.labels[rows])
    right, obeyed = logits.detach().argmax(1).tensor_split([len(batch)])
    scalars = {
        "accuracy": (right == batch.labels).float().mean(),
        "attack": (obeyed == wanted).float().mean(),
    }
    honest, obedient = (
        F.cross_entropy(part, labels, label_smoothing=objective.smoothing)
        for part, labels in (
            (logits[: len(batch)], batch.labels),
            (logits[len(batch) :], wanted),
        )
    )
    return honest, obedient, scalars
