"""Transcripts: what anybody can check with the key, with some triggers, or with nothing."""

import dataclasses
import json

import pytest
import torch

from doorward.bundles import Identity, save_model
from doorward.data import load
from doorward.errors import BadFile, IntegrityError, InvalidInput, ModelUnsuitable
from doorward.models import create
from doorward.watermark import WatermarkKey, make_claim
from doorward.watermark.disclosure import BurnLedger, disclose, make_challenge, suspect_id
from doorward.watermark.opened import open_triggers
from doorward.watermark.verifying import (
    GUARDED,
    History,
    QueryPlan,
    Transcript,
    check_transcript,
    examine,
    explain,
)
from doorward.watermark.verifying.courtroom import taught
from doorward.watermark.verifying.openings import examine_opening

SHAPE = (1, 8, 8)
OPEN = pytest.mark.parametrize("concealed", [False, True], ids=["open", "concealed"])


@pytest.fixture(scope="module")
def people():
    return Identity.new("Ada"), Identity.new("Judge")


@pytest.fixture(scope="module")
def key(people):
    return WatermarkKey.new(n=40, image_shape=SHAPE, owner=people[0].public)


@pytest.fixture(scope="module")
def claim(key, people):
    return make_claim(key, people[0], alpha=1e-9)


@pytest.fixture(scope="module")
def suspect(key):
    """Knows 30 of the 40 triggers."""
    images, labels = key.triggers()
    labels[30:] = (labels[30:] + 1) % 10
    return taught(images.float() / 255, labels, classes=10)


@pytest.fixture(scope="module")
def digits():
    return load("digits").sample(60, seed=0).resized(8)


@pytest.fixture(scope="module")
def found(claim, key, suspect, people, digits):
    call = {"public": people[0].public, "plan": GUARDED, "covers": digits}
    return examine(claim, key, suspect, **call)


@pytest.fixture(scope="module")
def known(people):
    return {"public": people[0].public, "verifier": people[1].public}


@OPEN
def test_whoever_has_the_key_counts_again(found, claim, key, people, known, digits, concealed):
    transcript = found.sign(people[1], concealed=concealed)
    assert (transcript.record.seed is None) is concealed
    covers = None if concealed else digits
    for given in ({}, {"key": key}, {"key": key, "covers": covers}):
        assert check_transcript(transcript, claim, **known, **given) == found.verdict
    assert found.verdict.matches == 30


@OPEN
def test_the_suspect_answers_again(found, claim, key, suspect, people, known, digits, concealed):
    transcript = found.sign(people[1], concealed=concealed)
    for covers in (None, digits):
        given = {"key": key, "against": suspect, "covers": covers}
        assert check_transcript(transcript, claim, **known, **given) == found.verdict


def test_another_model_is_not_the_suspect(found, claim, key, people, known):
    transcript = found.sign(people[1])
    other = taught(torch.rand(5, *SHAPE), torch.arange(5), classes=10)
    with pytest.raises(IntegrityError, match="not the suspect"):
        check_transcript(transcript, claim, **known, key=key, against=other)
    with pytest.raises(InvalidInput, match="without the key"):
        check_transcript(transcript, claim, **known, against=other)


def test_files_say_the_same(found, claim, key, people, known, tmp_path):
    claim.save(tmp_path / "claim.json")
    found.sign(people[1]).save(tmp_path / "transcript.json")
    verdict = check_transcript(
        tmp_path / "transcript.json", str(tmp_path / "claim.json"), **known, key=key
    )
    assert verdict == found.verdict
    with pytest.raises(IntegrityError):
        Transcript.load(tmp_path / "claim.json").check(people[1].public)


@pytest.mark.parametrize(
    "form", ["bundle", pytest.param("onnx", marks=pytest.mark.slow), "address"]
)
def test_suspects_are_named_by_content_or_address(form, people, known, tmp_path, inference_server):
    shape = (1, 16, 16)
    key = WatermarkKey.new(n=20, image_shape=shape, owner=people[0].public)
    claim = make_claim(key, people[0], alpha=1e-9)
    model = create("resnet8", classes=10, input_shape=shape, width=4)
    place = str(tmp_path / f"suspect.{form}")
    if form == "bundle":
        save_model(model, place)
    elif form == "onnx":
        pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
        pytest.importorskip("onnxscript", reason="needs the extra [onnx]")
        from doorward.models import export_onnx

        export_onnx(model, place)
    else:
        server = inference_server(lambda images: model(images).argmax(1), image_shape=shape)
        place = f"{server.url}/v2/models/model"
    transcript = examine(claim, key, place, public=people[0].public).sign(people[1])
    assert transcript.record.suspect == suspect_id(place)
    check_transcript(transcript, claim, **known, key=key, against=place)


def test_a_concealed_transcript_does_not_say_which_questions_were_triggers(found, people, key):
    document = json.dumps(dict(found.sign(people[1], concealed=True).document))
    assert found.queries.seed.reveal().hex() not in document
    assert not any(word in document for word in ('jittered trigger"', "places", "kinds"))
    assert not any(key.secret_of(i).reveal().hex() in document for i in range(40))


def test_opened_triggers_are_counted_against_all(found, claim, key, people, known):
    """26 matches of the owner's own choice are still 26 of 40, with p = 4e-15."""
    transcript = found.sign(people[1], concealed=True)
    verdict = check_transcript(transcript, claim, **known, opened=open_triggers(key, range(26)))
    assert (verdict.matches, verdict.n, verdict.unanswered, verdict.verified) == (26, 40, 0, True)
    few = check_transcript(transcript, claim, **known, opened=open_triggers(key, range(12)))
    assert (few.matches, few.n, few.verified) == (12, 40, False)
    misses = check_transcript(transcript, claim, **known, opened=open_triggers(key, range(30, 36)))
    assert (misses.matches, misses.verified) == (0, False)


def test_a_whole_lot_is_judged_by_the_claim_s_rule_for_disputes(found, claim, key, people, known):
    rule = claim.statement.disclosure
    assert rule.size == 20
    transcript = found.sign(people[1], concealed=True)
    verdicts = [
        check_transcript(transcript, claim, **known, opened=open_triggers(key, rule.members(lot)))
        for lot in (0, 1)
    ]
    assert [(v.matches, v.n) for v in verdicts] == [(20, 20), (10, 20)]
    assert [v.verified for v in verdicts] == [True, False]
    assert verdicts[0].log2_alpha == rule.level(40) == rule.log2_alpha - 1


def test_all_triggers_opened_are_as_good_as_the_key(found, claim, key, people, known, suspect):
    transcript = found.sign(people[1])
    opened = open_triggers(key, reversed(range(40)))
    assert (
        check_transcript(transcript, claim, **known, opened=opened, against=suspect)
        == found.verdict
    )


def test_a_dispute_over_a_lot_leaves_minutes_too(claim, key, suspect, people, known, tmp_path):
    ada, judge = people
    challenge = make_challenge(claim, suspect_id(suspect), beacon="8f2a51c0")
    opening = disclose(key, claim, challenge, ada, BurnLedger(tmp_path / "burned.json", key))
    call = {"public": ada.public, "plan": GUARDED}
    found = examine_opening(claim, challenge, opening, suspect, **call)
    expected = 20 if challenge.lot == 0 else 10
    assert (found.verdict.matches, found.verdict.n) == (expected, 20)
    assert found.verdict.log2_alpha == claim.statement.disclosure.level(40)
    for concealed in (False, True):
        transcript = found.sign(judge, concealed=concealed)
        assert transcript.record.triggers == tuple(challenge.indices)
        for given in ({}, {"opened": opening.answer.triggers}, {"key": key}):
            assert check_transcript(transcript, claim, **known, **given) == found.verdict
    other = make_challenge(claim, "named:somebody else", beacon="8f2a51c0")
    with pytest.raises(IntegrityError):
        examine_opening(claim, other, opening, suspect, **call)
    with pytest.raises(IntegrityError, match="not the suspect that was accused"):
        examine_opening(claim, challenge, opening, lambda x: x, **call)
    stolen = open_triggers(key, [i for i in range(40) if i not in challenge.indices])
    with pytest.raises(IntegrityError, match="not those that were asked about"):
        check_transcript(transcript, claim, **known, opened=stolen)


def test_a_dispute_over_the_only_lot(people, known, tmp_path):
    """All triggers are one lot, judged by the rule for disputes and not by that for the key."""
    key = WatermarkKey.new(n=20, image_shape=SHAPE, owner=people[0].public)
    claim = make_claim(key, people[0], alpha=1e-18)
    images, labels = key.triggers()
    labels[17:] = (labels[17:] + 1) % 10
    suspect = taught(images.float() / 255, labels, classes=10)
    challenge = make_challenge(claim, suspect_id(suspect), beacon="8f2a51c0")
    ledger = BurnLedger(tmp_path / "burned.json", key)
    opening = disclose(key, claim, challenge, people[0], ledger)
    found = examine_opening(claim, challenge, opening, suspect, public=people[0].public)
    assert (found.verdict.matches, found.verdict.verified) == (17, True)
    transcript = found.sign(people[1])
    opened = opening.answer.triggers
    assert check_transcript(transcript, claim, **known, opened=opened) == found.verdict
    assert not examine(claim, key, suspect, public=people[0].public).verdict.verified


def test_triggers_that_the_verifier_picked_are_refused(found, claim, key, people, known):
    record = dataclasses.replace(found.sign(people[1]).record, triggers=tuple(range(10, 30)))
    transcript = Transcript.sign(record, people[1])
    with pytest.raises(IntegrityError, match="picked"):
        check_transcript(transcript, claim, **known)


def test_wrong_keys_openings_and_covers_are_refused(found, claim, key, people, known, digits):
    transcript = found.sign(people[1])
    other = WatermarkKey.new(n=40, image_shape=SHAPE, owner=people[0].public)
    opened = open_triggers(key, range(5))
    foreign = open_triggers(other, range(5))
    mirrored = digits.subset(torch.arange(len(digits)).flip(0))
    for words, given in (
        ("another key", {"key": other}),
        ("committed root", {"opened": foreign}),
        ("committed root", {"opened": (*opened[:4], foreign[4])}),
        ("shown twice", {"opened": (*opened, opened[0])}),
        ("not those that were asked", {"opened": ()}),
        ("not the covers", {"key": key, "covers": mirrored}),
        ("not the covers", {"key": key, "covers": digits.resized(16)}),
    ):
        with pytest.raises(IntegrityError, match=words):
            check_transcript(transcript, claim, **known, **given)
    with pytest.raises(InvalidInput, match="both"):
        check_transcript(transcript, claim, **known, key=key, opened=opened)


def test_a_wrong_key_leaves_nothing_to_sign(claim, suspect, people):
    other = WatermarkKey.new(n=40, image_shape=SHAPE, owner=people[0].public)
    found = examine(claim, other, suspect, public=people[0].public)
    assert not found.verdict.verified
    with pytest.raises(InvalidInput, match="not asked"):
        found.sign(people[1])


def test_a_stricter_verifier_may_a_weaker_may_not(claim, key, suspect, people, known):
    strict = examine(claim, key, suspect, public=people[0].public, alpha=2.0**-90)
    assert not strict.verdict.verified
    assert check_transcript(strict.sign(people[1]), claim, **known, key=key) == strict.verdict


def test_refusals_are_in_the_minutes(claim, key, people, known):
    from doorward.errors import EndpointFailed

    images, labels = key.triggers()
    table = {image.numpy().tobytes(): i for i, image in enumerate(images)}

    class Choosy:
        num_classes = None

        def labels(self, batch):
            numbers = [
                table.get((x * 255).round().to(torch.uint8).numpy().tobytes()) for x in batch
            ]
            if any(number is not None and number < 5 for number in numbers):
                raise EndpointFailed("no")
            # 5 to 9 get a label that is no class.
            return torch.tensor([11 if n in range(5, 10) else int(labels[n or 0]) for n in numbers])

        def describe(self):
            return {"kind": "test", "name": "choosy"}

    found = examine(claim, key, Choosy(), public=people[0].public, plan=GUARDED)
    assert (found.verdict.matches, found.verdict.unanswered) == (30, 10)
    assert found.verdict.behaviour.triggers_refused == 5
    for concealed in (False, True):
        transcript = found.sign(people[1], concealed=concealed)
        given = {"key": key, "against": Choosy()}
        assert check_transcript(transcript, claim, **known, **given) == found.verdict
        some = open_triggers(key, range(12))
        partly = check_transcript(transcript, claim, **known, opened=some)
        assert (partly.matches, partly.n, partly.unanswered) == (2, 40, 0)


def test_a_verifier_s_history_counts(claim, key, suspect, people, known, tmp_path):
    history = History(tmp_path / "verifications.json")
    other_key = WatermarkKey.new(n=40, image_shape=SHAPE, owner=people[0].public)
    other_claim = make_claim(other_key, people[0], alpha=1e-9)
    other = taught(torch.rand(5, *SHAPE), torch.arange(5), classes=10)
    notes = {"resume": tmp_path / "notes.json"}
    counts = []
    for c, k, model, more in (
        (claim, key, suspect, {}),
        (claim, key, other, {}),
        (other_claim, other_key, suspect, {}),
        (claim, key, suspect, notes),
        (claim, key, suspect, notes),  # the same verification once more, from its notes
    ):
        found = examine(c, k, model, public=people[0].public, history=history, **more)
        record = found.sign(people[1]).record
        counts.append((record.earlier.same, record.earlier.same_claim, record.earlier.same_suspect))
    assert counts == [(0, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, 2), (1, 2, 2)]
    assert len(history.entries()) == 4
    for content in ("[]", "{}", '{"entries": [{}]}', "{", '{"version": 2}'):
        history.path.write_text(content)
        if content == "{}":
            assert history.entries() == ()
            continue
        with pytest.raises(BadFile):
            history.entries()


def test_what_is_checked_and_what_is_believed(found):
    """The more is given, the less is believed; the time always is."""
    nothing = explain(key=False, opened=0, covers=True, against=False, concealed=False)
    everything = explain(key=True, opened=0, covers=False, against=True, concealed=False)
    some = explain(key=False, opened=20, covers=False, against=False, concealed=True)
    assert len(nothing.believed) == 4
    assert everything.believed == (nothing.believed[-1],)
    assert "20 opened triggers" in some.checked[2]
    assert "verifier's word" in nothing.believed[0]


def test_a_suspect_of_another_shape_fails_as_in_verify(claim, key, people):
    with pytest.raises((InvalidInput, ModelUnsuitable)):
        examine(claim, key, create("resnet8", classes=10, width=4), public=people[0].public)


def test_a_plan_without_covers_ignores_their_images(claim, key, suspect, people, known, digits):
    found = examine(claim, key, suspect, public=people[0].public, plan=QueryPlan(), covers=digits)
    transcript = found.sign(people[1])
    assert transcript.record.covers is None
    assert check_transcript(transcript, claim, **known, key=key, against=suspect) == found.verdict
