import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doorward.bundles.identity import Identity
from doorward.bundles.signing import SIGNATURE, check_folder, sign_folder
from doorward.errors import IntegrityError, InvalidInput, MissingData, MissingDependency

pytest.importorskip("model_signing")

ADA, EVE = Identity.new("Ada"), Identity.new("Eve")


@pytest.fixture
def folder(tmp_path):
    """A signed folder with two files, one of them in a subfolder, and an awkward name."""
    folder = tmp_path / "model"
    (folder / "evidence").mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "evidence" / 'it\'s, a "claim".json').write_text("{}")
    sign_folder(folder, ADA)
    return folder


def weights(folder):
    (folder / "model.safetensors").write_bytes(b"weightS")


def added(folder):
    (folder / "extra.py").write_text("evil")


def removed(folder):
    (folder / "evidence" / 'it\'s, a "claim".json').unlink()


def renamed(folder):
    (folder / "model.safetensors").rename(folder / "other.safetensors")


TAMPERING = {
    weights: "changed: model.safetensors",
    added: "added: extra.py",
    removed: 'removed: evidence/it\'s, a "claim".json',
    renamed: "added: other.safetensors; removed: model.safetensors",
}


def public_tool(folder, identity):
    """Run the public command on a folder with the key of `identity`."""
    pem = folder.parent / "key.pem"
    identity.public.save_pem(pem)
    command = [sys.executable, "-m", "model_signing", "verify", "key", str(folder)]
    command += ["--signature", str(folder / SIGNATURE), "--public_key", str(pem)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_own_check_accepts(folder):
    assert check_folder(folder, ADA.public) == (
        'evidence/it\'s, a "claim".json',
        "model.safetensors",
    )
    assert not list(folder.glob(".*"))


def test_signing_again_replaces_the_signature(folder):
    weights(folder)
    sign_folder(folder, ADA)
    assert "model.safetensors" in check_folder(folder, ADA.public)


def test_the_folder_can_be_renamed(folder):
    check_folder(folder.rename(folder.parent / "elsewhere"), ADA.public)


def test_the_public_command_accepts_our_signature(folder):
    done = public_tool(folder, ADA)
    assert done.returncode == 0, done.stderr
    assert "Verification succeeded" in done.stdout


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
def test_tampering_is_rejected_by_both_and_named_by_ours(folder, tamper):
    tamper(folder)
    with pytest.raises(IntegrityError) as caught:
        check_folder(folder, ADA.public)
    assert TAMPERING[tamper] in str(caught.value)
    assert public_tool(folder, ADA).returncode == 1


def test_another_key_is_rejected_by_both(folder):
    with pytest.raises(IntegrityError, match="another key than that of Eve"):
        check_folder(folder, EVE.public)
    assert public_tool(folder, EVE).returncode == 1


def test_a_forged_hint_does_not_help(folder):
    import hashlib

    signature = json.loads((folder / SIGNATURE).read_text())
    hint = hashlib.sha256(EVE.public.p256_pem().encode()).hexdigest()
    signature["verificationMaterial"]["publicKey"]["hint"] = hint
    (folder / SIGNATURE).write_text(json.dumps(signature))
    with pytest.raises(IntegrityError, match="does not fit the key"):
        check_folder(folder, EVE.public)


def test_we_accept_the_public_tools_signature_but_not_uncovered_files(folder):
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(ADA.p256_pem(b"pw"), b"pw")
    plain = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = folder.parent / "private.pem"
    pem.write_bytes(plain)
    (folder / SIGNATURE).unlink()
    command = [sys.executable, "-m", "model_signing", "sign", "key", str(folder)]
    command += ["--signature", str(folder / SIGNATURE), "--private_key", str(pem)]
    subprocess.run(command, check=True, capture_output=True)
    check_folder(folder, ADA.public)
    (folder / ".gitattributes").write_text("*.safetensors filter=evil")  # the tool ignores it
    assert public_tool(folder, ADA).returncode == 0
    with pytest.raises(IntegrityError, match=r"added: \.gitattributes"):
        check_folder(folder, ADA.public)


def test_missing_things(folder, tmp_path):
    (folder / SIGNATURE).unlink()
    with pytest.raises(MissingData, match="not signed"):
        check_folder(folder, ADA.public)
    with pytest.raises(MissingData):
        sign_folder(tmp_path / "none", ADA)
    with pytest.raises(MissingData):
        check_folder(tmp_path / "none", ADA.public)


def test_symbolic_links_are_refused(folder):
    (folder / "link").symlink_to("/etc/hostname")
    with pytest.raises(InvalidInput, match="symbolic link"):
        sign_folder(folder, ADA)
    with pytest.raises(IntegrityError, match="symbolic link"):
        check_folder(folder, ADA.public)


def test_pipes_are_refused(folder):
    os.mkfifo(folder / "pipe")
    with pytest.raises(IntegrityError, match="special file"):
        check_folder(folder, ADA.public)


def test_no_key_is_left_behind(folder, monkeypatch, tmp_path):
    private = tmp_path / "tmp"
    private.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(private))
    seen = []
    original = Path.write_bytes

    def spy(path, content):
        seen.append(content)
        return original(path, content)

    monkeypatch.setattr(Path, "write_bytes", spy)
    sign_folder(folder, ADA)
    assert any(b"BEGIN ENCRYPTED PRIVATE KEY" in content for content in seen)
    assert not any(b"BEGIN PRIVATE KEY" in content for content in seen)
    assert not list(private.iterdir())


def test_without_the_package_the_remedy_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "model_signing", None)
    with pytest.raises(MissingDependency, match=r"doorward\[sign\]"):
        check_folder(folder, ADA.public)


@pytest.fixture(scope="module")
def one_file(tmp_path_factory):
    """A signed folder with one file, and its signature."""
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "w").write_bytes(b"weights")
    return folder, sign_folder(folder, ADA).read_bytes()


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_fuzzed_signatures_never_pass_as_something_else(one_file, data):
    folder, content = one_file[0], bytearray(one_file[1])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / SIGNATURE).write_bytes(content)
    try:
        assert check_folder(folder, ADA.public) == ("w",)
    except IntegrityError:
        return


@settings(deadline=None, max_examples=30)
@given(content=st.binary(max_size=300))
def test_random_signatures_are_rejected(tmp_path_factory, content):
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / SIGNATURE).write_bytes(content)
    with pytest.raises(IntegrityError):
        check_folder(folder, ADA.public)


@pytest.mark.parametrize("value", [None, 1, "x", [], {}, [{}]])
@pytest.mark.parametrize("field", ["mediaType", "verificationMaterial", "dsseEnvelope"])
def test_nonsense_in_the_signature(folder, field, value):
    signature = json.loads((folder / SIGNATURE).read_text())
    signature[field] = value
    (folder / SIGNATURE).write_text(json.dumps(signature))
    with pytest.raises(IntegrityError):
        check_folder(folder, ADA.public)
