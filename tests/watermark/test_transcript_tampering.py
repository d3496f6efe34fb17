"""A thousand forgeries of claims and transcripts, every one of them refused."""

import json
import random

import pytest

from doorward.bundles.documents import parse_object
from doorward.bundles.signed import sign_document
from doorward.errors import BadFile, DoorwardError, IntegrityError, InvalidInput
from doorward.watermark.verifying import Transcript, check_transcript
from doorward.watermark.verifying.courtroom import Courtroom, Forgery, as_bytes
from doorward.watermark.verifying.forgeries import FORGERIES
from doorward.watermark.verifying.lies import LIES
from doorward.watermark.verifying.tampering import attack
from doorward.watermark.verifying.transcript import PURPOSE


@pytest.fixture(scope="module")
def court():
    return Courtroom.example()


def test_a_thousand_forgeries_are_refused(court):
    result = attack(court, 1000, seed=0)
    assert result.tried == 1000
    assert sum(result.kinds.values()) == 1000
    assert set(result.kinds) == set(FORGERIES)
    assert min(result.kinds.values()) >= 12
    assert (result.accepted, result.slipped) == (0, ())


def test_the_genuine_papers_are_accepted_before_and_after(court):
    for _ in range(2):
        assert court.check(court.genuine()).verified
        assert attack(court, 50, seed=1).accepted == 0


@pytest.mark.parametrize("name", LIES)
def test_each_lie_of_the_verifier_is_found_for_its_own_reason(court, name):
    """Signed by the verifier, no lie fails at the signature."""
    for number in range(3):
        with pytest.raises(IntegrityError) as caught:
            court.check(FORGERIES[f"lie: {name}"](court, random.Random(number)))
        assert "signature" not in str(caught.value)
        assert "signed" not in caught.value.what


def test_a_forgery_that_passes_is_reported(court, monkeypatch):
    """The attack itself is not blind: what the court takes, it counts."""
    monkeypatch.setattr(Courtroom, "check", lambda self, papers: None)
    result = attack(court, 2 * len(FORGERIES), seed=0)
    assert result.accepted == result.tried
    assert set(result.slipped) == set(FORGERIES)


def test_an_attack_on_papers_that_are_not_genuine_is_refused(court):
    from dataclasses import replace

    broken = replace(court, claim=court.other_claim)
    with pytest.raises(InvalidInput, match="refused"):
        attack(broken, 1)


def test_what_is_written_otherwise_but_says_the_same_is_not_a_forgery(court):
    same = json.dumps(dict(court.transcript.document)).encode()
    assert court.check(Forgery(court.genuine().claim, same)).verified


def test_fields_of_the_envelope_may_not_be_left_out(court):
    for name in ("format", "version"):
        document = dict(court.transcript.document)
        del document[name]
        with pytest.raises(BadFile):
            court.check(Forgery(court.genuine().claim, as_bytes(document)))


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c | {"answers": [10**400, *c["answers"][1:]]},
        lambda c: c | {"answers": [True, *c["answers"][1:]]},
        lambda c: c | {"answers": [1.0, *c["answers"][1:]]},
        lambda c: c | {"answers": [-1, *c["answers"][1:]]},
        lambda c: c | {"answers": []},
        lambda c: c | {"queries": []},
        lambda c: c | {"queries": [c["queries"][0]] * len(c["queries"])},
        lambda c: c | {"queries": [q.upper() for q in c["queries"]]},
        lambda c: c | {"version": 2},
        lambda c: c | {"version": "1"},
        lambda c: c | {"triggers": []},
        lambda c: c | {"triggers": [0]},
        lambda c: c | {"triggers": list(reversed(range(20)))},
        lambda c: c | {"seed": None, "seal": "0" * 64},
        lambda c: c | {"began": "2999-01-01T00:00:00Z"},
        lambda c: c | {"began": "2026-02-30T00:00:00Z"},
        lambda c: c | {"note": "trust me"},
        lambda c: c | {"suspect": "named:\x1b[2Jgood"},
        lambda c: c | {"suspect": ""},
        lambda c: c | {"plan": c["plan"] | {"cover_share": 0.9}},
        lambda c: c | {"plan": c["plan"] | {"batch_size": 10**400}},
        lambda c: c | {"covers": "digits sha256:00"},
        lambda c: c | {"verdict": c["verdict"] | {"matches": None}},
        lambda c: c | {"verdict": c["verdict"] | {"matches": -1}},
        lambda c: c | {"verdict": c["verdict"] | {"matches": 10**30}},
        lambda c: c | {"verdict": c["verdict"] | {"unanswered": 21}},
        lambda c: c | {"verdict": c["verdict"] | {"unanswered": -1}},
        lambda c: c | {"verdict": c["verdict"] | {"n": 10**9}},
        lambda c: c | {"verdict": c["verdict"] | {"behaviour": None}},
        lambda c: c | {"verdict": c["verdict"] | {"commitment_opened": False}},
        lambda c: c | {"verdict": c["verdict"] | {"interval": [0, 1]}},
        lambda c: c | {"verdict": c["verdict"] | {"p_value": 0.0}},
    ],
)  # fmt: skip
def test_what_a_verifier_signs_must_still_make_sense(court, change):
    """Contents no honest software writes, under a genuine signature; the key is not even needed."""
    content = json.loads(json.dumps(court.transcript.record.to_dict()))
    document = sign_document(change(content), court.verifier, purpose=PURPOSE)
    known = {"public": court.owner.public, "verifier": court.verifier.public}
    with pytest.raises(IntegrityError):
        check_transcript(
            Transcript.from_document(parse_object(as_bytes(document), "it")),
            court.claim,
            key=court.key,
            **known,
        )


def test_a_transcript_asks_for_no_memory_that_its_length_does_not_justify(court):
    """A stranger's plan of a million covers is refused before any is drawn."""
    content = court.transcript.record.to_dict()
    content["plan"]["cover_share"] = 0.95
    document = sign_document(content, court.verifier, purpose=PURPOSE)
    with pytest.raises(DoorwardError, match="not those of the plan"):
        court.check(Forgery(court.genuine().claim, as_bytes(document)))
