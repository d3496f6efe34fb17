"""Models that the parties can show: the first owner has one with his mark alone.

    found = compare_exhibits(disputed, (ada_key, eve_key), (adas_model, eves_model),
                             log2_alphas=(-64.0, -64.0))
    found.older, found.reason

Whoever marked a stolen model has no copy of it without the owner's mark. He may show a model that
he trained himself, with his mark alone; but the disputed model does not descend from it, and
answers unlike it. So exhibits are compared with the disputed model on fresh abstract pictures:
descendants agree with their ancestor more often than *controls*, models of the same task that were
trained independently. Give some: without them only two exhibits can be compared with each other
(McNemar's exact test on the pictures where just one of them agrees), which says who is nearer, not
who is near.

>>> import torch
>>> from doorward.watermark.key import WatermarkKey
>>> keys = [WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16)) for _ in range(2)]
>>> zero = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> compare_exhibits(zero, (keys[0], keys[1]), (zero, None), log2_alphas=(-40.0, -40.0)).reason
'Neither party shows a model with its own mark alone.'
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.bundles import open_black_box
from doorward.errors import InvalidInput
from doorward.metrics import binomial_tail, binomial_tail_log2
from doorward.records import STRICT, Record
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.disputes.null import random_keys
from doorward.watermark.triggerset import TriggerSet
from doorward.watermark.verification import count_matches

__all__ = ["Exhibit", "Exhibits", "compare_exhibits"]

Share = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Exhibit(Record):
    """A model that one party shows.

    Attributes:
        own: triggers of the party's own mark that it matches.
        other: triggers of the other party's mark that it matches.
        own_proven: its own mark satisfies its claim's rule.
        other_proven: the other's mark satisfies that claim's rule.
        agreement: share of fresh abstract pictures that it answers like the disputed model.
    """

    own: int
    other: int
    own_proven: bool
    other_proven: bool
    agreement: Share

    @property
    def alone(self) -> bool:
        """It carries its party's mark, and not the other's."""
        return self.own_proven and not self.other_proven


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Exhibits(Record):
    """What the models that were shown say.

    Attributes:
        exhibits: of the two parties; None for one who shows nothing.
        pictures: fresh abstract pictures that agreement is measured on.
        controls: agreement of each independent model with the disputed one.
        kin: each exhibit agrees with the disputed model more often than every control does; None
            without exhibit or controls.
        p_value: of McNemar's test, where both show a model with their mark alone; else None.
        older: 0 or 1, the party whose model speaks for them; None if neither's does.
        reason: why.
    """

    exhibits: tuple[Exhibit | None, Exhibit | None]
    pictures: int
    controls: tuple[Share, ...]
    kin: tuple[bool | None, bool | None]
    p_value: Share | None
    older: int | None
    reason: str


def compare_exhibits(
    disputed: Any,
    marks: tuple[TriggerSet, TriggerSet],
    models: tuple[Any | None, Any | None],
    *,
    log2_alphas: tuple[float, float],
    controls: Sequence[Any] = (),
    pictures: int = 1000,
    alpha: float = 0.01,
    seed: int | None = None,
) -> Exhibits:
    """Compare the models that two parties show with the disputed one.

    Args:
        disputed: a module, bundle, ``.onnx`` file, endpoint or callable, as all models here.
        marks: the parties' triggers.
        models: what each party shows; None for nothing.
        log2_alphas: the rules of the two claims, log2 of the p-value that counts as proof.
        controls: independently trained models of the same task.
        pictures: fresh abstract pictures, at least 1.
        alpha: level of McNemar's test.
        seed: of the pictures; None draws them from the operating system, so that nobody can
            prepare a model for them.

    Raises:
        InvalidInput: no pictures, or `alpha` out of range.
        ModelUnsuitable, EndpointFailed: as `watermark.verify`.
    """
    if pictures < 1 or not 0 < alpha < 1:
        raise InvalidInput(
            f"{pictures} pictures, alpha {alpha}", why="at least one, and a level in (0, 1)"
        )
    if all(model is None for model in models):
        return _nothing()
    parameters = KeyParameters(
        n=pictures, classes=marks[0].classes, image_shape=marks[0].image_shape
    )
    (key,) = random_keys(parameters, 1, seed=seed)
    images = key.triggers()[0].float() / 255
    answers = open_black_box(disputed).labels(images)
    agreeing = [
        None if model is None else open_black_box(model).labels(images) == answers
        for model in models
    ]
    others = [_share(open_black_box(model).labels(images) == answers) for model in controls]
    shown = [
        None if agrees is None else _exhibit(model, marks, log2_alphas, place, _share(agrees))
        for place, (model, agrees) in enumerate(zip(models, agreeing, strict=True))
    ]
    p_value = nearer = None
    if agreeing[0] is not None and agreeing[1] is not None:
        p_value, nearer = _mcnemar(agreeing[0], agreeing[1])
    kin = [one.agreement > max(others) if one is not None and others else None for one in shown]
    both = all(one is not None and one.alone for one in shown)
    if both and (p_value is None or p_value > alpha):
        nearer = None
    older, reason = _older(shown, kin, nearer)
    return Exhibits(
        exhibits=(shown[0], shown[1]),
        pictures=pictures,
        controls=tuple(others),
        kin=(kin[0], kin[1]),
        p_value=p_value if both else None,
        older=older,
        reason=reason,
    )


def _exhibit(
    model: Any,
    marks: tuple[TriggerSet, TriggerSet],
    log2_alphas: tuple[float, float],
    place: int,
    agreement: float,
) -> Exhibit:
    matches = [count_matches(mark, model) for mark in marks]
    proven = [
        binomial_tail_log2(count, mark.n, 1 / mark.classes) <= level
        for count, mark, level in zip(matches, marks, log2_alphas, strict=True)
    ]
    return Exhibit(
        own=matches[place],
        other=matches[1 - place],
        own_proven=proven[place],
        other_proven=proven[1 - place],
        agreement=agreement,
    )


def _older(
    shown: Sequence[Exhibit | None], kin: Sequence[bool | None], nearer: int | None
) -> tuple[int | None, str]:
    alone = [place for place, one in enumerate(shown) if one is not None and one.alone]
    if not alone:
        return None, "Neither party shows a model with its own mark alone."
    related = [place for place in alone if kin[place]]
    if len(related) == 1:
        return related[0], (
            "One party alone shows a model with its mark alone that the disputed model answers "
            "like, more often than like any independent model."
        )
    if len(related) == 2:
        return None, (
            "Both show relatives of the disputed model with their mark alone; only their dates can "
            "tell which was there first."
        )
    if any(kin[place] is False for place in alone):
        return None, "The models shown are no nearer to the disputed one than independent models."
    if len(alone) == 2:
        if nearer is None:
            return None, "Both show a model with their mark alone, and neither model is nearer."
        return nearer, (
            "Both show a model with their mark alone, and the disputed model answers more like "
            "this one; whether it descends from it, only independent models would show."
        )
    (place,) = alone
    rival = shown[1 - place]
    if rival is not None and rival.other_proven:
        return place, "The other party's own model carries this party's mark."
    return None, (
        "One party shows a model with its mark alone, but nothing shows that the disputed model "
        "descends from it."
    )


def _mcnemar(first: Tensor, second: Tensor) -> tuple[float, int | None]:
    """Exact two-sided p-value over the pictures that tell the two apart; and who has more."""
    only = [int((first & ~second).sum()), int((second & ~first).sum())]
    if only[0] == only[1]:
        return 1.0, None
    tail = binomial_tail(max(only), sum(only), 0.5)
    return min(1.0, 2 * tail), int(only[1] > only[0])


def _share(agreeing: Tensor) -> float:
    return float(agreeing.double().mean())


def _nothing() -> Exhibits:
    return Exhibits(
        exhibits=(None, None),
        pictures=0,
        controls=(),
        kin=(None, None),
        p_value=None,
        older=None,
        reason="Neither party shows a model with its own mark alone.",
    )
