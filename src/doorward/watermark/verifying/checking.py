"""Check somebody else's verification, offline: is it signed, is it consistent, does it add up?

>>> import torch
>>> from doorward.bundles.identity import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.verifying.examination import examine
>>> ada, judge = Identity.new("Ada"), Identity.new("Judge")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)
>>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10))
>>> transcript = examine(claim, key, model, public=ada.public).sign(judge, concealed=True)
>>> known = {"public": ada.public, "verifier": judge.public}
>>> check_transcript(transcript, claim, **known).n                      # signatures, arithmetic
40
>>> check_transcript(transcript, claim, key=key, **known).n             # and the count
40
>>> check_transcript(transcript, claim, key=key, against=model, **known).n      # and the answers
40

The more a checker holds, the less of the transcript has to be believed:

- nothing but the public files: the verifier's word is that these answers were given, and that so
  many were matches. That p-value, rule and verdict follow from these counts is checked.
- some triggers, opened (`doorward.watermark.opened`): those among the answers are counted here. An
  owner may open the ones that happened to match, so they are held against *all* triggers, as if the
  others had missed; or, if they are one lot of the claim's rule for disputes, against that rule.
- the key: all is counted here. What is left to believe is that the suspect gave the answers.
- the model itself: it is asked again, and answers again.
"""

from __future__ import annotations

import hmac
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from doorward.bundles.identity import PublicIdentity
from doorward.data import ImageSource
from doorward.errors import InvalidInput
from doorward.randomness import Secret
from doorward.watermark.claim import Claim
from doorward.watermark.key import WatermarkKey
from doorward.watermark.opened import OpenedTrigger
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying.consistency import (
    case_of,
    lot_level,
    require,
    require_consistent,
    rule_again,
)
from doorward.watermark.verifying.naming import source_of
from doorward.watermark.verifying.observing import observe
from doorward.watermark.verifying.queries import Queries, trigger_commitments
from doorward.watermark.verifying.replay import replay
from doorward.watermark.verifying.ruling import Case, count
from doorward.watermark.verifying.shown import Shown
from doorward.watermark.verifying.transcript import Proceedings, Transcript

__all__ = ["check_transcript"]


def check_transcript(
    transcript: Transcript | str | os.PathLike[str],
    claim: Claim | str | os.PathLike[str],
    *,
    public: PublicIdentity,
    verifier: PublicIdentity,
    key: WatermarkKey | None = None,
    opened: Sequence[OpenedTrigger] | None = None,
    covers: ImageSource | None = None,
    against: Any = None,
    trust_factory: bool = False,
) -> Verdict:
    """Check a transcript and reach its verdict again.

    Args:
        transcript: the transcript, or the path of its file.
        claim: the claim that it is about, or the path of its file.
        public: the owner's public identity, from a source that you trust.
        verifier: the verifier's public identity, from a source that you trust.
        key: the opened key, if you were given it.
        opened: some of its triggers, if you were given those.
        covers: the cover images, if you have them: then it is checked that they were asked about.
        against: the suspect itself (as in `verify`), to ask it again. Needs `key` or `opened`.
        trust_factory: as `bundles.open_black_box`.

    Returns:
        The verdict, reached anew from what you gave. With `opened`, it is over these triggers.

    Raises:
        IntegrityError: a signature does not fit; it is about another claim or suspect; it
            contradicts itself; the counts are wrong; the suspect answers otherwise.
        BadFile, MissingData: a file is not there, or is no claim or transcript.
        InvalidInput: `against` was given alone, or both `key` and `opened` were.
    """
    if key is not None and opened is not None:
        raise InvalidInput("both a key and opened triggers were given", remedy="give one of them")
    if against is not None and key is None and opened is None:
        raise InvalidInput(
            "the suspect cannot be asked again without the key",
            why="the transcript holds no images",
            remedy="give the key, or opened triggers",
        )
    claim = claim if isinstance(claim, Claim) else Claim.load(claim)
    transcript = transcript if isinstance(transcript, Transcript) else Transcript.load(transcript)
    claim.check(public)
    transcript.check(verifier)
    record = transcript.record
    case, asked = case_of(record, claim, public)
    require_consistent(transcript, case, asked)
    if key is None and opened is None:
        return rule_again(record, case)
    shown = _shown(claim, asked, key, opened)
    places = _places(record, shown)
    answers = [record.answers[place] for place in places]
    counted = count(answers, shown.labels.tolist(), classes=shown.parameters.classes)
    queries = None
    if len(shown) < len(asked):
        verdict = _over_some(record, case, shown, *counted)
    else:
        _require_counts(record, answers, *counted)
        verdict = rule_again(record, case)
        queries = _questions(record, shown, covers)
    if against is not None:
        replay(record, shown, places, queries, against, trust_factory=trust_factory)
    return verdict


def _shown(
    claim: Claim,
    asked: tuple[int, ...],
    key: WatermarkKey | None,
    opened: Sequence[OpenedTrigger] | None,
) -> Shown:
    statement = claim.statement
    if key is None:
        shown = Shown.opened(statement.key, statement.root, opened or ())
        require(
            len(shown) > 0 and set(shown.indices) <= set(asked),
            "the opened triggers are not those that were asked about",
        )
        return shown.only(asked)
    same = key.parameters == statement.key
    require(
        same and hmac.compare_digest(key.commitment(), statement.root),
        "the key does not open the claim's commitment",
        "it is another key",
    )
    return Shown.by(key).only(asked)


def _places(record: Proceedings, shown: Shown) -> list[int]:
    """Where the shown triggers are among the questions."""
    where = {query: place for place, query in enumerate(record.queries)}
    found = [where[query] for query in trigger_commitments(shown, record.seal) if query in where]
    require(
        len(found) == len(shown),
        f"{len(shown) - len(found)} of {len(shown)} triggers are not among the questions",
        "the verifier asked about other images, or the hashes were changed",
    )
    return found


def _over_some(
    record: Proceedings, case: Case, shown: Shown, matches: int, unanswered: int
) -> Verdict:
    """The verdict over opened triggers, of which the owner may have chosen the ones that match."""
    stated = record.verdict
    require(
        matches <= (stated.matches or 0) <= matches + stated.n - len(shown)
        and unanswered <= stated.unanswered,
        "the opened triggers do not fit the counts of the verdict",
    )
    level = lot_level(case.claim, shown.indices)
    if level is not None:
        lot = replace(case, log2_alpha=level)
        return rule_again(record, lot, n=len(shown), matches=matches, unanswered=unanswered)
    # As if all the others had been asked, and missed.
    return rule_again(record, case, n=stated.n, matches=matches, unanswered=0)


def _require_counts(
    record: Proceedings, answers: Sequence[int | None], matches: int, unanswered: int
) -> None:
    stated = record.verdict
    refused = sum(answer is None for answer in answers)
    require(
        (matches, unanswered) == (stated.matches, stated.unanswered)
        and (stated.behaviour is None or refused == stated.behaviour.triggers_refused),
        "the transcript was counted wrongly",
        f"it says {stated.matches} matches and {stated.unanswered} without a usable answer; there "
        f"are {matches} and {unanswered}, {refused} of them refused",
    )


def _questions(record: Proceedings, shown: Shown, covers: ImageSource | None) -> Queries | None:
    """All questions, laid out again from the seed, if it and all their images are there."""
    if record.seed is None:
        return None
    source = source_of(covers)
    require(
        covers is None or source == record.covers,
        "these are not the covers of the transcript",
        f"they were {record.covers or 'look-alikes'}, these are {source}",
    )
    queries = Queries(record.plan, shown, Secret(bytes.fromhex(record.seed)), covers)
    require(queries.seal == record.seal, "the seed is not the one that was sealed")
    known: Sequence[int] = range(len(queries))
    if record.covers is not None and covers is None:  # images that are not here: taken on trust
        known = [place for place, kind in enumerate(queries.kinds) if "trigger" in kind]
    require(
        queries.commitments(known) == tuple(record.queries[place] for place in known),
        "the questions do not follow from the seed",
    )
    stated = record.verdict.behaviour
    require(
        stated is not None
        and replace(
            observe(queries, record.answers),
            covers=stated.covers,
            extra_classes=stated.extra_classes,
        )
        == stated,
        "the suspect's behaviour was counted wrongly",
    )
    return queries if len(known) == len(queries) else None
