"""Marking and verification keys: what they commit to, and that no change survives."""

import base64
import json
import pickle
import random
import stat

import pytest
import torch

from doorward.bundles import Identity, seal, sign_document
from doorward.errors import BadFile, IntegrityError, InvalidInput, KeyRefused, MissingData
from doorward.randomness import Secret
from doorward.watermark.adi import PaperKey, PaperStatement, VerificationKey, openings, publish
from doorward.watermark.adi.commitments import (
    commit_label,
    commit_picture,
    opens_label,
    opens_picture,
)
from doorward.watermark.adi.vk import PURPOSE
from doorward.watermark.triggerset import TriggerSet

SHAPE = (1, 8, 8)
PICTURE = "57a7dece65648e7e21544ffed4697bfe50858fc35b6ad495741bcbfc2ddb28e6"
LABEL = "b6364e308dbf4ab4e7431fe958813f4ba299085e73cd7ffa9af64b576302369a"


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="module")
def key():
    return PaperKey.new(n=20, image_shape=SHAPE)


@pytest.fixture(scope="module")
def vk(key, ada):
    return publish(key, ada)


def rebuilt(key, **changes):
    """The same key with something exchanged."""
    images, labels = key.triggers()
    parts = {
        "facts": key.facts, "images": images, "labels": labels,
        "picture_salts": key.picture_salts, "label_salts": key.label_salts,
    }  # fmt: skip
    return PaperKey(**(parts | changes))


def test_a_paper_key_is_a_trigger_set(key):
    assert isinstance(key, TriggerSet)
    images, labels = key.triggers()
    assert (images.dtype, images.shape) == (torch.uint8, (20, *SHAPE))
    assert (labels.dtype, labels.shape) == (torch.int64, (20,))
    assert len(set(key.picture_salts + key.label_salts)) == 40


def test_commitments_never_change():
    """Test vectors: a key sealed today opens what was published today, with every later version."""
    picture = torch.arange(64, dtype=torch.uint8).view(1, 8, 8)
    assert commit_picture(3, bytes(32), picture).hex() == PICTURE
    assert commit_label(3, bytes(32), 7).hex() == LABEL


def test_commitments_bind():
    """Another picture, shape, label, salt, place or kind: no second opening."""
    picture, salt = torch.arange(64, dtype=torch.uint8).view(1, 8, 8), bytes(range(32))
    seen, hidden = commit_picture(3, salt, picture), commit_label(3, salt, 7)
    assert opens_picture(seen, 3, salt, picture)
    assert opens_label(hidden, 3, salt, 7)
    changed = picture.clone()
    changed[0, 5, 5] ^= 1
    other = bytes([1, *range(1, 32)])
    assert not opens_picture(seen, 3, salt, changed)
    assert not opens_picture(seen, 3, salt, picture.view(1, 4, 16))
    assert not opens_picture(seen, 4, salt, picture)
    assert not opens_picture(seen, 3, other, picture)
    assert not opens_picture(hidden, 3, salt, picture)
    assert not opens_label(hidden, 3, salt, 8)
    assert not opens_label(hidden, 4, salt, 7)
    assert not opens_label(hidden, 3, other, 7)
    assert not opens_label(seen, 3, salt, 7)


def test_equal_labels_look_different(vk):
    """20 labels of 10 classes repeat, their commitments do not: that is what salts are for."""
    assert len(set(vk.statement.labels + vk.statement.pictures)) == 40


@pytest.mark.parametrize("lost", [1, 2, 40])
def test_every_exchanged_part_is_noticed(key, vk, lost):
    images, labels = key.triggers()
    salts = list(key.picture_salts)
    if lost == 1:
        images[7, 0, 0, 0] ^= 255
        other = rebuilt(key, images=images)
    elif lost == 2:
        salts[7], salts[8] = salts[8], salts[7]
        other = rebuilt(key, picture_salts=salts)
    else:
        order = [*range(1, 20), 0]
        other = rebuilt(
            key, images=images[order], labels=labels[order],
            picture_salts=[salts[i] for i in order],
            label_salts=[key.label_salts[i] for i in order],
        )  # fmt: skip
    assert openings(key, vk.statement) == 40
    assert openings(other, vk.statement) == 40 - lost
    assert other.commitment() != key.commitment() == vk.statement.commitment()


def test_drawn_pictures_follow_from_the_seed_labels_and_salts_do_not():
    seed = Secret(bytes(32))
    one, other = (PaperKey.new(n=40, image_shape=SHAPE, seed=seed) for _ in range(2))
    assert torch.equal(one.triggers()[0], other.triggers()[0])
    assert not torch.equal(one.triggers()[1], other.triggers()[1])
    assert not set(one.picture_salts) & set(other.picture_salts)
    with pytest.raises(InvalidInput, match="seed"):
        PaperKey.new(image_shape=SHAPE, seed=seed, pictures=one.triggers()[0])


@pytest.mark.parametrize(
    ("labels", "ways"), [([3] * 20, 1), ([1] * 10 + [2] * 10, 184_756), ([0] * 19 + [5], 20)]
)
def test_what_a_key_can_prove(labels, ways):
    """The weaker null decides: a perfect match is one of so many orders of the labels."""
    key = PaperKey.new(n=20, image_shape=SHAPE, labels=labels)
    assert 2.0 ** -key.best_log2_p() == pytest.approx(ways)


def test_labels_are_uniform():
    """900 labels of 3 classes: each count within 5 standard deviations of 300."""
    labels = PaperKey.new(n=900, classes=3, image_shape=SHAPE).triggers()[1]
    assert all(abs(count - 300) < 5 * 14.2 for count in torch.bincount(labels).tolist())


@pytest.mark.parametrize(
    "wrong",
    [{"n": 0}, {"n": 1001}, {"classes": 1}, {"image_shape": (2, 8, 8)},
     {"n": 1000, "image_shape": (3, 128, 128)},
     {"pictures": torch.zeros(3, 1, 8, 9, dtype=torch.uint8)},
     {"pictures": torch.zeros(3, *SHAPE)}, {"labels": [0] * 99}],
    ids=lambda wrong: ",".join(wrong),
)  # fmt: skip
def test_impossible_keys(wrong):
    with pytest.raises(InvalidInput):
        PaperKey.new(**({"image_shape": SHAPE} | wrong))


def test_a_sealed_key_comes_back(key, vk, tmp_path):
    key.seal(tmp_path / "mk.key", "correct horse", log2_n=4)
    again = PaperKey.open(tmp_path / "mk.key", "correct horse")
    assert openings(again, vk.statement) == 40
    assert again.facts == key.facts
    assert all(map(torch.equal, again.triggers(), key.triggers()))
    assert stat.S_IMODE((tmp_path / "mk.key").stat().st_mode) == 0o600
    with pytest.raises(InvalidInput, match="exists already"):
        key.seal(tmp_path / "mk.key", "correct horse", log2_n=4)
    with pytest.raises(KeyRefused, match="passphrase"):
        PaperKey.open(tmp_path / "mk.key", "wrong horse")


def test_nothing_of_the_key_is_shown(key, vk, tmp_path):
    key.seal(tmp_path / "mk.key", "correct horse", log2_n=4)
    images, labels = key.triggers()
    for text in (repr(key), json.dumps(dict(vk.document)), (tmp_path / "mk.key").read_text()):
        assert str(labels.tolist())[1:-1] not in text
        assert not any(salt.hex() in text for salt in key.picture_salts + key.label_salts)
        assert base64.b64encode(images[0].numpy().tobytes()[:30]).decode() not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(key)


@pytest.mark.parametrize("content", [b"", bytes(20), bytes(2639), bytes(2641)])
def test_a_key_of_another_size_is_refused(tmp_path, key, content):
    """Made by somebody with the passphrase; 20 * (4 + 2 * 32 + 64) = 2640 bytes are a key."""
    envelope = seal(content, "p", purpose="adi-marking-key", public=key.facts.to_dict(), log2_n=4)
    (tmp_path / "mk.key").write_text(json.dumps(envelope))
    with pytest.raises(KeyRefused, match="no marking key"):
        PaperKey.open(tmp_path / "mk.key", "p")


@pytest.mark.parametrize(
    "change",
    [{"n": 21}, {"n": 10**9}, {"classes": 4}, {"classes": "10"}, {"image_shape": [1, 8]},
     {"image_shape": [1, 8, 10**6]}, {"law": "chosen"}, {"version": 2}, {"more": 1}],
    ids=str,
)  # fmt: skip
def test_public_facts_that_do_not_fit_are_refused(tmp_path, change):
    """As made by somebody who has the passphrase; labels here need all 10 classes."""
    key = PaperKey.new(n=20, image_shape=SHAPE, labels=[9] * 20)
    key.seal(tmp_path / "mk.key", "p", log2_n=4)
    envelope = json.loads((tmp_path / "mk.key").read_text())
    content = seal(
        _inside(key), "p", purpose="adi-marking-key", public=envelope["public"] | change, log2_n=4
    )
    (tmp_path / "mk.key").write_text(json.dumps(content))
    with pytest.raises(KeyRefused, match="no marking key"):
        PaperKey.open(tmp_path / "mk.key", "p")


def _inside(key):
    from doorward.watermark.adi.keyfile import pack

    return pack(*key.triggers(), key.picture_salts, key.label_salts)


def test_a_damaged_key_file_is_refused(key, tmp_path):
    """Bit flips and truncation, anywhere."""
    path = tmp_path / "mk.key"
    key.seal(path, "p", log2_n=4)
    whole = path.read_bytes()
    dice = random.Random(0)
    for _ in range(40):
        content = bytearray(whole)
        if dice.random() < 0.3:
            content = content[: dice.randrange(len(content))]
        else:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        if bytes(content).split() == whole.split():
            continue
        path.write_bytes(content)
        try:
            again = PaperKey.open(path, "p")
        except KeyRefused:
            continue
        # JSON has bytes without meaning (white space); then it is the very same key.
        assert again.commitment() == key.commitment()
    with pytest.raises(MissingData):
        PaperKey.open(tmp_path / "nothing", "p")


def test_a_verification_key_survives_its_file(vk, ada, tmp_path):
    vk.save(tmp_path / "vk.json")
    again = VerificationKey.load(tmp_path / "vk.json", ada.public)
    assert again.statement == vk.statement
    assert (again.signer, again.created) == (ada.public, vk.created)


def test_another_signer_is_refused(vk, tmp_path):
    vk.save(tmp_path / "vk.json")
    with pytest.raises(IntegrityError, match="somebody else"):
        VerificationKey.load(tmp_path / "vk.json", Identity.new("Ada").public)


def test_a_document_of_another_purpose_is_refused(vk, ada):
    document = sign_document(vk.statement.to_dict(), ada, purpose="watermark-claim")
    with pytest.raises(IntegrityError, match=PURPOSE):
        VerificationKey.from_document(document).check(ada.public)


def test_a_statement_beside_the_signed_one_is_refused(vk, ada):
    weaker = PaperStatement.from_dict({**vk.statement.to_dict(), "epsilon": 0.49})
    with pytest.raises(IntegrityError, match="not what its signature covers"):
        VerificationKey(statement=weaker, document=vk.document).check(ada.public)


WRONG = [
    ("epsilon", 0.5), ("epsilon", -0.1), ("epsilon", "0.1x"), ("epsilon", None), ("epsilon", 1e400),
    ("key", None), ("key", []), ("pictures", []), ("pictures", "00"), ("labels", ["00" * 32]),
    ("labels", ["0G" * 32] * 20), ("labels", ["00" * 33] * 20), ("version", 2), ("scheme", "adi"),
    ("surprise", 1), ("pictures", ["00" * 32] * 1001), ("pictures", [0] * 20),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value"), WRONG)
def test_signed_nonsense_is_refused(vk, ada, field, value):
    """The signer may be the attacker: the content is checked all the same."""
    content = {**vk.statement.to_dict(), field: value}
    if value == 1e400:
        content[field] = 10**400
    document = sign_document(content, ada, purpose=PURPOSE)
    with pytest.raises(IntegrityError, match="not a valid verification key"):
        VerificationKey.from_document(document)


def test_tampered_files_are_refused(vk, ada, tmp_path):
    """Bit flips, truncation, exchanged and dropped commitments."""
    path = tmp_path / "vk.json"
    vk.save(path)
    whole = path.read_bytes()
    dice = random.Random(1)
    for _ in range(150):
        content = bytearray(whole)
        if dice.random() < 0.2:
            content = content[: dice.randrange(len(content))]
        else:
            content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
        path.write_bytes(content)
        try:
            again = VerificationKey.load(path, ada.public)
        except (BadFile, IntegrityError):
            continue
        assert again.statement == vk.statement  # white space, or the like
        assert json.loads(content) == json.loads(whole)


@pytest.mark.parametrize("change", ["swap", "drop", "epsilon", "created"])
def test_meaningful_changes_are_refused(vk, ada, change):
    document = json.loads(json.dumps(dict(vk.document)))
    content = document["content"]
    if change == "swap":
        content["labels"][0], content["labels"][1] = content["labels"][1], content["labels"][0]
    elif change == "drop":
        content["key"]["n"] -= 1
        del content["labels"][-1], content["pictures"][-1]
    elif change == "epsilon":
        content["epsilon"] = 0.49
    else:
        document["created"] = "2001-01-01T00:00:00Z"
    with pytest.raises(IntegrityError, match="signature"):
        VerificationKey.from_document(document).check(ada.public)


@pytest.mark.parametrize("epsilon", [-0.01, 0.5, 1.0, float("nan")])
def test_impossible_epsilons(key, ada, epsilon):
    with pytest.raises(InvalidInput, match="epsilon"):
        publish(key, ada, epsilon=epsilon)


@pytest.mark.parametrize(
    ("epsilon", "n", "needed"),
    [(0.0, 20, 20), (0.1, 20, 18), (0.29, 100, 71), (0.07, 100, 93), (0.49, 100, 51), (0.1, 9, 9)],
)
def test_the_rule_asks_for_all_but_a_share(ada, epsilon, n, needed):
    """0.29 * 100 is 28.999... in floats; 29 may miss."""
    vk = publish(PaperKey.new(n=n, image_shape=SHAPE), ada, epsilon=epsilon)
    assert vk.statement.needed() == needed
