"""Asking a suspect all questions, once each, whatever it or the line does meanwhile.

>>> import torch
>>> from doorward.models import as_black_box
>>> from doorward.randomness import Secret
>>> from doorward.watermark.key import WatermarkKey
>>> from doorward.watermark.verifying.plan import QueryPlan
>>> from doorward.watermark.verifying.queries import Queries
>>> from doorward.watermark.verifying.shown import Shown
>>> key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
>>> queries = Queries(QueryPlan(batch_size=8), Shown.by(key), Secret.new())
>>> suspect = as_black_box(lambda images: torch.zeros(len(images), dtype=torch.int64))
>>> answers = []
>>> hold(queries, suspect, answers)
>>> answers == [0] * 20
True

Passing troubles of an endpoint are retried below (`doorward.models.transport`). What arrives here
is a batch that got no answer in the end. Either the endpoint is gone: then the interview stops, and
goes on later from its notes. Or the suspect refuses something in the batch: then each image is
asked by itself, and one that fails while the suspect still answers something else (an earlier
question, a plain grey picture) is a refusal. So a hostile suspect that fails on triggers only, in
whatever way, cannot stop a verification.

The notes are a file that is replaced, whole, after every answer. Its reader learns the order of the
questions (it holds the seed) but no label of the key. A batch that was under way when the process
died is asked again; nothing else is.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.bundles.documents import Moment, read_object
from doorward.data import to_pixels
from doorward.errors import BadFile, EndpointFailed, InvalidInput, ModelUnsuitable
from doorward.files import write_json
from doorward.models import BlackBox
from doorward.models.answers import to_labels
from doorward.records import STRICT, Record, Version1
from doorward.watermark.statement import Hash
from doorward.watermark.verifying.plan import QueryPlan

__all__ = ["Given", "Notes", "Questions", "hold", "open_notes"]

Given = Annotated[int, Field(ge=0, lt=2**31, strict=True)] | None
"""The label that a suspect gave, or None where it gave none."""

_PATIENCE = 16
"""Images that may fail, one by one, before a suspect that never answered is given up."""

_TROUBLES = (EndpointFailed, ModelUnsuitable)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Notes(Record):
    """What has been asked and answered so far: the content of a resume file.

    Attributes:
        claim: digest of the claim.
        suspect: the suspect's name (`suspect_id`).
        triggers: numbers of the triggers that are asked about.
        plan: what is asked.
        covers: digest of the cover images; None for look-alikes.
        seed: decides the order, hex.
        began: when the first question was asked.
        answers: in that order, as far as it got.
    """

    format: Literal["doorward-verification-notes"] = "doorward-verification-notes"
    version: Version1 = 1
    claim: Hash
    suspect: str
    triggers: tuple[Annotated[int, Field(ge=0, strict=True)], ...]
    plan: QueryPlan
    covers: str | None
    seed: Hash
    began: Moment
    answers: tuple[Given, ...] = ()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the notes, readable by their owner only."""
        write_json(path, self.to_dict(), private=True)


class Questions(Protocol):
    """What is asked: `Queries`, or some of them."""

    @property
    def plan(self) -> QueryPlan:
        """How fast, and how many at once."""

    def __len__(self) -> int:
        """How many."""

    def images(self, places: Sequence[int]) -> Tensor:
        """The uint8 images ``(B, C, H, W)`` at some places."""


def open_notes(path: str | os.PathLike[str], fresh: Notes) -> Notes:
    """The notes in a file, or `fresh` ones if there is no such file yet.

    Args:
        path: the resume file.
        fresh: what a verification that begins now would note.

    Raises:
        BadFile: the file holds no notes.
        InvalidInput: they are of another claim, suspect or plan.
    """
    if not Path(path).exists():
        return fresh
    try:
        found = Notes.from_dict(read_object(path))
    except InvalidInput as error:
        raise BadFile(
            f"{path} holds no notes of a verification",
            why=error.why,
            remedy="give another file, or delete this one to begin anew",
        ) from error
    names = ("claim", "suspect", "triggers", "plan", "covers")
    other = [name for name in names if getattr(found, name) != getattr(fresh, name)]
    if other:
        raise InvalidInput(
            f"{path} belongs to another verification",
            why=f"it differs in: {', '.join(other)}",
            remedy="give the same arguments as then, or another file",
        )
    return found


def hold(
    queries: Questions,
    box: BlackBox,
    answers: list[int | None],
    *,
    keep: Callable[[Sequence[int | None]], None] = lambda answers: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Ask all questions that have no answer yet.

    Args:
        queries: the questions.
        box: the suspect.
        answers: of the first questions, from an earlier attempt; the others are appended.
        keep: is given all answers so far, after every request that brought some.
        sleep: how to wait between requests, where the plan limits their rate.
        clock: tells the time in seconds.

    Raises:
        EndpointFailed, ModelUnsuitable: the suspect does not answer (any more).
        InvalidInput: it takes images of another shape.
    """
    interview = _Interview(queries, box, answers, keep, sleep, clock)
    size = queries.plan.batch_size
    while len(answers) < len(queries):
        batch = range(len(answers), min(len(answers) + size, len(queries)))
        if not interview.ask(batch):
            size = max(1, size // 2)  # it is the number of images that the suspect did not take


class _Interview:
    def __init__(
        self,
        queries: Questions,
        box: BlackBox,
        answers: list[int | None],
        keep: Callable[[Sequence[int | None]], None],
        sleep: Callable[[float], None],
        clock: Callable[[], float],
    ) -> None:
        self.queries, self.box, self.answers, self.keep = queries, box, answers, keep
        self.sleep, self.clock, self.allowed = sleep, clock, clock()
        # What was answered before tells, when asked again, whether anybody is still there.
        known = next((i for i, label in enumerate(answers) if label is not None), None)
        self.witness = None if known is None else queries.images([known])

    def ask(self, batch: range) -> bool:
        """Ask some questions at once; False if they were answered one by one, but not so."""
        images = self.queries.images(batch)
        try:
            self._add(self._labels(images))
        except _TROUBLES as trouble:
            if self.witness is None:
                self._find_witness(torch.full_like(images[:1], 128))
            return self._one_by_one(batch, trouble)
        self.witness = images[:1]
        return True

    def _one_by_one(self, batch: range, trouble: Exception) -> bool:
        if self.witness is None:  # a few more, lest a small batch of refusals looks like an end
            last = min(batch.start + _PATIENCE, len(self.queries))
            for place in range(batch.start, last):
                self._find_witness(self.queries.images([place]))
                if self.witness is not None:
                    break
        if self.witness is None:
            raise trouble
        answers = [self._answer_or_refusal(place, self.witness) for place in batch]
        return None in answers or len(batch) == 1

    def _find_witness(self, image: Tensor) -> None:
        try:
            self._labels(image)
        except _TROUBLES:
            return
        self.witness = image

    def _answer_or_refusal(self, place: int, witness: Tensor) -> int | None:
        try:
            (label,) = self._labels(self.queries.images([place]))
        except _TROUBLES:
            self._labels(witness)  # raises what has become of the suspect
            label = None
        self._add([label])
        return label

    def _labels(self, images: Tensor) -> list[int | None]:
        if self.allowed > self.clock():
            self.sleep(self.allowed - self.clock())
        rate = self.queries.plan.per_second
        self.allowed = self.clock() + (len(images) / rate if rate else 0.0)
        return [*to_labels(self.box.labels(to_pixels(images)), len(images)).tolist()]

    def _add(self, labels: Sequence[int | None]) -> None:
        self.answers.extend(labels)
        self.keep(self.answers)
