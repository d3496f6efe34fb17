import base64
import copy
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles import sealing
from doorward.bundles.sealing import read_passphrase, seal, seal_file, unseal, unseal_file
from doorward.errors import BadFile, DoorwardError, InvalidInput, KeyRefused, MissingData
from doorward.randomness import Secret

CHEAP = {"log2_n": 4}
ENVELOPE = seal(b"the secret", "pass", purpose="test", public={"n": 1}, **CHEAP)


def test_seal_hides_and_unseal_returns_the_secret():
    assert unseal(ENVELOPE, "pass", purpose="test") == b"the secret"
    assert b"the secret" not in repr(ENVELOPE).encode()
    assert b"the secret" not in base64.b64decode(ENVELOPE["ciphertext"])
    other = seal(b"the secret", "pass", purpose="test", public={"n": 1}, **CHEAP)
    assert other["salt"] != ENVELOPE["salt"]
    assert other["nonce"] != ENVELOPE["nonce"]


def test_default_cost_is_the_stated_one():
    envelope = seal(b"x", "pass", purpose="test")
    assert (envelope["log2_n"], envelope["r"], envelope["p"]) == (17, 8, 1)


def test_a_secret_object_can_be_sealed():
    secret = Secret.new()
    assert unseal(seal(secret, "p", purpose="t", **CHEAP), "p", purpose="t") == secret.reveal()


def test_passphrase_in_either_unicode_form_opens():
    envelope = seal(b"x", "caf\u00e9", purpose="t", **CHEAP)
    assert unseal(envelope, "cafe\u0301", purpose="t") == b"x"


@pytest.mark.parametrize("passphrase", ["", "Pass", "pass ", "\ud800"])
def test_wrong_passphrase(passphrase):
    with pytest.raises(KeyRefused):
        unseal(ENVELOPE, passphrase, purpose="test")


def test_wrong_purpose():
    with pytest.raises(KeyRefused, match="'test'"):
        unseal(ENVELOPE, "pass", purpose="identity")
    with pytest.raises(KeyRefused):
        unseal({**ENVELOPE, "purpose": "identity"}, "pass", purpose="identity")


@pytest.mark.parametrize(
    "change",
    [
        {"public": {"n": 2}},
        {"salt": "0" * 32},
        {"nonce": "0" * 24},
        {"log2_n": 5},
        {"r": 4},
        {"p": 2},
        {"ciphertext": ""},
        {"ciphertext": "not base64!"},
        {"ciphertext": "\u00e9"},
        {"version": 2},
        {"kdf": "none"},
        {"extra": 1},
        {"salt": None},
        {"salt": "0" * 32 + "\n"},
        {"log2_n": True},
        {"public": {"n": float("nan")}},
    ],
)
def test_any_changed_field_is_refused(change):
    with pytest.raises(KeyRefused):
        unseal({**ENVELOPE, **change}, "pass", purpose="test")


@pytest.mark.parametrize(
    "greedy", [{"log2_n": 40}, {"log2_n": 20, "r": 32}, {"p": 2**30}, {"r": 2**30}, {"log2_n": 0}]
)
def test_a_malicious_file_cannot_ask_for_the_memory(greedy, monkeypatch):
    monkeypatch.setattr(sealing, "Scrypt", None)  # reaching it would be a TypeError
    start = time.perf_counter()
    with pytest.raises(KeyRefused, match=r"less than|greater than|memory"):
        unseal({**ENVELOPE, **greedy}, "pass", purpose="test")
    assert time.perf_counter() - start < 1


def test_seal_refuses_bad_input():
    with pytest.raises(InvalidInput, match="empty"):
        seal(b"x", "", purpose="t")
    with pytest.raises(InvalidInput, match="memory"):
        seal(b"x", "p", purpose="t", log2_n=20, r=32)
    with pytest.raises(InvalidInput):
        seal(b"x", "p", purpose="", **CHEAP)
    with pytest.raises(InvalidInput, match="JSON"):
        seal(b"x", "p", purpose="t", public={"x": object()}, **CHEAP)
    with pytest.raises(InvalidInput, match="not valid text"):
        seal(b"x", "\ud800", purpose="t", **CHEAP)


def test_files_are_private_and_not_overwritten(tmp_path):
    path = tmp_path / "a.key"
    seal_file(path, b"one", "p", purpose="t", public={"who": "me"}, **CHEAP)
    assert path.stat().st_mode & 0o777 == 0o600
    assert unseal_file(path, "p", purpose="t") == (b"one", {"who": "me"})
    with pytest.raises(InvalidInput, match="exists already"):
        seal_file(path, b"two", "p", purpose="t", **CHEAP)
    assert unseal_file(path, "p", purpose="t")[0] == b"one"
    seal_file(path, b"two", "p", purpose="t", overwrite=True, **CHEAP)
    assert unseal_file(path, "p", purpose="t")[0] == b"two"
    with pytest.raises(MissingData):
        unseal_file(tmp_path / "none", "p", purpose="t")
    with pytest.raises(KeyRefused, match=r"a\.key"):
        unseal_file(path, "q", purpose="t")
    with pytest.raises(KeyRefused):
        unseal_file(tmp_path, "q", purpose="t")


@settings(deadline=None)
@given(content=st.binary(max_size=200))
def test_random_files_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("fuzz") / "x.key"
    path.write_bytes(content)
    with pytest.raises(KeyRefused):
        unseal_file(path, "pass", purpose="test")


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_flipped_bits_are_refused_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip")
    path = folder / "x.key"
    seal_file(path, b"the secret", "pass", purpose="test", **CHEAP)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        secret, _ = unseal_file(path, "pass", purpose="test")
    except KeyRefused:
        return
    assert secret == b"the secret"  # a flip in white space changes nothing


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@settings(deadline=None)
@given(name=st.sampled_from(sorted(ENVELOPE)), value=json_values)
def test_any_json_in_any_field_is_refused(name, value):
    envelope = copy.deepcopy(ENVELOPE)
    if envelope[name] == value and type(envelope[name]) is type(value):
        return
    envelope[name] = value
    with pytest.raises(KeyRefused):
        unseal(envelope, "pass", purpose="test")


def test_read_passphrase(tmp_path, monkeypatch):
    file = tmp_path / "pass"
    file.write_bytes("grüße\r\nrest".encode())
    monkeypatch.setenv("DOORWARD_PASSPHRASE", "from-env")
    assert read_passphrase(file=file) == "grüße"
    assert read_passphrase() == "from-env"
    monkeypatch.delenv("DOORWARD_PASSPHRASE")
    assert read_passphrase(prompt=lambda: "asked") == "asked"
    with pytest.raises(InvalidInput, match="DOORWARD_PASSPHRASE"):
        read_passphrase()
    with pytest.raises(MissingData):
        read_passphrase(file=tmp_path / "none")
    file.write_bytes(b"\xff")
    with pytest.raises(BadFile):
        read_passphrase(file=file)
    file.write_bytes(b"\nsecond")
    with pytest.raises(DoorwardError):
        read_passphrase(file=file)
