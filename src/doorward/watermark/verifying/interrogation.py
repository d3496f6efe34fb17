"""Asking a suspect about triggers that are known to be the owner's, and what comes out.

>>> import torch
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada, judge = Identity.new("Ada"), Identity.new("Judge")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> case = Case(make_claim(key, ada, alpha=1e-9), ada.public)
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> found = interrogate(case, Shown.by(key), innocent)
>>> found.verdict.verified, len(found.sign(judge).record.answers)
(False, 40)

Both `examine` (a whole key) and `examine_opening` (a few opened triggers) end here.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from doorward.bundles import open_black_box
from doorward.bundles.identity import Identity
from doorward.data import ImageSource
from doorward.errors import EndpointFailed, IntegrityError, InvalidInput, ModelUnsuitable
from doorward.models import BlackBox
from doorward.randomness import Secret
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying.history import Earlier, Entry, History
from doorward.watermark.verifying.interview import Notes, hold, open_notes
from doorward.watermark.verifying.naming import describe, name_of, source_of
from doorward.watermark.verifying.observing import observe
from doorward.watermark.verifying.plan import QueryPlan
from doorward.watermark.verifying.queries import Queries
from doorward.watermark.verifying.ruling import Case, count, require_classes
from doorward.watermark.verifying.shown import Shown
from doorward.watermark.verifying.transcript import Proceedings, Transcript, versions

__all__ = ["Examination", "interrogate", "now", "require_same_classes"]


@dataclass(frozen=True)
class Examination:
    """A verdict and what it rests on.

    Attributes:
        verdict: what `verify` returns.
        notes: what was asked and answered; None if the key was the wrong one.
        queries: the questions themselves.
        triggers: numbers of the triggers that were asked about; None for all of the key's.
        earlier: how many verifications came before, if a history was given.
    """

    verdict: Verdict
    notes: Notes | None = None
    queries: Queries | None = None
    triggers: tuple[int, ...] | None = None
    earlier: Earlier | None = None

    def sign(
        self, verifier: Identity, *, concealed: bool = False, created: datetime | None = None
    ) -> Transcript:
        """Vouch for the answers.

        Args:
            verifier: who signs: the one who asked.
            concealed: leave the seed out. The transcript then does not show which questions were
                triggers, except to those who know the triggers; so it may be published while
                triggers are still secret. Both forms may be signed.
            created: time to write into it, by default now.

        Raises:
            InvalidInput: nothing was asked.
        """
        if self.notes is None or self.queries is None:
            raise InvalidInput(
                "there is nothing to sign: the suspect was not asked",
                why="the key does not open the claim's commitment",
                remedy="give the key that the claim is about",
            )
        notes = self.notes
        record = Proceedings(
            claim=notes.claim,
            suspect=notes.suspect,
            plan=notes.plan,
            covers=notes.covers,
            triggers=self.triggers,
            seal=self.queries.seal,
            seed=None if concealed else notes.seed,
            queries=self.queries.commitments(),
            answers=notes.answers,
            began=notes.began,
            earlier=self.earlier,
            verdict=self.verdict,
            versions=versions(),
        )
        return Transcript.sign(record, verifier, created=created)


def interrogate(
    case: Case,
    shown: Shown,
    suspect: Any,
    *,
    plan: QueryPlan | None = None,
    covers: ImageSource | None = None,
    resume: str | os.PathLike[str] | None = None,
    history: History | None = None,
    name: str | None = None,
    accused: str | None = None,
    trust_factory: bool = False,
) -> Examination:
    """Ask a suspect about triggers that have been checked against the claim, and judge it.

    Args:
        case: the claim, already checked, and the level that decides about `shown`.
        shown: the triggers to ask about.
        suspect: as in `verify`.
        plan: as in `examine`.
        covers: as in `examine`.
        resume: as in `examine`.
        history: as in `examine`.
        name: what to call a suspect that is a function (see `suspect_id`).
        accused: the name that the suspect must have, if it is known before.
        trust_factory: as `bundles.open_black_box`.

    Returns:
        The verdict, and what it rests on.

    Raises:
        IntegrityError: it is not the suspect that was accused.
        BadFile, ModelUnsuitable, InvalidInput, EndpointFailed: as `verify`.
    """
    plan = plan or QueryPlan()
    covers = covers if plan.cover_share else None
    box = open_black_box(suspect, trust_factory=trust_factory)
    found = name_of(suspect, box, name)
    if accused not in (None, found):
        raise IntegrityError(
            "this is not the suspect that was accused",
            why=f"that is {accused:.100}, this is {found:.100}",
            remedy="give the model that was accused",
        )
    notes = Notes(
        claim=case.claim.digest(),
        suspect=found,
        triggers=shown.indices,
        plan=plan,
        covers=source_of(covers),
        seed=Secret.new().reveal().hex(),
        began=now(),
    )
    if resume is not None:
        notes = open_notes(resume, notes)
    queries = Queries(plan, shown, Secret(bytes.fromhex(notes.seed)), covers)
    answers = _ask(queries, box, notes, resume)
    given = [answers[place] for _, place in sorted(queries.places("trigger").items())]
    verdict = case.judge(
        *count(given, shown.labels.tolist(), classes=shown.parameters.classes),
        n=len(shown),
        at=max(now(), notes.began),
        suspect=describe(box),
        behaviour=replace(observe(queries, answers), extra_classes=_extra(box, shown)),
    )
    entry = Entry(
        claim=notes.claim,
        suspect=notes.suspect,
        seal=queries.seal,
        at=verdict.verified_at,
        verified=verdict.verified,
    )
    return Examination(
        verdict=verdict,
        notes=replace(notes, answers=tuple(answers)),
        queries=queries,
        triggers=case.lot,
        earlier=None if history is None else history.note(entry),
    )


def require_same_classes(box: BlackBox, classes: int) -> None:
    """Refuse a suspect that says that it has another number of classes than the key.

    Raises:
        ModelUnsuitable: so it is.
    """
    if box.num_classes is not None and box.num_classes != classes:
        raise ModelUnsuitable(
            f"the suspect has {box.num_classes} classes",
            why=f"the key is for {classes}",
            remedy="this key cannot have marked this model; compare the right ones",
        )


def _ask(
    queries: Queries, box: BlackBox, notes: Notes, resume: str | os.PathLike[str] | None
) -> list[int | None]:
    classes = queries.shown.parameters.classes
    answers = list(notes.answers[: len(queries)])
    if len(answers) == len(queries):
        return answers
    _require_enough_classes(box, classes)

    def keep(so_far: Sequence[int | None]) -> None:
        if resume is not None:
            replace(notes, answers=tuple(so_far)).save(resume)

    try:
        hold(queries, box, answers, keep=keep)
    except EndpointFailed as error:
        if resume is None:
            raise
        raise EndpointFailed(
            error.what,
            why=error.why,
            remedy=f"{len(answers)} of {len(queries)} answers are kept in {resume}: run the same "
            "command again later",
        ) from error
    _require_enough_classes(box, classes)  # some suspects show it only in their answers
    require_classes(answers, classes)
    return answers


def _require_enough_classes(box: BlackBox, classes: int) -> None:
    """As `require_same_classes`, but a thief who adds a class for refusals does not escape."""
    if (box.num_classes or classes) < classes:
        require_same_classes(box, classes)


def _extra(box: BlackBox, shown: Shown) -> int:
    classes = shown.parameters.classes
    return max(0, (box.num_classes or classes) - classes)


def now() -> str:
    """The moment, as documents write it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
