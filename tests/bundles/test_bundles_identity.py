import json
import pickle

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.sealing import seal_file
from doorward.errors import (
    BadFile,
    DoorwardError,
    IntegrityError,
    InvalidInput,
    KeyRefused,
    MissingData,
)

ADA, EVE = Identity.new("Ada"), Identity.new("Eve")


def test_signature_is_plain_ed25519_over_a_tagged_message():
    signature = ADA.sign(b"hello")
    assert len(signature) == 64
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(ADA.public.ed25519))
    key.verify(signature, b"doorward/message\0hello")
    ADA.public.verify(b"hello", signature)


@pytest.mark.parametrize(
    ("public", "message", "purpose"),
    [(ADA, b"hellO", "message"), (EVE, b"hello", "message"), (ADA, b"hello", "claim")],
)
def test_other_message_signer_or_purpose_is_rejected(public, message, purpose):
    with pytest.raises(IntegrityError, match="does not fit"):
        public.public.verify(message, ADA.sign(b"hello"), purpose=purpose)


@pytest.mark.parametrize("signature", [b"", b"\0" * 64, b"\0" * 63, b"\xff" * 64])
def test_nonsense_signature_is_rejected(signature):
    with pytest.raises(IntegrityError):
        ADA.public.verify(b"hello", signature)


@pytest.mark.parametrize("purpose", ["p256-certificate", "", "a\0b", "grün", "a\nb"])
def test_reserved_and_malformed_purposes(purpose):
    with pytest.raises(InvalidInput):
        ADA.sign(b"x", purpose=purpose)


def test_seal_and_open(tmp_path):
    path = tmp_path / "ada.key"
    ADA.seal(path, "pass", log2_n=4)
    assert path.stat().st_mode & 0o777 == 0o600
    again = Identity.open(path, "pass")
    assert again.public == ADA.public
    ADA.public.verify(b"x", again.sign(b"x"))
    pem = again.p256_pem(b"pw")
    private = serialization.load_pem_private_key(pem, b"pw")
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    shown = private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert shown.decode() == ADA.public.p256_pem()
    with pytest.raises(KeyRefused, match="passphrase is wrong"):
        Identity.open(path, "Pass")
    with pytest.raises(MissingData):
        Identity.open(tmp_path / "none.key", "pass")


def test_opened_keys_must_fit_the_public_part(tmp_path):
    for number, secret in enumerate([b"x" * 64, b"x" * 3, b"\0" * 64, b"\xff" * 64]):
        path = tmp_path / f"{number}.key"
        seal_file(path, secret, "p", purpose="identity", public=ADA.public.to_dict(), log2_n=4)
        with pytest.raises(KeyRefused, match="do not fit"):
            Identity.open(path, "p")
    seal_file(tmp_path / "y.key", b"x" * 64, "p", purpose="identity", public={}, log2_n=4)
    with pytest.raises(KeyRefused):
        Identity.open(tmp_path / "y.key", "p")


def test_no_secret_in_repr_or_pickle(tmp_path):
    path = tmp_path / "ada.key"
    ADA.seal(path, "pass", log2_n=4)
    scalar = ADA._p256.private_numbers().private_value
    seed = ADA._ed25519.private_bytes_raw().hex()
    for text in (repr(ADA), str(ADA), repr(ADA.public), path.read_text()):
        assert seed not in text
        assert f"{scalar:064x}" not in text
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(ADA)


def test_public_file_round_trip(tmp_path):
    path = tmp_path / "ada.pub.json"
    ADA.public.save(path)
    assert PublicIdentity.load(path) == ADA.public
    assert json.loads(path.read_text())["fingerprint"] == ADA.public.fingerprint
    ADA.public.save_pem(tmp_path / "ada.pem")
    serialization.load_pem_public_key((tmp_path / "ada.pem").read_bytes())


@pytest.mark.parametrize("field", ["fingerprint", "ed25519", "p256", "certificate", "name"])
def test_public_file_with_a_foreign_field_is_rejected(tmp_path, field):
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**ADA.public.to_dict(), field: EVE.public.to_dict()[field]}))
    with pytest.raises(IntegrityError):
        PublicIdentity.load(path)


def test_public_file_that_is_none(tmp_path):
    path = tmp_path / "x.json"
    path.write_text("{}")
    with pytest.raises(BadFile, match="not a public identity"):
        PublicIdentity.load(path)
    off_curve = "02" + "00" * 31 + "05"  # x = 5 has no point on P-256
    path.write_text(json.dumps({**ADA.public.to_dict(), "p256": off_curve}))
    with pytest.raises(IntegrityError):
        PublicIdentity.load(path)


@pytest.mark.parametrize("name", ["", "x" * 201])
def test_bad_names(name):
    with pytest.raises(InvalidInput):
        Identity.new(name)


@settings(deadline=None, max_examples=200)
@given(data=st.data())
def test_fuzzed_public_files(tmp_path_factory, data):
    content = bytearray(json.dumps(ADA.public.to_dict()).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("fuzz") / "x.json"
    path.write_bytes(content)
    try:
        public = PublicIdentity.load(path)
    except DoorwardError:
        return
    assert public == ADA.public


@pytest.mark.parametrize(
    "name", ["Ada\nVERIFIED", "\x1b[31mAda", "Ada\u202e", " Ada", "Ada ", "", "A" * 201]
)
def test_names_that_would_garble_a_terminal_or_a_report_are_refused(name):
    with pytest.raises(InvalidInput, match="name"):
        Identity.new(name)


@pytest.mark.parametrize(
    "moment", ["2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "\uff12026-01-01T00:00:00Z"]
)
def test_times_that_do_not_exist_are_refused(moment):
    fields = Identity.new("Ada").public.to_dict()
    with pytest.raises(InvalidInput, match="created"):
        PublicIdentity.from_dict({**fields, "created": moment})
