"""Ask for triggers that shine through natural images: stronger evidence, and nothing to filter by.

>>> import torch
>>> from doorward.data import load
>>> from doorward.watermark.key import WatermarkKey
>>> key = WatermarkKey.new(n=6, classes=10, image_shape=(1, 16, 16))
>>> carriers = load("digits").resized(16).sample(20, seed=0)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> found = ask_blended(key, innocent, carriers, per_trigger=4)
>>> found.queries, found.log2_p
(28, 0.0)

The suspect is asked about each trigger several times, hardly visible in ordinary images. Every
answer counts, so a mark that training has almost washed out is still seen; a service that refuses
abstract pictures sees none. It works best on models that were marked that way (method
``"blended"``), and on others as far as they answer so.
"""

from __future__ import annotations

import random
from typing import Any

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass

from doorward.bundles import open_black_box
from doorward.data import ImageData
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.metrics import lots_tail_log2
from doorward.randomness import generator
from doorward.records import STRICT, Record
from doorward.watermark.methods.blended import blend
from doorward.watermark.triggerset import TriggerSet

__all__ = ["BlendedAnswers", "ask_blended"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BlendedAnswers(Record):
    """What a suspect answered to triggers blended into other images.

    Attributes:
        votes: for each trigger and class, how often the suspect gave that class minus how often
            it gives it to the carriers alone.
        labels: the mark's label of each trigger.
        score: sum of the votes at these labels.
        log2_p: log2 of the exact probability of such a score if the labels were drawn by lot
            independently of the suspect.
        per_trigger: images that each trigger was blended into.
        opacity: of the triggers.
        queries: images that the suspect was asked about.
    """

    votes: list[list[int]]
    labels: list[int]
    score: int
    log2_p: float
    per_trigger: int
    opacity: float
    queries: int

    @property
    def p_value(self) -> float:
        """The p-value; 0.0 below 5e-324."""
        return float(2.0**self.log2_p)


def ask_blended(
    key: TriggerSet,
    suspect: Any,
    carriers: ImageData,
    *,
    per_trigger: int = 16,
    opacity: float = 0.7,
    seed: int = 0,
) -> BlendedAnswers:
    """Ask a suspect about every trigger, blended into natural images.

    Null hypothesis and exactness are those of `verify`: the key's labels are independent of the
    suspect, so each trigger's label might as well have been any other. What is compared with
    chance is how often the suspect leans towards the labels, summed over all triggers
    (`metrics.lots_tail_log2`). Fix opacity and number of carriers before you ask: whoever tries
    several settings and shows the best has to multiply the p-value by their number.

    Args:
        key: the key, or any other `TriggerSet`.
        suspect: as in `verify`.
        carriers: images of the task, at least `per_trigger`; those asked are drawn by `seed`.
        per_trigger: images that every trigger is blended into.
        opacity: of the triggers, in (0, 1].
        seed: of the choice of carriers.

    Raises:
        InvalidInput: numbers or carriers do not fit the key.
        ModelUnsuitable, EndpointFailed: as `verify`.
    """
    _check(key, carriers, per_trigger, opacity)
    images, labels = key.triggers()
    draws = generator(seed, "carriers")
    under = carriers.pixels(torch.randperm(len(carriers), generator=draws)[:per_trigger]).cpu()
    triggers = images.float() / 255
    opacities = torch.full((per_trigger,), opacity)
    asked = [blend(under, one.expand_as(under), opacities) for one in triggers]
    pile = torch.cat([under, *asked])
    order = list(range(len(pile)))
    random.SystemRandom().shuffle(order)
    places = torch.tensor(order)
    answers = torch.empty(len(pile), dtype=torch.int64)
    answers[places] = open_black_box(suspect).labels(pile[places]).cpu()
    if int(answers.min()) < 0 or int(answers.max()) >= key.classes:
        raise ModelUnsuitable(
            f"the suspect answered labels {int(answers.min())} to {int(answers.max())}",
            why=f"the key is for {key.classes} classes, numbered from 0",
            remedy="this key cannot have marked this model; compare the right ones",
        )
    counts = F.one_hot(answers, key.classes).view(-1, per_trigger, key.classes).sum(1)
    votes = counts[1:] - counts[0]
    return BlendedAnswers(
        votes=votes.tolist(),
        labels=labels.tolist(),
        score=int(votes.gather(1, labels[:, None]).sum()),
        log2_p=lots_tail_log2(votes, labels),
        per_trigger=per_trigger,
        opacity=opacity,
        queries=len(pile),
    )


def _check(key: TriggerSet, carriers: ImageData, per_trigger: int, opacity: float) -> None:
    if carriers.image_shape != key.image_shape:
        raise InvalidInput(
            f"the carriers are {carriers.image_shape}, the key's triggers {key.image_shape}",
            remedy="resize the carriers",
        )
    if not 1 <= per_trigger <= len(carriers):
        raise InvalidInput(
            f"{per_trigger} carriers per trigger are not possible",
            why=f"there are {len(carriers)}",
        )
    if not 0 < opacity <= 1:
        raise InvalidInput(f"opacity {opacity} is not in (0, 1]")
