"""A honeypot head for a model: fitted by either method, measured in the same way.

>>> from doorward.data import load
>>> from doorward.honeypot.lean import LeanBudget
>>> from doorward.models import create
>>> digits = load("digits").sample(80, seed=0).resized(16)
>>> model = create("resnet8", classes=digits.classes, input_shape=(1, 16, 16), width=4)
>>> served, result = fit_head(model, digits, digits, budget=LeanBudget(ece_change=0.05),
...                           epochs=1.0, more_epochs=1.0, rounds=1, patch_updates=1,
...                           shadows=({"options": {"width": 4}},))
>>> type(served) is type(model), result.target, result.backdoor().trigger.size
(True, 9, (3, 3))
"""

from __future__ import annotations

from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData, ImageSource
from doorward.errors import InvalidInput
from doorward.honeypot.head.base import HEADS
from doorward.honeypot.head.patch import Place
from doorward.honeypot.head.workshop import Workshop, success
from doorward.honeypot.lean.budget import Cost, LeanBudget, cost_of, signal_of
from doorward.metrics.predictions import device_of
from doorward.models import require_model
from doorward.records import STRICT, Record, measure
from doorward.training.distributed import resolve_device
from doorward.triggers import AllToOne, Backdoor

__all__ = ["DEFAULT_HEAD", "HeadResult", "fit_head"]

DEFAULT_HEAD = "look-ahead"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HeadResult(Record):
    """What `fit_head` found and measured. It holds the secret trigger: keep it to yourself.

    Attributes:
        method: ``"look-ahead"`` or ``"faithful"``.
        parameters: of the method.
        target: the class that the patch leads to.
        trigger: patch and class, as `Backdoor.to_dict`.
        cost: on the owner's images.
        budget: the bounds.
        excess: which of them do not hold, in words. Always empty by ``"look-ahead"``.
        signal: mean KL divergence of the answers to the pool, in nats.
        target_share_pool: rise of the target's mean probability on the pool.
        learner_success: of the patch on the simulated thieves, the mean over them. The patch was
            searched on them, so a real thief's will be lower.
        plain_success: of the same patch on those of the undefended model; None without any.
        head_success: of the patch on the served model itself.
        details: of the method.
        images: of the owner, on which the cost was measured.
        pool: its name.
        seed: of everything random.
        seconds: wall-clock time.
        peak_memory_mib: peak memory.
    """

    method: str
    parameters: dict[str, Any]
    target: int
    trigger: dict[str, Any]
    cost: Cost
    budget: LeanBudget
    excess: tuple[str, ...]
    signal: float
    target_share_pool: float
    learner_success: float | None
    plain_success: float | None
    head_success: float
    details: dict[str, Any]
    images: int
    pool: str
    seed: int
    seconds: float
    peak_memory_mib: float

    def backdoor(self) -> Backdoor:
        """The trigger and the class that it leads to."""
        return Backdoor.from_dict(self.trigger)


def fit_head(
    model: nn.Module,
    clean: ImageSource,
    pool: ImageData,
    *,
    method: str = DEFAULT_HEAD,
    target: int | None = None,
    budget: LeanBudget | None = None,
    place: Place | None = None,
    head: str | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    **parameters: Any,
) -> tuple[nn.Module, HeadResult]:
    """Put a honeypot head on a model.

    Args:
        model: the undefended model, images ``(N, C, H, W)`` in [0, 1] to logits ``(N, K)``, ending
            in an `nn.Linear`.
        clean: labelled images of the owner's task that it was not trained on; the bounds hold on
            them.
        pool: images such as a thief may ask about; their labels are not used. Best disjoint from
            what thieves will really use, as here nobody can know.
        method: ``"look-ahead"`` (ours) or ``"faithful"`` (the paper's loop, which heeds no bounds).
        target: the class that the patch shall lead to; None for the last, as in the paper.
        budget: the bounds.
        place: of the patch; None for the lower right corner.
        head: name of the last linear layer; None to find it.
        seed: of everything random.
        device: where to compute.
        parameters: of the method (`LookAhead`, `Faithful`).

    Returns:
        A copy of the model with another head, in evaluation mode on the model's device, and what
        was measured. The copy has the same graph: exporting and serving it costs nothing more.

    Raises:
        InvalidInput: an argument does not fit, or the pool has other images.
        ModelUnsuitable: the model does not end in a linear layer, or no head is within the budget.
        UnknownName: there is no such method.
    """
    require_model(model, input_shape=clean.image_shape, classes=clean.num_classes)
    chosen = HEADS[method].from_dict(parameters)
    budget = budget or LeanBudget()
    target = clean.num_classes - 1 if target is None else target
    if not 0 <= target < clean.num_classes:
        raise InvalidInput(f"target is {target}", why=f"there are {clean.num_classes} classes")
    if pool.image_shape != clean.image_shape:
        raise InvalidInput(
            f"the pool's images are {pool.image_shape}", why=f"the owner's are {clean.image_shape}"
        )
    shop = Workshop(
        model,
        clean,
        pool,
        target=target,
        place=place or Place.corner(clean.image_shape),
        seed=seed,
        device=resolve_device(device),
        head=head,
    )
    with measure() as meter:
        fitted = chosen.run(shop, budget)
    own = shop.logits(fitted.head, shop.own)
    foreign = shop.logits(fitted.head, shop.foreign)
    cost = cost_of(shop.own.logits, own, clean.labels.cpu(), [target])
    rise = foreign.softmax(1).mean(0) - shop.foreign.logits.softmax(1).mean(0)
    served = shop.served(fitted.head)
    trigger = shop.place.trigger(fitted.contrast.cpu())

    def reached(models: tuple[nn.Module, ...]) -> float | None:
        found = [success(m, pool, shop.place, fitted.contrast, target) for m in models]
        return sum(found) / len(found) if found else None

    result = HeadResult(
        method=method,
        parameters=chosen.to_dict(),
        target=target,
        trigger=Backdoor(trigger, AllToOne(target=target)).to_dict(),
        cost=cost,
        budget=budget,
        excess=cost.excess(budget),
        signal=signal_of(shop.foreign.logits, foreign),
        target_share_pool=float(rise[target]),
        learner_success=reached(fitted.learners),
        plain_success=reached(fitted.plain),
        head_success=success(served, pool, shop.place, fitted.contrast, target),
        details=shop.details,
        images=len(clean),
        pool=pool.name,
        seed=seed,
        seconds=meter.seconds,
        peak_memory_mib=meter.peak_memory_mib,
    )
    return served.to(device_of(model)).eval(), result
