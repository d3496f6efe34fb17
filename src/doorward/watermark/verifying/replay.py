"""Ask a suspect again what a transcript says it was asked, and compare the answers.

>>> import torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> from doorward.watermark.verifying.checking import check_transcript
>>> from doorward.watermark.verifying.examination import examine
>>> ada, judge = Identity.new("Ada"), Identity.new("Judge")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)
>>> models = [torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10)) for _ in range(2)]
>>> transcript = examine(claim, key, models[0], public=ada.public).sign(judge)
>>> known = {"public": ada.public, "verifier": judge.public, "key": key}
>>> check_transcript(transcript, claim, **known, against=models[1])
Traceback (most recent call last):
doorward.errors.IntegrityError: this is not the suspect of the transcript: ...

A local model that computes as it did gives the same answers: the same questions come in the same
batches. Another processor or another version of the software may round otherwise, which can turn
an answer that was a near tie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from doorward.bundles import open_black_box
from doorward.errors import IntegrityError
from doorward.watermark.verifying.interview import Questions, hold
from doorward.watermark.verifying.naming import name_of
from doorward.watermark.verifying.plan import QueryPlan
from doorward.watermark.verifying.queries import Queries
from doorward.watermark.verifying.shown import Shown
from doorward.watermark.verifying.transcript import Proceedings

__all__ = ["replay"]


def replay(
    record: Proceedings,
    shown: Shown,
    places: Sequence[int],
    queries: Queries | None,
    suspect: Any,
    *,
    trust_factory: bool = False,
) -> None:
    """Ask again.

    Args:
        record: what the transcript says.
        shown: triggers that are known here.
        places: where they are among the questions.
        queries: all questions, if all their images are known; else only `shown` is asked about.
        suspect: as in `verify`.
        trust_factory: as `bundles.open_black_box`.

    Raises:
        IntegrityError: it is another suspect, or it gives other answers.
        ModelUnsuitable, InvalidInput, EndpointFailed: as `verify`.
    """
    box = open_black_box(suspect, trust_factory=trust_factory)
    name = name_of(suspect, box)
    if name != record.suspect:
        raise IntegrityError(
            "this is not the suspect of the transcript",
            why=f"that was {record.suspect:.100}, this is {name:.100}",
            remedy="give the same model, in the same form (bundle, file, module, address)",
        )
    told: Sequence[int | None] = record.answers
    questions: Questions | None = queries
    if questions is None:
        order = sorted(range(len(places)), key=places.__getitem__)
        questions = _Some(record.plan, shown.images[order])
        told = [record.answers[places[number]] for number in order]
    given: list[int | None] = []
    hold(questions, box, given)
    changed = sum(one != other for one, other in zip(given, told, strict=True))
    if changed:
        raise IntegrityError(
            f"the suspect answers {changed} of {len(told)} questions otherwise than the transcript "
            "says",
            why="the answers were invented or changed, or there is chance in the model's answers",
            remedy="ask the verifier; on another machine, near ties may turn",
        )


@dataclass(frozen=True)
class _Some:
    """The questions of which the images are known, asked by themselves."""

    plan: QueryPlan
    known: Tensor

    def __len__(self) -> int:
        return len(self.known)

    def images(self, places: Sequence[int]) -> Tensor:
        return self.known[list(places)]
