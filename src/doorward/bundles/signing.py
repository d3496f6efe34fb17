"""Model folders signed in the OpenSSF model-signing format, and checked again.

>>> import tempfile, pathlib
>>> from doorward.bundles.identity import Identity
>>> folder, ada = pathlib.Path(tempfile.mkdtemp()), Identity.new("Ada")
>>> _ = (folder / "weights").write_bytes(b"123")
>>> sign_folder(folder, ada).name
'model.sig'
>>> check_folder(folder, ada.public)
('weights',)
>>> _ = (folder / "weights").write_bytes(b"124")
>>> check_folder(folder, ada.public)
Traceback (most recent call last):
doorward.errors.IntegrityError: ... is not what Ada signed: changed: weights. ...

Signature and check are those of the public `model_signing` package (a Sigstore bundle with a
DSSE envelope around the SHA-256 of every file), so anybody can check without Doorward::

    model_signing verify key FOLDER --signature FOLDER/model.sig --public_key ada.pem
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography.exceptions import InvalidSignature

from doorward.bundles.documents import parse_object, read_limited
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.errors import (
    BadFile,
    IntegrityError,
    InvalidInput,
    MissingData,
    MissingDependency,
    StorageFailed,
)
from doorward.files import sha256_file, write_bytes

__all__ = ["SIGNATURE", "check_folder", "sign_folder"]

SIGNATURE = "model.sig"
"""Name of the signature in the folder; it is left out of what is signed."""

_DISTRUST = "do not use it; get it again from its owner"


def sign_folder(folder: str | os.PathLike[str], identity: Identity) -> Path:
    """Sign every file of a folder; the signature becomes ``folder/model.sig``.

    Args:
        folder: any folder without symbolic links; an old signature in it is replaced.
        identity: who signs (with the P-256 key, as the format demands).

    Returns:
        The path of the signature.

    Raises:
        MissingData: there is no such folder.
        InvalidInput: it holds a symbolic link or special file.
        MissingDependency: the package model-signing is not installed.
        StorageFailed: a file could not be read, or the signature not be written.
    """
    folder, tool = Path(folder), _model_signing()
    _list_files(folder)
    # The package reads the key from a file: it gets one that is encrypted with a password that
    # exists in this call only, in a folder that only this user can enter.
    password = secrets.token_hex(32).encode()
    with tempfile.TemporaryDirectory(prefix="doorward-") as private:
        key = Path(private, "key.pem")
        key.write_bytes(identity.p256_pem(password))
        config = tool.signing.Config()
        config.use_elliptic_key_signer(private_key=key, password=password)
        config.set_hashing_config(_hashing(tool))
        draft = Path(private, SIGNATURE)
        try:
            config.sign(folder, draft)
        except OSError as error:
            raise StorageFailed(
                f"{folder} could not be signed", why=str(error), remedy="check the permissions"
            ) from error
        write_bytes(folder / SIGNATURE, draft.read_bytes())
    return folder / SIGNATURE


def check_folder(folder: str | os.PathLike[str], public: PublicIdentity) -> tuple[str, ...]:
    """Check that a folder is, file by file, what its owner signed.

    Stricter than the package alone: *every* file must be covered, also those that a signer may
    leave out (``.gitattributes`` and the like), since one of them could matter to a reader.

    Args:
        folder: the folder with its ``model.sig``.
        public: the owner; get this file over another channel than the folder.

    Returns:
        The names of the signed files, sorted.

    Raises:
        MissingData: there is no such folder, or no signature in it.
        IntegrityError: a file was changed, added or removed (named), the folder holds a symbolic
            link or special file, the signature is of another key, or it is damaged.
        MissingDependency: the package model-signing is not installed.
    """
    folder, tool = Path(folder), _model_signing()
    try:
        present = _list_files(folder)
    except InvalidInput as error:  # nobody signs such a folder: it was changed since
        raise IntegrityError(error.what, why=error.why, remedy=_DISTRUST) from error
    if SIGNATURE not in present:
        raise MissingData(
            f"{folder} is not signed", why=f"it holds no {SIGNATURE}", remedy="run: doorward sign"
        )
    public.check()
    try:
        signature = read_limited(folder / SIGNATURE)
        _check_hint(parse_object(signature, SIGNATURE), folder, public)
    except BadFile as error:
        raise IntegrityError(
            f"the signature of {folder} is damaged", why=error.why or error.what, remedy=_DISTRUST
        ) from error
    with tempfile.TemporaryDirectory(prefix="doorward-") as private:
        # The bytes that were looked at are the bytes that are checked: a copy nobody can swap.
        copy, key = Path(private, SIGNATURE), Path(private, "key.pem")
        copy.write_bytes(signature)
        key.write_text(public.p256_pem())
        _verify(tool, folder, copy, key, public)
    signed = _signed_files(signature)
    if signed.keys() != set(present) - {SIGNATURE}:  # the signer chose to leave some files out
        raise _difference(folder, signature, public)
    return tuple(sorted(signed))


def _model_signing() -> ModuleType:
    try:
        import model_signing
    except ImportError:
        raise MissingDependency.of(
            "model-signing", "sign", "sign and check model folders"
        ) from None
    return model_signing


def _hashing(tool: ModuleType) -> Any:
    config = tool.hashing.Config().use_file_serialization(hashing_algorithm="sha256")
    return config.set_ignored_paths(paths=[Path(SIGNATURE)], ignore_git_paths=False)


def _list_files(folder: Path) -> list[str]:
    """Names of all files below `folder`, with forward slashes."""
    if not folder.is_dir():
        raise MissingData(f"there is no folder {folder}", remedy="check the path")
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise InvalidInput(
                f"{path} is a symbolic link or a special file",
                why="what it stands for can change behind the signature",
                remedy="replace it by a copy of the file",
            )
        if path.is_file():
            files.append(path.relative_to(folder).as_posix())
    return files


def _check_hint(signature: dict[str, Any], folder: Path, public: PublicIdentity) -> None:
    """Say "another key" in plain words; the package would, and print a warning without a hint."""
    try:
        hint = signature["verificationMaterial"]["publicKey"]["hint"]
    except (KeyError, TypeError):
        raise BadFile("it does not name its key") from None
    if hint != hashlib.sha256(public.p256_pem().encode()).hexdigest():
        raise IntegrityError(
            f"{folder} was signed with another key than that of {public.name}",
            why=f"the fingerprint of {public.name} is {public.fingerprint[:16]}",
            remedy="check whose public identity you were given",
        )


def _verify(
    tool: ModuleType, folder: Path, signature: Path, key: Path, public: PublicIdentity
) -> None:
    config = tool.verifying.Config().use_elliptic_key_verifier(public_key=key)
    config.set_hashing_config(_hashing(tool))
    try:
        config.verify(folder, signature)
    except InvalidSignature as error:
        raise IntegrityError(
            f"the signature of {folder} does not fit the key of {public.name}",
            why="the signature file was changed",
            remedy=_DISTRUST,
        ) from error
    except Exception as error:
        # The package reports differences as ValueError, and passes on whatever its parsers of
        # Sigstore bundles stumble over in a damaged file; none of it may count as "signed".
        if "Signature mismatch" in str(error):
            raise _difference(folder, signature.read_bytes(), public) from error
        raise IntegrityError(
            f"the signature of {folder} cannot be read",
            why=f"{type(error).__name__}: {error}"[:300],
            remedy=_DISTRUST,
        ) from error


def _difference(folder: Path, signature: bytes, public: PublicIdentity) -> IntegrityError:
    """Which files differ from a signature whose own cryptography is in order."""
    signed = _signed_files(signature)
    present = {name: sha256_file(folder / name) for name in _list_files(folder)}
    present.pop(SIGNATURE, None)
    found = {
        "changed": [name for name in signed.keys() & present if signed[name] != present[name]],
        "added": present.keys() - signed,
        "removed": signed.keys() - present,
    }
    listed = [f"{word}: {', '.join(sorted(names))}" for word, names in found.items() if names]
    return IntegrityError(
        f"{folder} is not what {public.name} signed", why="; ".join(listed), remedy=_DISTRUST
    )


def _signed_files(signature: bytes) -> dict[str, str]:
    """File names and their digests in a signature that has been verified."""
    try:
        envelope = json.loads(signature)["dsseEnvelope"]
        statement = json.loads(base64.b64decode(envelope["payload"]))
        resources = statement["predicate"]["resources"]
        return {entry["name"]: entry["digest"] for entry in resources}
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        raise IntegrityError(
            "the signature does not list its files",
            why=f"it is of an older format ({error})",
            remedy="ask the owner to sign again",
        ) from error
