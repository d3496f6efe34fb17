"""The key: derivation, commitment, sealing, secrecy."""

import json
import logging
import pickle
import stat

import pytest
import torch

from doorward.bundles.identity import Identity
from doorward.bundles.merkle import MerkleTree, leaf, verify_proof
from doorward.errors import IntegrityError, InvalidInput, KeyRefused, MissingData, UnknownName
from doorward.randomness import Secret
from doorward.watermark.key import KeyParameters, WatermarkKey, draw_triggers

SHAPE = (1, 12, 12)
LABELS = [4, 9, 9, 2, 6, 3, 0, 8, 0, 6, 8, 1]
ROOT = "e2893be960a275997cb3c41ad5bbbd8f4a71ac6b7a22dc7bbdc46f0a03a2039e"


def fixed(seed: bytes = bytes(32), **parameters) -> WatermarkKey:
    return WatermarkKey(
        Secret(seed), KeyParameters(**{"n": 30, "image_shape": SHAPE, **parameters})
    )


@pytest.fixture(scope="module")
def ada():
    return Identity.new("Ada")


def test_derivation_never_changes():
    """A key sealed today must open the commitment published today, with every later version."""
    key = fixed()
    assert key.triggers()[1][:12].tolist() == LABELS
    assert key.commitment() == ROOT


def test_the_same_seed_gives_the_same_triggers():
    one, other = fixed().triggers(), fixed().triggers()
    assert torch.equal(one[0], other[0])
    assert torch.equal(one[1], other[1])


@pytest.mark.parametrize(
    "change",
    [{"n": 31}, {"classes": 11}, {"image_shape": (1, 12, 13)}, {"owner": "ab" * 32}],
    ids=lambda change: next(iter(change)),
)
def test_every_parameter_takes_part(change):
    """Another owner, size or number of classes: other pictures, other labels, another root."""
    one, other = fixed(), fixed(**change)
    assert one.commitment() != other.commitment()
    if one.image_shape == other.image_shape:
        assert not torch.equal(one.triggers()[0][:30], other.triggers()[0][:30])
    assert not torch.equal(one.triggers()[1][:30], other.triggers()[1][:30])


def test_new_keys_differ():
    roots = {WatermarkKey.new(n=2, image_shape=SHAPE).commitment() for _ in range(5)}
    assert len(roots) == 5


@pytest.mark.parametrize("classes", [2, 10, 43, 1000])
def test_labels_are_uniform(classes):
    labels = fixed(n=4000, classes=classes, image_shape=(1, 8, 8)).triggers()[1]
    assert labels.dtype == torch.int64
    counts = torch.bincount(labels, minlength=classes).float()
    assert len(counts) == classes
    expected = 4000 / classes
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # Five standard deviations of a chi-square variable with L - 1 degrees of freedom.
    assert chi_square < classes - 1 + 5 * (2 * (classes - 1)) ** 0.5


def test_each_leaf_commits_to_one_trigger():
    """One secret, its path and the root give one trigger again, and show nothing of the others."""
    key = fixed(n=5)
    images, labels = key.triggers()
    tree = key.tree()
    for i in range(5):
        secret = _secret(key, i)
        verify_proof(tree.root, leaf(i, secret.reveal()), tree.proof(i))
        image, label = draw_triggers(key.parameters, tree.root, [secret])
        assert torch.equal(image[0], images[i])
        assert label.tolist() == labels[i : i + 1].tolist()
    for index, secret in ((3, _secret(key, 2)), (2, _secret(key, 3)), (3, Secret(bytes(32)))):
        with pytest.raises(IntegrityError):
            verify_proof(tree.root, leaf(index, secret.reveal()), tree.proof(3))


def test_one_exchanged_secret_changes_all_triggers():
    """Nobody can try secrets for one trigger until its label suits a model: all others move."""
    key = fixed(n=40)
    secrets = [_secret(key, i) for i in range(40)]
    secrets[7] = Secret(bytes(32))
    tree = MerkleTree([leaf(i, secret.reveal()) for i, secret in enumerate(secrets)])
    images, labels = draw_triggers(key.parameters, tree.root, secrets)
    before = key.triggers()
    assert not any(torch.equal(one, other) for one, other in zip(images, before[0], strict=True))
    assert not torch.equal(labels[8:], before[1][8:])


def test_the_root_does_not_fit_other_parameters():
    """A published root under other parameters (another owner) is no root of the same triggers."""
    key = fixed(n=30)
    other = KeyParameters(n=30, image_shape=SHAPE, owner="ab" * 32)
    secrets = [_secret(key, i) for i in range(30)]
    labels = draw_triggers(other, key.tree().root, secrets)[1]
    assert not torch.equal(labels, key.triggers()[1])


def test_larger_keys_than_memory_are_refused():
    with pytest.raises(InvalidInput, match="fewer triggers"):
        WatermarkKey.new(n=2**16, image_shape=(3, 1024, 1024))


def _secret(key, i):
    return Secret(key._master.mac(i.to_bytes(4, "big")))


def test_triggers_are_copies():
    key = fixed()
    key.triggers()[0].zero_()
    key.triggers()[1].zero_()
    assert key.triggers()[0].any()
    assert key.commitment() == fixed().commitment()


def test_sealing_and_opening(tmp_path, ada):
    key = WatermarkKey.new(n=7, classes=3, image_shape=SHAPE, owner=ada.public)
    path = tmp_path / "mark.key"
    key.seal(path, "correct horse", log2_n=4)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = WatermarkKey.open(path, "correct horse")
    assert again.parameters == key.parameters
    assert again.commitment() == key.commitment()
    with pytest.raises(KeyRefused, match="passphrase is wrong"):
        WatermarkKey.open(path, "wrong horse")
    with pytest.raises(InvalidInput, match="exists already"):
        key.seal(path, "other", log2_n=4)
    with pytest.raises(MissingData):
        WatermarkKey.open(tmp_path / "absent.key", "correct horse")


@pytest.mark.parametrize(
    ("field", "value"), [("n", 8), ("owner", "cd" * 32), ("classes", 4), ("image_shape", [1, 8, 8])]
)
def test_changed_public_part_is_refused(tmp_path, field, value):
    path = tmp_path / "mark.key"
    fixed(n=7).seal(path, "p", log2_n=4)
    document = json.loads(path.read_text())
    document["public"][field] = value
    path.write_text(json.dumps(document))
    with pytest.raises(KeyRefused):
        WatermarkKey.open(path, "p")


def test_other_sealed_files_are_refused(tmp_path, ada):
    ada.seal(tmp_path / "ada.key", "p", log2_n=4)
    with pytest.raises(KeyRefused, match="identity"):
        WatermarkKey.open(tmp_path / "ada.key", "p")


def test_the_seed_is_never_shown(tmp_path, caplog):
    seed = bytes(range(65, 97))
    key = fixed(seed)
    key.seal(tmp_path / "k", "p", log2_n=4)
    shown = repr(key) + str(key) + repr(vars(key)) + (tmp_path / "k").read_text()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("t").debug("key: %s", key)
    shown += caplog.text
    assert seed.hex() not in shown
    assert seed.decode() not in shown
    with pytest.raises(TypeError, match="seal"):
        pickle.dumps(key)


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({"n": 0}, "n:"),
        ({"classes": 1}, "classes:"),
        ({"image_shape": (2, 32, 32)}, "channels"),
        ({"image_shape": (3, 4, 4)}, "4x4"),
    ],
)
def test_bad_parameters_are_explained(parameters, words):
    with pytest.raises(InvalidInput, match=words):
        WatermarkKey.new(**parameters)


def test_unknown_generator():
    with pytest.raises(UnknownName):
        WatermarkKey.new(generator="natural-v1")
