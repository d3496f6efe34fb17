"""Openings and challenges in the hands of cheats: whatever is changed is noticed."""

import copy
import json
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles.identity import Identity
from doorward.bundles.merkle import MerkleTree, leaf
from doorward.bundles.signed import sign_document
from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingData
from doorward.randomness import Secret
from doorward.watermark.claim import Claim, make_claim
from doorward.watermark.disclosure import (
    BurnLedger,
    Challenge,
    Opening,
    disclose,
    make_challenge,
    verify_opening,
)
from doorward.watermark.disclosure.opening import PURPOSE
from doorward.watermark.key import KeyParameters, WatermarkKey
from doorward.watermark.opened import OpenedTrigger, RevealedTriggers, open_triggers

SHAPE = (1, 8, 8)
REJECTED = (IntegrityError, BadFile, InvalidInput)


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="module")
def key(ada):
    parameters = KeyParameters(n=100, image_shape=SHAPE, owner=ada.public.fingerprint)
    return WatermarkKey(Secret(b"k" * 32), parameters)


@pytest.fixture(scope="module")
def claim(key, ada):
    return make_claim(key, ada)


@pytest.fixture(scope="module")
def challenge(claim):
    return make_challenge(claim, "named:rival", "round 1000", spent=[1])


@pytest.fixture(scope="module")
def opening(key, claim, challenge, ada):
    """Signed by Ada without a ledger, which is not what these tests are about."""
    return _signed(_content(challenge, open_triggers(key, challenge.indices)), ada)


def _content(challenge, triggers):
    return {
        "scheme": "doorward-opening",
        "version": 1,
        "challenge": challenge.to_dict(),
        "triggers": [trigger.to_dict() for trigger in triggers],
    }


def _signed(content, identity):
    return Opening.from_document(sign_document(content, identity, purpose=PURPOSE))


def test_the_honest_opening_shows_the_keys_triggers(key, claim, challenge, opening, ada):
    revealed = opening.reveal(claim, challenge, ada.public)
    images, labels = key.triggers()
    places = list(challenge.indices)
    assert torch.equal(revealed.triggers()[0], images[places])
    assert torch.equal(revealed.triggers()[1], labels[places])
    assert revealed.commitment() == key.commitment()
    revealed.triggers()[0].zero_()
    assert revealed.triggers()[0].any()


def test_an_opening_shows_nothing_of_the_other_triggers(key, challenge, opening):
    text = json.dumps(dict(opening.document))
    shown = [i for i in range(key.n) if key.secret_of(i).reveal().hex() in text]
    assert shown == list(challenge.indices)
    assert key._seed.reveal().hex() not in text
    assert key._master.reveal().hex() not in text


def _flip(text):
    """Another hash: its last hex digit changed."""
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def _set(*path):
    """A change that applies the last argument to the value at a path."""
    *steps, last, function = path

    def change(content):
        for step in steps:
            content = content[step]
        content[last] = function(content[last])

    return change


def _swap(content):
    content["triggers"][0], content["triggers"][1] = content["triggers"][1], content["triggers"][0]


def _exchange_secrets(content):
    one, other = content["triggers"][:2]
    one["secret"], other["secret"] = other["secret"], one["secret"]


# Signed by the owner herself, so that only the commitment and the challenge can notice.
CHANGES = {
    "a secret": _set("triggers", 3, "secret", _flip),
    "a path": _set("triggers", 3, "path", 0, _flip),
    "a shorter path": _set("triggers", 3, "path", lambda path: path[:-1]),
    "a longer path": _set("triggers", 3, "path", lambda path: [*path, path[0]]),
    "no path": _set("triggers", 3, "path", lambda path: []),
    "an index": _set("triggers", 3, "index", lambda index: index + 1),
    "an index of no trigger": _set("triggers", 3, "index", lambda index: 65_000),
    "a negative index": _set("triggers", 3, "index", lambda index: -1),
    "the order": _swap,
    "two secrets exchanged": _exchange_secrets,
    "a trigger twice": _set("triggers", lambda shown: [shown[0], shown[0], *shown[2:]]),
    "a trigger more": _set("triggers", lambda shown: [*shown, shown[0]]),
    "a trigger less": _set("triggers", lambda shown: shown[1:]),
    "no trigger": _set("triggers", lambda shown: []),
    "an unknown field": lambda content: content.update(note="trust me"),
    "another version": _set("version", lambda version: 2),
    "the challenge's suspect": _set("challenge", "suspect", lambda name: "named:other"),
    "the challenge's beacon": _set("challenge", "beacon", lambda value: "round 1001"),
    "the challenge's spent lots": _set("challenge", "spent", lambda spent: [2]),
    "no spent lots": _set("challenge", "spent", lambda spent: []),
    "the challenge's claim": _set("challenge", "claim", _flip),
    "the challenge's root": _set("challenge", "root", _flip),
    "the challenge's size": _set("challenge", "size", lambda size: 10),
    "the challenge's n": _set("challenge", "n", lambda n: 99),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_opening_is_rejected_even_if_the_owner_signs_it(
    change, claim, challenge, opening, ada
):
    content = copy.deepcopy(dict(opening.document["content"]))
    CHANGES[change](content)
    assert content != opening.document["content"]
    with pytest.raises(REJECTED):
        _signed(content, ada).reveal(claim, challenge, ada.public)


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_opening_does_not_fit_its_signature(change, claim, challenge, opening, ada):
    document = copy.deepcopy(dict(opening.document))
    CHANGES[change](document["content"])
    with pytest.raises((IntegrityError, BadFile)):
        Opening.from_document(document).reveal(claim, challenge, ada.public)


@pytest.mark.parametrize("field", ["claim", "root", "n", "size", "suspect", "beacon", "spent"])
def test_every_field_of_the_challenge_takes_part_in_the_draw(challenge, field):
    """Whoever changes one draws anew: over many changes each lot comes out."""
    lots = set()
    for number in range(60):
        content = challenge.to_dict()
        content[field] = {
            "claim": f"{number:064x}",
            "root": f"{number:064x}",
            "n": 100 + number % 20,
            "size": 20 - number % 15,
            "suspect": f"named:{number}",
            "beacon": f"round {number}",
            "spent": [lot for lot in range(4) if number >> lot & 1],
        }[field]
        lots.add(Challenge.from_dict(content).lot)
    assert len(lots) >= 3


@given(st.sets(st.integers(0, 4), max_size=4), st.text("abc", min_size=1), st.text("abc"))
@settings(deadline=None)
def test_a_spent_lot_is_never_drawn(claim, spent, beacon, suspect):
    drawn = make_challenge(claim, f"named:{suspect}", beacon, spent=spent)
    assert drawn.lot not in spent
    assert drawn.number == len(spent) + 1
    assert drawn.indices == range(drawn.lot * 20, drawn.lot * 20 + 20)
    assert Challenge.from_dict(json.loads(json.dumps(drawn.to_dict()))) == drawn


@pytest.mark.parametrize(
    ("spent", "words"),
    [([0, 1, 2, 3, 4], "spent"), ([5], "not possible"), ([1, 1], "not possible")],
)
def test_impossible_lists_of_spent_lots(claim, spent, words):
    with pytest.raises(InvalidInput, match=words):
        make_challenge(claim, "named:rival", "beacon", spent=spent)
    unsorted = {**make_challenge(claim, "named:rival", "b").to_dict(), "spent": [2, 1]}
    with pytest.raises(InvalidInput, match="ascending"):
        Challenge.from_dict(unsorted)


@pytest.mark.parametrize(
    ("suspect", "beacon"), [("", "b"), ("named:x", ""), ("named:\x1b[2J", "b"), ("named:x", "a\nb")]
)
def test_challenges_hold_printable_text_only(claim, suspect, beacon):
    with pytest.raises(InvalidInput):
        make_challenge(claim, suspect, beacon)


def test_the_beacon_of_the_key_is_no_beacon_of_a_dispute(ada):
    key = WatermarkKey.new(n=20, image_shape=SHAPE, owner=ada.public, beacon="round 7")
    with pytest.raises(InvalidInput, match="prepare for the draw"):
        make_challenge(make_claim(key, ada), "named:rival", "round 7")


def _innocent(images):
    return torch.zeros(len(images), dtype=torch.int64)


def test_an_opening_is_good_for_one_suspect_and_one_dispute(key, claim, challenge, opening, ada):
    """Replayed against another suspect, in another dispute, or under another claim."""
    asked = {"public": ada.public}
    verify_opening(claim, challenge, opening, _innocent, name="rival", **asked)
    with pytest.raises(IntegrityError, match="accused"):
        verify_opening(claim, challenge, opening, _innocent, name="other", **asked)
    for other in (
        make_challenge(claim, "named:other", "round 1000", spent=[1]),
        make_challenge(claim, "named:rival", "round 1001", spent=[1]),
        make_challenge(claim, "named:rival", "round 1000"),
    ):
        name = other.suspect.removeprefix("named:")
        with pytest.raises(IntegrityError, match="another challenge"):
            verify_opening(claim, other, opening, _innocent, name=name, **asked)
    second = make_claim(key, ada, alpha=1e-12)
    with pytest.raises(IntegrityError, match="another claim"):
        verify_opening(second, challenge, opening, _innocent, name="rival", **asked)


def test_another_owners_opening_is_rejected(claim, challenge, opening, ada):
    """Eve signs what Ada has opened; or passes her own key off as Ada's."""
    eve = Identity.new("Eve")
    stolen = _signed(dict(opening.document["content"]), eve)
    with pytest.raises(IntegrityError, match="somebody else"):
        stolen.reveal(claim, challenge, ada.public)
    with pytest.raises(IntegrityError, match="somebody else"):
        verify_opening(claim, challenge, stolen, _innocent, public=eve.public, name="rival")
    own = WatermarkKey.new(n=100, image_shape=SHAPE, owner=eve.public)
    forged = _signed(_content(challenge, open_triggers(own, challenge.indices)), eve)
    with pytest.raises(IntegrityError, match="committed root"):
        RevealedTriggers(
            claim.statement.key, bytes.fromhex(claim.statement.root), forged.answer.triggers
        )


def test_a_document_of_another_purpose_is_no_opening(claim, challenge, opening, ada):
    content = dict(opening.document["content"])
    other = Opening.from_document(sign_document(content, ada, purpose="watermark-claim"))
    with pytest.raises(IntegrityError, match="watermark-claim"):
        other.reveal(claim, challenge, ada.public)


def test_an_answer_that_is_not_the_signed_one_is_rejected(claim, challenge, opening, key, ada):
    other = make_challenge(claim, "named:other", "round 1000")
    swapped = Opening(
        answer=_signed(_content(other, open_triggers(key, other.indices)), ada).answer,
        document=opening.document,
    )
    with pytest.raises(IntegrityError, match="signature covers"):
        swapped.reveal(claim, challenge, ada.public)


def test_an_owner_who_exchanges_one_trigger_has_another_root(key, claim, challenge, ada):
    """And with the root, all other images and labels: labels cannot be made to fit one by one."""
    secrets = [key.secret_of(i) for i in range(key.n)]
    place = challenge.indices[4]
    secrets[place] = Secret(bytes(32))
    tree = MerkleTree([leaf(i, secret.reveal()) for i, secret in enumerate(secrets)])
    assert tree.root.hex() != claim.statement.root
    opened = [
        OpenedTrigger(index=i, secret=secrets[i].reveal().hex(), path=tree.proof(i).path)
        for i in challenge.indices
    ]
    with pytest.raises(IntegrityError, match="committed root"):
        _signed(_content(challenge, opened), ada).reveal(claim, challenge, ada.public)
    before = key.triggers()[1][list(challenge.indices)]
    after = RevealedTriggers(key.parameters, tree.root, opened).triggers()[1]
    assert not torch.equal(before, after)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_any_subset_of_a_key_can_be_opened_and_checked(data):
    n = data.draw(st.integers(1, 40))
    key = WatermarkKey(Secret(bytes(32)), KeyParameters(n=n, image_shape=SHAPE))
    places = data.draw(st.lists(st.integers(0, n - 1), unique=True, min_size=1, max_size=6))
    opened = open_triggers(key, places)
    revealed = RevealedTriggers(key.parameters, key.tree().root, opened)
    assert torch.equal(revealed.triggers()[1], key.triggers()[1][places])
    spoiled = [trigger.to_dict() for trigger in opened]
    victim = data.draw(st.integers(0, len(spoiled) - 1))
    secret = bytearray.fromhex(spoiled[victim]["secret"])
    bit = data.draw(st.integers(0, 255))
    secret[bit // 8] ^= 1 << bit % 8
    spoiled[victim]["secret"] = secret.hex()
    with pytest.raises(IntegrityError):
        RevealedTriggers(
            key.parameters, key.tree().root, [OpenedTrigger.from_dict(t) for t in spoiled]
        )


def _mutations(whole: bytes, draws: random.Random):
    for place in draws.sample(range(8 * len(whole)), min(150, 8 * len(whole))):
        changed = bytearray(whole)
        changed[place // 8] ^= 1 << place % 8
        yield bytes(changed)
    for length in draws.sample(range(len(whole) - 1), 40):
        yield whole[:length]
    yield b""
    yield b"[]"
    yield b'{"a": 1e999}'
    yield b"\xff" * 100
    yield b"{" * 100_000
    document = json.loads(whole)
    for value in (None, True, -1, 10**400, 0.5, "x", [], {}, "0" * 10**6):
        for path in _paths(document, draws):
            changed = copy.deepcopy(document)
            spot = changed
            for step in path[:-1]:
                spot = spot[step]
            if spot[path[-1]] != value or type(spot[path[-1]]) is not type(value):
                spot[path[-1]] = value
                yield json.dumps(changed).encode()


def _paths(document, draws, prefix=()):
    """All places of a document, of long lists one entry only."""
    entries = document.items() if isinstance(document, dict) else enumerate(document)
    entries = list(entries)
    if isinstance(document, list) and len(entries) > 2:
        entries = [draws.choice(entries)]
    for step, value in entries:
        yield (*prefix, step)
        if isinstance(value, dict | list):
            yield from _paths(value, draws, (*prefix, step))


def test_fuzzed_openings_are_all_rejected(claim, challenge, opening, ada, tmp_path):
    path = tmp_path / "opening.json"
    opening.save(path)
    accepted = 0
    for content in _mutations(path.read_bytes(), random.Random(1)):
        path.write_bytes(content)
        try:
            Opening.load(path).reveal(claim, challenge, ada.public)
        except (IntegrityError, BadFile):
            continue
        accepted += json.loads(content) != opening.document
    assert accepted == 0


def test_fuzzed_challenges_are_rejected_or_other_challenges(claim, challenge, tmp_path):
    """A challenge is public and unsigned: a change gives another one, or none; never a crash."""
    path = tmp_path / "challenge.json"
    challenge.save(path)
    for content in _mutations(path.read_bytes(), random.Random(2)):
        path.write_bytes(content)
        try:
            other = Challenge.load(path)
            other.check(claim)
        except (IntegrityError, BadFile, InvalidInput):
            continue
        assert other != challenge or json.loads(content) == challenge.to_dict()


def test_signed_challenges(claim, challenge, tmp_path):
    judge, path = Identity.new("Judge"), tmp_path / "challenge.json"
    challenge.save(path, judge)
    assert Challenge.load(path) == Challenge.load(path, judge.public) == challenge
    with pytest.raises(IntegrityError, match="somebody else"):
        Challenge.load(path, Identity.new("Eve").public)
    accepted = 0
    whole = path.read_bytes()
    for content in _mutations(whole, random.Random(3)):
        path.write_bytes(content)
        try:
            Challenge.load(path, judge.public)
        except (IntegrityError, BadFile):
            continue
        accepted += json.loads(content) != json.loads(whole)
    assert accepted == 0
    challenge.save(path)
    with pytest.raises(BadFile):
        Challenge.load(path, judge.public)
    with pytest.raises(MissingData):
        Challenge.load(tmp_path / "absent.json")


def test_the_wrong_key_or_identity_opens_nothing(key, claim, challenge, ada, tmp_path):
    ledger = BurnLedger(tmp_path / "burned.json", key)
    eve = Identity.new("Eve")
    other = WatermarkKey.new(n=100, image_shape=SHAPE, owner=ada.public)
    with pytest.raises(IntegrityError, match="somebody else"):
        disclose(key, claim, challenge, eve, ledger)
    with pytest.raises(InvalidInput, match="another key"):
        disclose(other, claim, challenge, ada, BurnLedger(tmp_path / "other.json", other))
    elsewhere = make_challenge(make_claim(other, ada), "named:rival", "round 1000")
    with pytest.raises(IntegrityError, match="another claim"):
        disclose(key, claim, elsewhere, ada, ledger)
    whole_key_only = Claim.from_document(
        sign_document(
            {**claim.document["content"], "disclosure": None}, ada, purpose="watermark-claim"
        )
    )
    with pytest.raises(InvalidInput, match="allows no openings"):
        disclose(key, whole_key_only, challenge, ada, ledger)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("alpha", "words"), [(1e-30, "never be met"), (1.0, "level"), (0, "level")]
)
def test_impossible_levels_are_refused_before_the_suspect_is_asked(
    claim, challenge, opening, ada, alpha, words
):
    with pytest.raises(InvalidInput, match=words):
        verify_opening(
            claim, challenge, opening, None, public=ada.public, alpha=alpha, name="rival"
        )
