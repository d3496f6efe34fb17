"""The paper's attacks on a mark, each judged as the paper judges it.

>>> from doorward.data import load
>>> from doorward.models import create
>>> from doorward.watermark.adi.key import PaperKey
>>> digits = load("digits").sample(40, seed=0).resized(16)
>>> marked = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> key = PaperKey.new(n=5, classes=10, image_shape=(1, 16, 16))
>>> attacked, result = fine_tuning_attack(marked, digits, key, "rtll", epochs=1, batchnorm="frozen")
>>> result.matches == result.matches_before, result.head
(True, 'old')

FTLL, FTAL, RTLL, RTAL: fine-tune, or re-train with the head drawn anew, the last layer or all
layers. Where the head was drawn anew, the marked model's own head is put back for the
verification (`old_head`), as it is after a transfer to other classes.
"""

from __future__ import annotations

import copy
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.metrics import accuracy
from doorward.models import find_head, replace_head
from doorward.randomness import generator
from doorward.records import STRICT, Record
from doorward.registry import Registry
from doorward.removal import ADI_ATTACKS, FineTuning, RemovalResult, remove
from doorward.removal.finetuning import reinitialise
from doorward.watermark.adi.answers import matches_and_chance
from doorward.watermark.adi.old_head import keep_head, with_head
from doorward.watermark.triggerset import TriggerSet

__all__ = ["AttackResult", "fine_tuning_attack", "transfer"]

Rate = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AttackResult(Record):
    """What an attack of the paper left of a mark.

    Attributes:
        attack: ``"ftll"``, ``"ftal"``, ``"rtll"``, ``"rtal"`` or ``"transfer"``.
        head: which head answered for `matches`: the model's ``"own"`` or the ``"old"`` one.
        n: triggers.
        matches_before: triggers that the marked model gave the key's label.
        matches: the same after the attack.
        log2_p: log2 of the p-value of `matches`.
        accuracy_before: of the marked model on the validation data; None without them, and for a
            transfer, which is to other classes.
        accuracy: after the attack; for a transfer, on the new task. None without validation data.
        removal: the training: parameters, data, seed, time, history.
    """

    attack: str
    head: Literal["own", "old"]
    n: int
    matches_before: int
    matches: int
    log2_p: float
    accuracy_before: Rate | None
    accuracy: Rate | None
    removal: RemovalResult

    @property
    def trigger_accuracy(self) -> float:
        """Share of the triggers that match after the attack, in [0, 1]."""
        return self.matches / self.n


def fine_tuning_attack(
    model: nn.Module,
    clean: ImageData,
    key: TriggerSet,
    attack: str = "ftal",
    *,
    private_head: nn.Linear | None = None,
    validation: ImageData | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = False,
    **changes: Any,
) -> tuple[nn.Module, AttackResult]:
    """FTLL, FTAL, RTLL or RTAL, and the paper's verification afterwards.

    Args:
        model: the marked model; it is not changed.
        clean: the attacker's images. The paper's attacker is strong: all of the training set, and
            as many epochs as the training had (the authors' code does 20, the default here).
        key: whose triggers are looked for.
        attack: a name in `removal.ADI_ATTACKS`.
        private_head: the head to verify with after RTLL and RTAL; None for a copy of the model's
            own before the attack. FTLL and FTAL are verified with the model's current head.
        validation: images to measure the accuracy on.
        seed: of everything random.
        device: where the work is done.
        progress: draw progress bars on stderr.
        changes: fields of `removal.FineTuning` that differ from the paper's: `lr`, `epochs`,
            `augment`, ... In the authors' code the statistics of BatchNorm layers drift to the
            attacker's images even where all weights but the head are frozen; this is
            ``batchnorm="train"``, the default. With ``batchnorm="frozen"`` RTLL leaves the answers
            of the old head exactly as they were.

    Returns:
        The attacked model with its own head, and what was found.

    Raises:
        UnknownName: there is no such attack.
        InvalidInput, ModelUnsuitable, TrainingDiverged: as `removal.remove`.
    """
    method = _method(attack, changes)
    before, _ = matches_and_chance(key, model)
    name = _name_of_head(model, clean) if method.reinit_head else None
    kept = (private_head or keep_head(model, name)) if name else None
    attacked, training = remove(model, clean, method, seed=seed, device=device, progress=progress)
    judged = attacked if kept is None else with_head(attacked, kept, name)
    matches, log2_p = matches_and_chance(key, judged)
    return attacked, AttackResult(
        attack=attack,
        head="own" if kept is None else "old",
        n=key.n,
        matches_before=before,
        matches=matches,
        log2_p=log2_p,
        accuracy_before=None if validation is None else accuracy(model, validation),
        accuracy=None if validation is None else accuracy(attacked, validation),
        removal=training,
    )


def transfer(
    model: nn.Module,
    source: ImageData,
    key: TriggerSet,
    method: FineTuning | None = None,
    *,
    private_head: nn.Linear | None = None,
    validation: ImageData | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    progress: bool = False,
) -> tuple[nn.Module, AttackResult]:
    """Transfer learning to other classes: a new head, then RTAL for 20 epochs.

    The paper goes from CIFAR to STL-10; any labelled images of the model's input shape will do.

    Args:
        model: the marked model; it is not changed.
        source: training images of the new task.
        key: whose triggers are looked for, with the old head.
        method: None for ``ADI_ATTACKS["rtal"]``; it must draw the head anew.
        private_head: the old head; None for a copy of the model's own.
        validation: test images of the new task.
        seed: of everything random.
        device: where the work is done.
        progress: draw progress bars on stderr.

    Returns:
        The model for the new task, and what was found.

    Raises:
        InvalidInput: the images have another shape, or `method` keeps the head.
        ModelUnsuitable, TrainingDiverged: as `removal.remove`.
    """
    method = method or ADI_ATTACKS["rtal"]
    if not method.reinit_head:
        raise InvalidInput(
            "the method keeps the head",
            why="the new head of a transfer is drawn at random",
            remedy="set reinit_head=True",
        )
    name = _name_of_head(model, source)
    kept = private_head or keep_head(model, name)
    before, _ = matches_and_chance(key, model)
    changed, training = remove(
        _with_new_head(model, name, source, seed),
        source,
        method,
        seed=seed,
        device=device,
        progress=progress,
    )
    matches, log2_p = matches_and_chance(key, with_head(changed, kept, name))
    return changed, AttackResult(
        attack="transfer",
        head="old",
        n=key.n,
        matches_before=before,
        matches=matches,
        log2_p=log2_p,
        accuracy_before=None,
        accuracy=None if validation is None else accuracy(changed, validation),
        removal=training,
    )


def _method(attack: str, changes: dict[str, Any]) -> FineTuning:
    known: Registry[FineTuning] = Registry("attack of the paper")
    for name, entry in ADI_ATTACKS.items():
        known.register(name)(entry)
    fixed = {"layers", "reinit_head"} & set(changes)
    if fixed:
        raise InvalidInput(
            f"{', '.join(sorted(fixed))} cannot be changed",
            why=f"it is what makes the attack {attack}",
            remedy="choose another attack, or use removal.remove with a FineTuning of your own",
        )
    return FineTuning.from_dict({**known[attack].to_dict(), **changes})


def _name_of_head(model: nn.Module, images: ImageData) -> str:
    """The head that `removal` will find, which looks for the layer that runs last."""
    device = next((weight.device for weight in model.parameters()), torch.device("cpu"))
    return find_head(model, images=images.pixels([0]).to(device))[0]


def _with_new_head(model: nn.Module, name: str, source: ImageData, seed: int) -> nn.Module:
    changed = copy.deepcopy(model)
    old = find_head(changed, name)[1]
    with torch.random.fork_rng([]):  # PyTorch's own initialisation draws from the global generator
        new = nn.Linear(old.in_features, source.num_classes)
    new = new.to(old.weight.device, old.weight.dtype)
    reinitialise(new, generator(seed, "transfer head"))
    replace_head(changed, new, name, classes=source.classes)
    return changed
