"""MM-BD: a class that wins by far too much on some input, whatever the trigger is.

    result, _ = scan(model, clean, "mm-bd")          # the clean images only say their shape
    result.findings[3].details["margin"]

>>> [round(value, 1) for value in order_statistics([9.0, 10.0, 11.0, 10.0, 40.0])]
[0.0, 0.0, 0.0, 0.0, 140.9]

No data, no trigger: from random images, gradient ascent on the margin by which a class beats the
second. The statistic of a class is minus the decimal logarithm of its p-value.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Any, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.metrics import predict
from doorward.models.layers import Behind
from doorward.records import STRICT
from doorward.scanning.base import Finding, Look, Scanner, file_scanner
from doorward.scanning.searching import PASS_SIZE, in_parts
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["MaximumMargin", "margins", "order_statistics"]

FEWEST_CLASSES = 4
LARGEST = 300.0
"""Of the statistic: smaller p-values have no logarithm in double precision."""
_EVERY = 10  # steps between looks at which classes are done (each look waits for the device)


@file_scanner(
    "mm-bd",
    paper="Wang et al. 2024, MM-BD: Post-Training Detection of Backdoor Attacks with Arbitrary "
    "Backdoor Pattern Types Using a Maximum Margin Statistic",
    finds="attacked classes, whatever the trigger",
    images="none",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class MaximumMargin(Scanner):
    """The largest margin of every class over images, against a Gamma law of the other classes'.

    Args:
        alarm: statistic above which a class is accused; ``-log10(0.05)``, the paper's level.
        images: random images per class; the largest of their margins counts.
        steps: at most so many steps of gradient ascent.
        lr: of SGD, on the sum of the images' margins.
        momentum: of SGD.
        tolerance: a class whose summed margin changed by less than this share of itself in one
            step is done.
        pass_size: images per pass through the classifier; bounds the memory.

    Wang et al. (2024): margin ``z_k - max_{j != k} z_j`` of the logits over images in [0, 1],
    constants, and ``p = 1 - F(margin)^K`` with a Gamma law F. Ours: all classes climb in one batch
    and leave it when they are done; every class is tested against all others (the paper tests the
    largest); F has its left end at 0 (the authors' code fits that, too, which nine values hardly
    determine). The code makes a new optimiser in every step, so that its momentum of 0.2 has no
    effect; here it has. Weak with few classes, and on models whose logits were kept small.
    """

    searched = (
        "classes whose logit some image drives far above all others; no trigger is recovered, and "
        "its kind does not matter; not found: backdoors that leave the largest margin as it is, "
        "and several attacked classes at once, which hide one another"
    )

    passes = "pass_size"

    alarm: float = -math.log10(0.05)
    images: Annotated[int, Field(ge=1)] = 30
    steps: Annotated[int, Field(ge=1)] = 300
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.01
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.2
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 1e-5
    pass_size: Annotated[int, Field(ge=1)] = PASS_SIZE

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """A law of the other classes' margins needs some classes."""
        if clean.num_classes < FEWEST_CLASSES:
            raise InvalidInput(
                f"{clean.num_classes} classes are too few for this scanner",
                why="each class's margin is compared with a law fitted to all others'",
                remedy="use neural-cleanse, or compare with clean control models",
            )

    def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
        """Climb, take the largest margins, compare."""
        classes = clean.num_classes
        shape = (classes * self.images, *clean.image_shape)
        probes = _Probes(model, torch.rand(shape, generator=context.generator("probes")))
        climb = _Climb(classes, self.images, self.tolerance, context.device, self.pass_size)
        recipe = Recipe(
            epochs=math.ceil(self.steps / len(clean)),
            max_steps=self.steps,
            batch_size=1,  # the clean images only count the steps
            lr=self.lr,
            momentum=self.momentum,
            nesterov=False,
            schedule="constant",
            precision="fp32",  # the end of the climb is told by a small change
            seed=context.seed_of("climb"),
        )
        context.fit("climb", probes, climb, clean, recipe)
        logits = predict(model, probes.images.detach().clamp(0, 1))
        targets = torch.arange(classes).repeat_interleave(self.images)
        largest = margins(logits, targets).view(classes, self.images).amax(1).tolist()
        statistics = order_statistics(largest)
        context.note(p_value=10 ** -max(statistics))
        steps = climb.steps.tolist()
        findings = [
            Finding(
                target=k,
                statistic=statistics[k],
                details={"margin": largest[k], "steps": int(steps[k])},
            )
            for k in range(classes)
        ]
        return Look(findings)


def margins(logits: Tensor, targets: Tensor) -> Tensor:
    """By how much each row's target beats the best other class, ``z_k - max_{j != k} z_j``.

    Args:
        logits: (N, K).
        targets: int64 (N,).

    >>> margins(torch.tensor([[1.0, 4.0, 2.5], [1.0, 4.0, 2.5]]), torch.tensor([1, 0])).tolist()
    [1.5, -3.0]
    """
    own = logits.gather(1, targets[:, None])
    others = logits.scatter(1, targets[:, None], -torch.inf)
    return own.squeeze(1) - others.amax(1)


def order_statistics(values: Sequence[float]) -> list[float]:
    """``-log10 p`` of each value among K, had it been the largest of K draws of the others' law.

    ``p = 1 - F(value)^K``, with F the Gamma law (left end 0) of the other K - 1 values by maximum
    likelihood. Values below a thousandth of the others' mean count as that.

    Args:
        values: one per class, at least 4.

    Returns:
        Between 0 and 300, one per class.
    """
    from scipy import stats

    found = []
    for k, value in enumerate(values):
        others = torch.tensor([*values[:k], *values[k + 1 :]], dtype=torch.float64)
        shape, scale = _gamma_law(others)
        if scale == 0:  # the others never win: any margin is beyond their law
            found.append(LARGEST if value > 0 else 0.0)
            continue
        tail = float(stats.gamma.sf(max(value, 0.0), shape, scale=scale))
        # 1 - (1 - tail)^K without cancellation.
        p = -math.expm1(len(values) * math.log1p(-tail)) if tail < 1 else 1.0
        found.append(min(LARGEST, -math.log10(p)) if p > 0 else LARGEST)
    return [max(0.0, value) for value in found]


def _gamma_law(values: Tensor) -> tuple[float, float]:
    """Shape and scale by maximum likelihood: ``log a - digamma(a) = log mean - mean log``."""
    values = values.clamp_min(0)
    mean = values.mean()
    if mean == 0:
        return 1.0, 0.0
    gap = (mean.log() - values.clamp_min(1e-3 * float(mean)).log().mean()).clamp_min(1e-6)
    shape = (3 - gap + ((gap - 3) ** 2 + 24 * gap).sqrt()) / (12 * gap)  # Minka (2002)
    for _ in range(5):  # Newton
        slope = 1 / shape - torch.special.polygamma(1, shape)
        shape = shape - (shape.log() - torch.special.digamma(shape) - gap) / slope
    return float(shape), float(mean / shape)


class _Probes(Behind):
    """A frozen model behind images that are trained."""

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        super().__init__(model)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.images = nn.Parameter(images.to(device))


class _Climb:
    """Minus the sum of the margins of the classes that are not done."""

    def __init__(
        self,
        classes: int,
        each: int,
        tolerance: float,
        device: torch.device,
        pass_size: int = PASS_SIZE,
    ) -> None:
        self.each, self.tolerance, self.pass_size = each, tolerance, pass_size
        self.targets = torch.arange(classes, device=device).repeat_interleave(each)
        self.rows = torch.arange(classes, device=device)
        self.last = torch.full((classes,), torch.inf, device=device)
        self.done = torch.zeros(classes, dtype=torch.bool, device=device)
        self.steps = torch.zeros(classes, device=device)

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Any]]:
        images = cast(_Probes, model).images
        if batch.step % _EVERY == 0:
            self.rows = (~self.done).nonzero().squeeze(1)
        if not len(self.rows):  # the loop goes on; its steps cost next to nothing
            return 0 * images.sum(), {"climbing": 0.0}
        chosen = images.view(-1, self.each, *images.shape[1:])[self.rows].flatten(0, 1)
        targets = self.targets.view(-1, self.each)[self.rows].flatten()
        won, _ = in_parts(
            model,
            chosen.clamp(0, 1),
            lambda logits, part: margins(logits, targets[part]),
            self.pass_size,
        )
        found = won.view(-1, self.each).sum(1)
        now, before = found.detach(), self.last[self.rows]
        calm = (now - before).abs() < self.tolerance * before.abs()
        self.done[self.rows] |= calm
        self.last[self.rows] = now
        self.steps[self.rows] += 1
        return -found.sum(), {"margin": now.max() / self.each, "climbing": float(len(self.rows))}
