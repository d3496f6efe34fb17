"""Plant a backdoor by an attack's name: one call for all attacks, whatever they need.

>>> from torch import nn
>>> from doorward.data import load
>>> from doorward.training import Recipe
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
>>> backdoor, result = plant(model, load("digits"), "badnets", Recipe(max_steps=30, lr=0.05),
...                          target=3, test=load("digits", split="test"))
>>> result.poisoned, backdoor.rule, result.strength.linf
(144, AllToOne(target=3), 1.0)

An entry of `ATTACKS` is either a builder (shape -> `Backdoor`), whose trigger exists before the
training, so that poisoned data are all it takes; or a `Procedure`, which trains its trigger with
the victim, or prepares it from the data first. A procedure with other constants than its defaults
is given itself instead of a name::

    backdoor, result = plant(model, train, InputAware(mask_epochs=5), recipe, test=test)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from torch import nn

from doorward.data import ImageSource
from doorward.errors import InvalidInput
from doorward.poisoning.attacks import ATTACKS, attack, default_rate
from doorward.poisoning.implanting import PoisonResult, check_attack, implant, measured
from doorward.poisoning.procedures import Job, Procedure
from doorward.training import Recipe
from doorward.training.checks import check_inputs
from doorward.triggers import Backdoor

__all__ = ["file_procedure", "plant"]

C = TypeVar("C")


def plant(
    model: nn.Module,
    source: ImageSource,
    name: str | Procedure,
    recipe: Recipe,
    *,
    test: ImageSource,
    target: int = 0,
    rate: float | None = None,
    seed: int | None = None,
    **options: Any,
) -> tuple[Backdoor, PoisonResult]:
    """Carry out an attack on a model in place, and measure the backdoor.

    Args:
        model: the victim, trained in place; a fresh model or one to fine-tune.
        source: clean training images, whose classes are those of the attack.
        name: one of ``ATTACKS.names()``, or a procedure with constants of its own.
        recipe: how the victim trains; phases before it have recipes of their own.
        test: clean test images, for accuracy and attack success.
        target: the attacker's class; all-to-all attacks have none and ignore it.
        rate: poison rate in (0, 1]; None for the attack's usual one (see `default_rate`, and
            ``share_of`` in ``ATTACKS.facts(name)`` for what it is a share of).
        seed: of the choice of images and of whatever the attack draws; the recipe's if None.
        options: further arguments of `doorward.training.fit` (device, checkpoint, progress, ...).

    Returns:
        The backdoor, whose trigger may hold trained weights (``backdoor.save(folder)`` keeps
        them), and what was measured.

    Raises:
        UnknownName: there is no such attack.
        InvalidInput: target, rate, rule, test set or options do not fit; said before training.
        ModelUnsuitable: the model does not take the images.
        TrainingDiverged: a loss became NaN or infinite, or exploded.
    """
    seed = recipe.seed if seed is None else seed
    entry: Any = name if isinstance(name, Procedure) else ATTACKS[name]
    if not isinstance(entry, Procedure | type):
        backdoor = attack(
            str(name),
            image_shape=source.image_shape,
            target=target,
            classes=source.num_classes,
            seed=seed,
        )
        share = default_rate(str(name)) if rate is None else rate
        result = implant(
            model, source, backdoor, recipe, rate=share, test=test, seed=seed, **options
        )
        return backdoor, result
    procedure: Procedure = entry if isinstance(entry, Procedure) else entry()
    job = Job(
        source,
        recipe,
        target=_class(target, source),
        rate=_rate(procedure, rate),
        seed=seed,
        options=dict(options),
    )
    check_attack(procedure.rule(job), source, test)
    check_inputs(model, source, test)  # the victim's own training may be phases away
    procedure.check(model, job)
    backdoor, poisoned, fitted = procedure.carry_out(model, job)
    result = measured(
        model,
        test,
        backdoor,
        rate=job.rate,
        poisoned=poisoned,
        seed=seed,
        fit=fitted,
        details={
            "parameters": procedure.to_dict(),
            **job.details,
            **procedure.measure(model, test, backdoor),
            "history": job.history,
        },
    )
    return backdoor, result


def file_procedure(
    name: str, *, paper: str, rule: str, rate: float, share_of: str = "the whole set"
) -> Callable[[C], C]:
    """Class decorator: register a procedure among the attacks and tell it its name.

    Args:
        name: for `ATTACKS`.
        paper: authors and year.
        rule: the label rule's name in `doorward.triggers.RULES`.
        rate: the usual poison rate.
        share_of: what the rate is a share of.
    """

    def file(cls: C) -> C:
        cast(type[Procedure], cls).name = name
        return ATTACKS.register(name, paper=paper, rule=rule, rate=rate, share_of=share_of)(cls)

    return file


def _class(target: int, source: ImageSource) -> int:
    if not 0 <= target < source.num_classes:
        raise InvalidInput(
            f"there is no class {target}", why=f"classes are 0 to {source.num_classes - 1}"
        )
    return target


def _rate(procedure: Procedure, rate: float | None) -> float:
    if rate is None:
        if procedure.name not in ATTACKS:
            raise InvalidInput(
                f"{type(procedure).__name__} has no usual poison rate",
                why="it is not registered",
                remedy="pass rate=...",
            )
        return default_rate(procedure.name)
    if not 0 < rate <= 1:
        raise InvalidInput(
            f"the poison rate is {rate}",
            why="it is a share above 0 and at most 1",
            remedy="for a clean control, train on the clean data set itself",
        )
    return rate
