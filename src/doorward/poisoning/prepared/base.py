"""The base of attacks that prepare: one hook that makes trigger and poisoned data, then a victim.

>>> from doorward.data import load
>>> from doorward.poisoning.prepared import LabelConsistent
>>> backdoor, poisoned = prepare(load("digits"), LabelConsistent(eps=0), target=3, seed=0)
>>> backdoor.rule, poisoned.count
(CleanLabel(target=3), 73)

`doorward.poisoning.plant` trains a victim on such data; `prepare` stops before it, for those who
want the data themselves.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, final

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageSource
from doorward.errors import InvalidInput
from doorward.poisoning.attacks import ATTACKS, default_rate
from doorward.poisoning.poisoned import PoisonedData
from doorward.poisoning.procedures import Job, Planted, Procedure
from doorward.records import STRICT
from doorward.training import Recipe
from doorward.training.distributed import resolve_device
from doorward.triggers import Backdoor

__all__ = ["Prepared", "device_of_job", "prepare"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Prepared(Procedure):
    """An attack on the data alone: subclasses write `prepare`."""

    @abstractmethod
    def prepare(self, job: Job) -> tuple[Backdoor, PoisonedData]:
        """Make the trigger, and the training images that the victim is given."""

    @final
    def carry_out(self, model: nn.Module, job: Job) -> Planted:
        """Prepare, and let the victim train as it likes."""
        backdoor, poisoned = self.prepare(job)
        return Planted(backdoor, poisoned.count, job.fit_victim(model, None, poisoned))


def prepare(
    source: ImageSource,
    attack: str | Prepared,
    *,
    target: int = 0,
    rate: float | None = None,
    seed: int = 0,
    **options: Any,
) -> tuple[Backdoor, PoisonedData]:
    """Make an attack's trigger and poisoned data, without a victim.

    Args:
        source: clean training images.
        attack: a prepared attack, or its name in ``ATTACKS``.
        target: the attacker's class.
        rate: poison rate in (0, 1]; None for the attack's usual one.
        seed: of everything random; on a CPU the same seed gives the same trigger and images.
        options: further arguments of `doorward.training.fit` for the networks that are trained
            (device, progress, checkpoint, ...).

    Returns:
        The backdoor, and a view of `source` to train on, as `doorward.poisoning.poison` gives it.

    Raises:
        UnknownName: there is no such attack.
        InvalidInput: the attack prepares nothing, or target, rate or data do not fit it; said
            before any training.
    """
    entry: Any = ATTACKS[attack]() if isinstance(attack, str) else attack  # type: ignore[call-arg]
    if not isinstance(entry, Prepared):
        raise InvalidInput(
            f"{attack!r:.60} prepares nothing before the victim's training",
            remedy="call doorward.poisoning.plant, which carries out every attack",
        )
    if not 0 <= target < source.num_classes:
        raise InvalidInput(
            f"there is no class {target}", why=f"classes are 0 to {source.num_classes - 1}"
        )
    job = Job(
        source,
        Recipe(seed=seed),
        target=target,
        rate=default_rate(entry.name) if rate is None else rate,
        seed=seed,
        options=dict(options),
    )
    entry.rule(job).check(source.num_classes)
    entry.check(nn.Identity(), job)
    return entry.prepare(job)


def device_of_job(job: Job) -> torch.device:
    """Where the job's trainings run, for what is computed beside them."""
    return resolve_device(job.options.get("device", "auto"))
