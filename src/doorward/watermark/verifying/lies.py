"""False transcripts: contents that are not what happened, with or without a signature.

>>> court = Courtroom.example()
>>> court.check(FORGERIES["lie: counts, and all that follows"](court, random.Random(0)))
Traceback (most recent call last):
doorward.errors.IntegrityError: the transcript was counted wrongly: ...

Each content is tried three times: in the genuine document, whose signature then no longer fits;
signed by a stranger; and signed by the verifier, whose lie it is. Importing this module files them
in `FORGERIES`.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from doorward.bundles.signed import sign_document
from doorward.randomness import Secret
from doorward.watermark.claim import PURPOSE as CLAIM
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying.courtroom import Courtroom, Forgery, as_bytes
from doorward.watermark.verifying.forgeries import FORGERIES, Forger
from doorward.watermark.verifying.queries import Queries
from doorward.watermark.verifying.ruling import Case
from doorward.watermark.verifying.shown import Shown
from doorward.watermark.verifying.transcript import PURPOSE

__all__ = ["LIES"]

Content = dict[str, Any]
Lie = Callable[[Content, Courtroom, random.Random], None]


def _counts(content: Content, court: Courtroom, draws: random.Random) -> None:
    """Another number of matches."""
    content["verdict"]["matches"] += draws.choice([-3, -2, -1, 1, 2, 3])


def _all_counts(content: Content, court: Courtroom, draws: random.Random) -> None:
    """Another number of matches, with the p-value and verdict that belong to it."""
    stated = Verdict.from_dict(content["verdict"])
    matches = draws.choice([k for k in range(stated.n + 1) if k != stated.matches])
    content["verdict"] = _judged(court, stated, matches, 0).to_dict()


def _refusals(content: Content, court: Courtroom, draws: random.Random) -> None:
    """Triggers that were answered are said to have been refused, and all counts fit that."""
    queries, stated = _queries(court), Verdict.from_dict(content["verdict"])
    gone = draws.randint(1, 3)
    for place in list(queries.places("trigger").values())[:gone]:
        content["answers"][place] = None
    matches = max(0, (stated.matches or 0) - gone)
    verdict = _judged(court, stated, matches, gone)
    if verdict.behaviour is not None:
        verdict = replace(verdict, behaviour=replace(verdict.behaviour, triggers_refused=gone))
    content["verdict"] = verdict.to_dict()


def _flipped(content: Content, court: Courtroom, draws: random.Random) -> None:
    """Yes instead of no, or no instead of yes."""
    content["verdict"]["verified"] = not content["verdict"]["verified"]


def _p_value(content: Content, court: Courtroom, draws: random.Random) -> None:
    """A more impressive probability."""
    content["verdict"]["log2_p"] -= draws.randint(1, 100)


def _weaker_rule(content: Content, court: Courtroom, draws: random.Random) -> None:
    """Judged by a rule that asks for less than the claim's."""
    stated = Verdict.from_dict(content["verdict"])
    level = draws.uniform(court.claim.statement.log2_alpha / 2, -0.1)
    weaker = _judged(court, stated, stated.matches or 0, stated.unanswered, level)
    content["verdict"] = weaker.to_dict()


def _answer(content: Content, court: Courtroom, draws: random.Random) -> None:
    """One answer is another one."""
    place = draws.randrange(len(content["answers"]))
    others = set(range(court.key.classes)) - {content["answers"][place]}
    content["answers"][place] = draws.choice(sorted(others))


def _answers_moved(content: Content, court: Courtroom, draws: random.Random) -> None:
    """Two answers change places."""
    answers = content["answers"]
    pairs = [(i, j) for i in range(len(answers)) for j in range(i) if answers[i] != answers[j]]
    one, other = draws.choice(pairs)
    answers[one], answers[other] = answers[other], answers[one]


def _questions_moved(content: Content, court: Courtroom, draws: random.Random) -> None:
    """Two questions change places, and their answers with them."""
    one, other = draws.sample(range(len(content["queries"])), 2)
    for listed in (content["queries"], content["answers"]):
        listed[one], listed[other] = listed[other], listed[one]


def _question(content: Content, court: Courtroom, draws: random.Random) -> None:
    """A question is another one."""
    content["queries"][draws.randrange(len(content["queries"]))] = f"{draws.getrandbits(256):064x}"


def _shortened(content: Content, court: Courtroom, draws: random.Random) -> None:
    """A question and its answer are left out."""
    place = draws.randrange(len(content["queries"]))
    del content["queries"][place], content["answers"][place]


def _seed(content: Content, court: Courtroom, draws: random.Random) -> None:
    """Another order is said to have been drawn."""
    seed = draws.randbytes(32)
    content["seed"] = seed.hex()
    content["seal"] = Queries(court.transcript.record.plan, _shown(court), Secret(seed)).seal


def _claim(content: Content, court: Courtroom, draws: random.Random) -> None:
    """It is said to be about another claim."""
    content["claim"] = court.other_claim.digest()
    content["verdict"]["root"] = court.other_claim.statement.root


def _suspect(content: Content, court: Courtroom, draws: random.Random) -> None:
    """It is said to be about another suspect."""
    content["suspect"] = f"module:{draws.getrandbits(256):064x}"


def _plan(content: Content, court: Courtroom, draws: random.Random) -> None:
    """More covers are said to have been asked about."""
    content["plan"]["cover_share"] = draws.uniform(0.6, 0.75)


def _behaviour(content: Content, court: Courtroom, draws: random.Random) -> None:
    """The suspect is said to have wavered, or not to have."""
    seen = content["verdict"]["behaviour"]
    seen["jittered_triggers_changed"] = (
        0 if seen["jittered_triggers_changed"] else max(1, seen["jittered_triggers"])
    )


def _owner(content: Content, court: Courtroom, draws: random.Random) -> None:
    """The claim is said to be somebody else's."""
    content["verdict"]["owner"] = court.stranger.public.name


def _claimed(content: Content, court: Courtroom, draws: random.Random) -> None:
    """The claim is said to be older."""
    content["verdict"]["claimed"] = f"20{draws.randint(10, 24)}-01-01T00:00:00Z"


def _times(content: Content, court: Courtroom, draws: random.Random) -> None:
    """The last answer is said to have come before the first question."""
    content["verdict"]["verified_at"] = f"20{draws.randint(10, 24)}-01-01T00:00:00Z"


LIES: dict[str, Lie] = {
    "counts": _counts,
    "counts, and all that follows": _all_counts,
    "refusals": _refusals,
    "verdict": _flipped,
    "p-value": _p_value,
    "rule": _weaker_rule,
    "an answer": _answer,
    "order of answers": _answers_moved,
    "order of questions": _questions_moved,
    "a question": _question,
    "number of questions": _shortened,
    "seed": _seed,
    "claim": _claim,
    "suspect": _suspect,
    "plan": _plan,
    "behaviour": _behaviour,
    "owner": _owner,
    "age of the claim": _claimed,
    "times": _times,
}
"""What a false transcript may say."""


def _forger(lie: Lie, signer: str) -> Forger:
    def forge(court: Courtroom, draws: random.Random) -> Forgery:
        document = copy.deepcopy(dict(court.transcript.document))
        lie(document["content"], court, draws)
        if signer != "nobody":
            identity = court.verifier if signer == "verifier" else court.stranger
            document = sign_document(document["content"], identity, purpose=PURPOSE)
        return Forgery(court.genuine().claim, as_bytes(document))

    forge.__doc__ = lie.__doc__
    return forge


for _name, _lie in LIES.items():
    for _prefix, _signer in (("edit", "nobody"), ("pretence", "stranger"), ("lie", "verifier")):
        FORGERIES.register(f"{_prefix}: {_name}")(_forger(_lie, _signer))


@FORGERIES.register("pretence: the verifier's name")
def _false_name(court: Courtroom, draws: random.Random) -> Forgery:
    """A stranger signs, and writes the verifier's identity beside it."""
    content = court.transcript.record.to_dict()
    document = sign_document(content, court.stranger, purpose=PURPOSE)
    document["signer"] = court.verifier.public.to_dict()
    return Forgery(court.genuine().claim, as_bytes(document))


@FORGERIES.register("lie: claim made anew")
def _claim_anew(court: Courtroom, draws: random.Random) -> Forgery:
    """The owner signs the claim again, with another rule."""
    content = court.claim.statement.to_dict()
    content["log2_alpha"] = -draws.uniform(20, 29)
    document = sign_document(content, court.owner, purpose=CLAIM)
    return Forgery(as_bytes(document), court.genuine().transcript)


def _shown(court: Courtroom) -> Shown:
    return Shown.by(court.key)


def _queries(court: Courtroom) -> Queries:
    record = court.transcript.record
    return Queries(record.plan, _shown(court), Secret(bytes.fromhex(record.seed or "")))


def _judged(
    court: Courtroom,
    stated: Verdict,
    matches: int,
    unanswered: int,
    log2_alpha: float | None = None,
) -> Verdict:
    level = stated.log2_alpha if log2_alpha is None else log2_alpha
    return Case(court.claim, court.owner.public, level).judge(
        matches,
        unanswered,
        n=stated.n,
        at=stated.verified_at,
        suspect=stated.suspect,
        behaviour=stated.behaviour,
    )
