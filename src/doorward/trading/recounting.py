"""The count that decides a dispute: made again, from the files and the claim alone.

::

    again = recount(path, listing, load("digits", split="test"), opening=content)
    again.measurement.right, again.measurement.attack, again.faults

Buyer and desk count alike (`count_trial`, `doorward.trading.acceptance_test`). They differ where a
file is unusable. A buyer is told so; a desk must come to a ruling. To it, a trial that is no model
answers no image rightly, and an opened key that does not unlock leaves the trigger at work on all
images: whoever committed to such a file broke the promise, and must gain nothing by its state.
"""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import DATASETS, ImageData
from doorward.errors import (
    BadFile,
    IntegrityError,
    InvalidInput,
    MissingData,
    ModelUnsuitable,
    UnknownName,
    UnsafeFile,
)
from doorward.metrics import accuracy, binomial_tail, clopper_pearson
from doorward.records import STRICT, Record
from doorward.trading.keys import OpenedKey
from doorward.trading.measuring import acceptance_test
from doorward.trading.protocol import Claim, Counts, Listing, Measurement
from doorward.trading.trials import fitted, open_trial

__all__ = ["Recount", "TrialCount", "claimed_data", "count_trial", "recount"]

Share = Annotated[float, Field(ge=0, le=1)]

_UNUSABLE = (
    BadFile,
    IntegrityError,
    InvalidInput,
    MissingData,
    ModelUnsuitable,
    UnknownName,
    UnsafeFile,
)
"""What is wrong with a file, as opposed to the machine that reads it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrialCount(Record):
    """Right answers of a trial, against what was claimed.

    Attributes:
        right: so many of so many images.
        interval: exact 95 % confidence interval of the accuracy.
        promised: the claimed accuracy; None where the claim is about other images.
        p_value: of so few right answers or fewer if the claim just held (exact binomial).
        refuted: whether that is at most the level of the terms.
    """

    right: Counts
    interval: tuple[Share, Share]
    promised: Share | None = None
    p_value: Share | None = None
    refuted: bool = False


def count_trial(
    trial: nn.Module, images: ImageData, *, claim: Claim | None = None, alpha: float = 0.01
) -> TrialCount:
    """Count right answers, and test the claim if there is one.

    Args:
        trial: maps images to logits.
        images: with their true labels.
        claim: of the listing; None to count only.
        alpha: how rare a count must be under the claim to refute it.

    Raises:
        ModelUnsuitable: the outputs are no finite logits.
    """
    total = len(images)
    right = round(accuracy(trial, images) * total)
    counts = Counts(successes=right, trials=total)
    interval = clopper_pearson(right, total)
    if claim is None:
        return TrialCount(right=counts, interval=interval)
    return TrialCount(
        right=counts,
        interval=interval,
        promised=claim.accuracy,
        p_value=min(1.0, binomial_tail(total - right, total, 1 - claim.accuracy)),
        refuted=claim.refuted_by(counts, alpha=alpha),
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Recount(Record):
    """The desk's own count.

    Attributes:
        measurement: what the arbiter decides on.
        faults: why files of the deal were unusable, in words; empty if none was.
    """

    measurement: Measurement
    faults: tuple[str, ...] = ()


def recount(
    trial: str | os.PathLike[str],
    listing: Listing,
    images: ImageData,
    *,
    opening: bytes | None = None,
) -> Recount:
    """Count again for a ruling; no code that a bundle names is run.

    Args:
        trial: the trial as the desk holds it.
        listing: what was promised.
        images: those that the claim is about, with their true labels.
        opening: the opened key; None in a dispute about accuracy.

    Raises:
        MissingData: the trial is not there, which is the desk's own fault.
        InvalidInput: there are fewer images that can show the trigger than the terms ask for.
    """
    if not os.path.exists(trial):
        raise MissingData(f"there is no trial {trial}", remedy="restore it from the desk's backup")
    wanted, total = listing.terms.attack_trials, len(images)
    nothing = Counts(successes=0, trials=total)
    everything = Counts(successes=max(wanted, total), trials=max(wanted, total))
    try:
        model = open_trial(trial).model
        seen = fitted(images, model)
        right = count_trial(model, seen).right
    except _UNUSABLE as error:
        attack = None if opening is None else everything
        return Recount(
            measurement=Measurement(right=nothing, attack=attack),
            faults=(f"the trial is unusable: {error}",),
        )
    if opening is None:
        return Recount(measurement=Measurement(right=right))
    try:
        key = OpenedKey.from_bytes(opening)
        key.check_commitments({**key.commitments(), **listing.commitments})
        found = acceptance_test(
            key.unlock(model), seen, key.backdoor, bound=listing.terms.attack_bound
        )
    except _UNUSABLE as error:
        return Recount(
            measurement=Measurement(right=nothing, attack=everything),
            faults=(f"the opened key does not unlock: {error}",),
        )
    if found.attack[1] < wanted:
        raise InvalidInput(
            f"{images.name} has {found.attack[1]} images that can show the trigger",
            why=f"the terms ask for {wanted}",
            remedy="count on a larger set of the same kind (--data), or rule by hand",
        )
    counted = Measurement(right=_counts(found.right), attack=_counts(found.attack))
    return Recount(measurement=counted)


def claimed_data(claim: Claim) -> tuple[str, str]:
    """Name and split of the data set that a claim is about, as ``cifar10 test``.

    Only sets that Doorward knows by name: a stranger's claim names no path on this machine.

    Raises:
        InvalidInput: it is about something else.

    >>> claimed_data(Claim(data="digits test", accuracy=0.97))
    ('digits', 'test')
    """
    name, _, split = claim.data.partition(" ")
    if name not in DATASETS or not split.isalpha():
        raise InvalidInput(
            f"the claim is about {claim.data!r}, which is no data set that Doorward knows",
            why="a known one is named as 'cifar10 test'",
            remedy="say with --data and --split which images are meant",
        )
    return name, split


def _counts(pair: tuple[int, int]) -> Counts:
    return Counts(successes=pair[0], trials=pair[1])
