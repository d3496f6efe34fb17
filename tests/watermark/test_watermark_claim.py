"""Claims: what they say, who signed, and that no change survives."""

import json
import math
import random

import pytest

from doorward.bundles.identity import Identity
from doorward.bundles.signed import sign_document
from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingData
from doorward.watermark.claim import PURPOSE, Claim, make_claim
from doorward.watermark.key import WatermarkKey

SHAPE = (1, 8, 8)


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="module")
def key(ada):
    return WatermarkKey.new(n=100, image_shape=SHAPE, owner=ada.public)


@pytest.fixture(scope="module")
def claim(key, ada):
    return make_claim(key, ada, model_digest="0" * 64)


def test_a_claim_survives_its_file(claim, ada, tmp_path):
    claim.save(tmp_path / "claim.json")
    again = Claim.load(tmp_path / "claim.json", ada.public)
    assert again.statement == claim.statement
    assert again.created == claim.created
    assert again.signer == ada.public


def test_a_claim_does_not_show_the_key(claim, key):
    text = json.dumps(dict(claim.document))
    assert key._seed.reveal().hex() not in text
    assert str(key.triggers()[1].tolist())[1:-1] not in text


@pytest.mark.parametrize(
    ("n", "classes", "log2_alpha", "needed"),
    [
        # Matches needed, as tabulated in the notes on the paper (alpha 1e-9 and 2^-64).
        (50, 10, math.log2(1e-9), 22),
        (100, 10, math.log2(1e-9), 33),
        (100, 10, -64, 46),
        (100, 43, -64, 26),
        (100, 100, -64, 20),
        (200, 10, -64, 68),
    ],
)
def test_needed_matches(n, classes, log2_alpha, needed, claim):
    content = claim.statement.to_dict()
    content["key"] |= {"n": n, "classes": classes}
    content["log2_alpha"] = log2_alpha
    assert type(claim.statement).from_dict(content).needed == needed


def test_the_owner_must_be_the_signer(key):
    eve = Identity.new("Eve")
    with pytest.raises(InvalidInput, match="not made for Eve"):
        make_claim(key, eve)


def test_an_unbound_key_may_be_claimed_by_anybody():
    key = WatermarkKey.new(n=100, image_shape=SHAPE)
    eve = Identity.new("Eve")
    make_claim(key, eve).check(eve.public)


def test_another_signer_is_refused(claim):
    with pytest.raises(IntegrityError, match="somebody else"):
        claim.check(Identity.new("Ada").public)


def test_signing_a_claim_over_a_strangers_key_is_refused(claim):
    """Eve takes Ada's published statement and signs it herself."""
    eve = Identity.new("Eve")
    document = sign_document(claim.statement.to_dict(), eve, purpose=PURPOSE)
    with pytest.raises(IntegrityError, match="another owner"):
        Claim.from_document(document).check(eve.public)


def test_a_document_of_another_purpose_is_refused(claim, ada):
    document = sign_document(claim.statement.to_dict(), ada, purpose="receipt")
    with pytest.raises(IntegrityError, match="receipt"):
        Claim.from_document(document).check(ada.public)


def test_a_statement_that_is_not_the_signed_one_is_refused(claim, key, ada):
    other = make_claim(key, ada, alpha=1e-9)
    with pytest.raises(IntegrityError, match="not what its signature covers"):
        Claim(statement=other.statement, document=claim.document).check(ada.public)


CHANGES = {
    "weaker rule": lambda d: d["content"].update(log2_alpha=-10.0),
    "another root": lambda d: d["content"].update(root="ab" * 32),
    "fewer triggers": lambda d: d["content"]["key"].update(n=99),
    "another generator": lambda d: d["content"]["key"].update(generator="x"),
    "no owner": lambda d: d["content"]["key"].update(owner=None),
    "another model": lambda d: d["content"].update(model_digest=None),
    "more fields": lambda d: d["content"].update(note="trust me"),
    "a field less": lambda d: d["content"].pop("root"),
    "another version": lambda d: d["content"].update(version=2),
    "an earlier date": lambda d: d.update(created="2001-01-01T00:00:00Z"),
    "another name": lambda d: d["signer"].update(name="Adam"),
    "not even a number": lambda d: d["content"].update(log2_alpha="NaN"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_content_is_an_integrity_error(claim, ada, change):
    document = json.loads(json.dumps(dict(claim.document)))
    CHANGES[change](document)
    with pytest.raises(IntegrityError):
        Claim.from_document(document).check(ada.public)


def test_fuzz_bit_flips_and_truncations_are_all_rejected(claim, ada, tmp_path):
    path = tmp_path / "claim.json"
    claim.save(path)
    whole = path.read_bytes()
    draws = random.Random(0)
    flips = draws.sample(range(8 * len(whole)), 600)
    tampered = [_flipped(whole, place) for place in flips]
    tampered += [whole[:length] for length in draws.sample(range(len(whole) - 1), 150)]
    tampered += [_swapped(whole, draws) for _ in range(150)]
    accepted = 0
    for content in tampered:
        path.write_bytes(content)
        try:
            Claim.load(path, ada.public)
        except (IntegrityError, BadFile):
            continue
        accepted += content != whole
    assert accepted == 0
    path.write_bytes(whole)
    Claim.load(path, ada.public)


def _flipped(content: bytes, place: int) -> bytes:
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def _swapped(content: bytes, draws: random.Random) -> bytes:
    """Two different bytes inside the content's values change places."""
    changed = bytearray(content)
    while bytes(changed) == content:
        i, j = draws.sample([k for k, byte in enumerate(content) if chr(byte).isalnum()], 2)
        changed[i], changed[j] = changed[j], changed[i]
    return bytes(changed)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 0.9}, "alpha"),
        ({"alpha": 1e-6}, "drawn until one satisfies"),
        ({"alpha": 1e-120}, "more triggers"),
        ({"model_digest": "abc"}, "model_digest"),
    ],
)
def test_bad_arguments_are_explained(key, ada, arguments, words):
    with pytest.raises(InvalidInput, match=words):
        make_claim(key, ada, **arguments)


def test_a_rule_that_a_claimant_could_meet_by_trying_keys_is_no_claim(claim, ada):
    """The claimant chooses the rule: at 2^-1 every other key would be "proof" against any model."""
    content = {**claim.statement.to_dict(), "log2_alpha": -1.0}
    with pytest.raises(IntegrityError, match="log2_alpha"):
        Claim.from_document(sign_document(content, ada, purpose=PURPOSE))


def test_files_that_are_no_claims(tmp_path, ada):
    with pytest.raises(MissingData):
        Claim.load(tmp_path / "absent.json")
    (tmp_path / "claim.json").write_text('{"a": 1}')
    with pytest.raises(BadFile, match="not a claim"):
        Claim.load(tmp_path / "claim.json")
