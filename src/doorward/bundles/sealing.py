"""Secrets at rest: sealed with a passphrase, opened only with it, tied to what they are for.

>>> envelope = seal(b"the key of the mark", "correct horse", purpose="example", log2_n=10)
>>> unseal(envelope, "correct horse", purpose="example")
b'the key of the mark'
>>> unseal(envelope, "wrong horse", purpose="example")
Traceback (most recent call last):
doorward.errors.KeyRefused: the key cannot be opened: the passphrase is wrong, or the file ...

The passphrase is stretched with scrypt (RFC 7914) and the secret encrypted with AES-256-GCM;
everything else in the envelope (purpose, public part, parameters) is authenticated with it.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import canonical, parse_object, read_limited, read_object
from doorward.errors import BadFile, InvalidInput, KeyRefused
from doorward.files import write_json
from doorward.randomness import Secret
from doorward.records import STRICT, Record, Version1

__all__ = ["Envelope", "read_passphrase", "seal", "seal_file", "unseal", "unseal_file"]

_MAX_SCRYPT_BYTES = 2**30  # scrypt needs 128*n*r bytes; a stranger's file may not ask for more


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Envelope(Record):
    """The sealed form of a secret, as it stands in a JSON file."""

    format: Literal["doorward-sealed"] = "doorward-sealed"
    version: Version1 = 1
    purpose: Annotated[str, Field(min_length=1, max_length=100)]
    public: dict[str, Any]
    kdf: Literal["scrypt"] = "scrypt"
    log2_n: Annotated[int, Field(ge=1, le=20, strict=True)]
    r: Annotated[int, Field(ge=1, le=32, strict=True)]
    p: Annotated[int, Field(ge=1, le=4, strict=True)]
    salt: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    cipher: Literal["aes-256-gcm"] = "aes-256-gcm"
    nonce: Annotated[str, Field(pattern=r"^[0-9a-f]{24}$")]
    ciphertext: str

    def associated(self) -> bytes:
        """The bytes that are authenticated beside the secret: all fields but the ciphertext."""
        content = self.to_dict()
        del content["ciphertext"]
        return canonical(content, "the envelope")

    def key(self, passphrase: str) -> bytes:
        """The AES key of this envelope under `passphrase`."""
        if 128 * 2**self.log2_n * self.r > _MAX_SCRYPT_BYTES:
            raise InvalidInput(
                f"scrypt with n=2**{self.log2_n}, r={self.r} needs too much memory",
                why=f"the limit is {_MAX_SCRYPT_BYTES >> 20} MiB",
                remedy="use log2_n=17, r=8",
            )
        kdf = Scrypt(salt=bytes.fromhex(self.salt), length=32, n=2**self.log2_n, r=self.r, p=self.p)
        # The same letters typed on two systems may be two byte strings (e + accent, or one sign).
        return kdf.derive(unicodedata.normalize("NFC", passphrase).encode())


def seal(
    secret: bytes | Secret,
    passphrase: str,
    *,
    purpose: str,
    public: Mapping[str, Any] | None = None,
    log2_n: int = 17,
    r: int = 8,
    p: int = 1,
) -> dict[str, Any]:
    """Encrypt a secret under a passphrase.

    Args:
        secret: the bytes to protect, any length.
        passphrase: not empty; Unicode is normalised (NFC).
        purpose: what the secret is ("identity", "watermark-key"); `unseal` must name the same.
        public: JSON data that anybody may read but nobody may change.
        log2_n: scrypt's cost; 17 takes about 0.3 s and 128 MiB. Lower it in tests only.
        r: scrypt's block size.
        p: scrypt's parallelisation.

    Returns:
        A JSON-ready envelope (see `Envelope`).

    Raises:
        InvalidInput: empty passphrase, cost out of range, or `public` is not JSON.
    """
    if not passphrase:
        raise InvalidInput("the passphrase is empty", remedy="choose a long one, and note it down")
    draft = {
        "purpose": purpose,
        "public": parse_object(canonical(public or {}, "the public part"), "the public part"),
        "log2_n": log2_n,
        "r": r,
        "p": p,
        "salt": secrets.token_hex(16),
        "nonce": secrets.token_hex(12),
        "ciphertext": "",
    }
    envelope = Envelope.from_dict(draft)
    plain = secret.reveal() if isinstance(secret, Secret) else bytes(secret)
    associated = envelope.associated()
    hidden = AESGCM(_encodable(envelope, passphrase)).encrypt(
        bytes.fromhex(envelope.nonce), plain, associated
    )
    return {**envelope.to_dict(), "ciphertext": base64.b64encode(hidden).decode()}


def unseal(envelope: Mapping[str, Any], passphrase: str, *, purpose: str) -> bytes:
    """Open what `seal` made.

    Args:
        envelope: the JSON object.
        passphrase: the passphrase it was sealed with.
        purpose: the purpose it must have.

    Returns:
        The secret bytes. `envelope["public"]` is now known to be unchanged as well.

    Raises:
        KeyRefused: wrong passphrase, wrong purpose, or a damaged or malicious envelope; nothing
            costly is done before the cost parameters have been found within bounds.
    """
    try:
        parsed = Envelope.from_dict(envelope)
        hidden = base64.b64decode(parsed.ciphertext, validate=True)
        associated = parsed.associated()
        if parsed.purpose != purpose:
            raise KeyRefused(
                f"this is a sealed {parsed.purpose!r}, not a sealed {purpose!r}",
                remedy="give the other file",
            )
        key = _encodable(parsed, passphrase)
    except (InvalidInput, binascii.Error, ValueError, TypeError) as error:
        raise KeyRefused(
            "the key file is damaged or not a key file", why=str(error), remedy="use your backup"
        ) from error
    try:
        return AESGCM(key).decrypt(bytes.fromhex(parsed.nonce), hidden, associated)
    except InvalidTag:
        raise KeyRefused(
            "the key cannot be opened",
            why="the passphrase is wrong, or the file was changed",
            remedy="type the passphrase again, or use your backup",
        ) from None


def seal_file(
    path: str | os.PathLike[str],
    secret: bytes | Secret,
    passphrase: str,
    *,
    purpose: str,
    public: Mapping[str, Any] | None = None,
    log2_n: int = 17,
    overwrite: bool = False,
) -> None:
    """`seal` into a JSON file that only its owner can read (mode 0600).

    Raises:
        InvalidInput: as `seal`, or the file exists: a key is not overwritten by accident.
        StorageFailed: it could not be written.
    """
    if not overwrite and Path(path).exists():
        raise InvalidInput(
            f"{path} exists already",
            why="a key that is overwritten is lost for ever",
            remedy="choose another name, or move the old file away",
        )
    write_json(
        path, seal(secret, passphrase, purpose=purpose, public=public, log2_n=log2_n), private=True
    )


def unseal_file(
    path: str | os.PathLike[str], passphrase: str, *, purpose: str
) -> tuple[bytes, dict[str, Any]]:
    """Read a sealed file.

    Returns:
        The secret, and the public part.

    Raises:
        MissingData: there is no such file.
        KeyRefused: as `unseal`, or the file is not JSON at all.
    """
    try:
        envelope = read_object(path)
    except BadFile as error:
        raise KeyRefused(
            f"{path} is not a key file", why=error.why or error.what, remedy="use your backup"
        ) from error
    try:
        return unseal(envelope, passphrase, purpose=purpose), envelope["public"]
    except KeyRefused as error:
        raise KeyRefused(f"{path}: {error.what}", why=error.why, remedy=error.remedy) from error


def read_passphrase(
    *,
    env: str = "DOORWARD_PASSPHRASE",
    file: str | os.PathLike[str] | None = None,
    prompt: Callable[[], str] | None = None,
) -> str:
    """Find the passphrase: in `file`, else in the environment variable `env`, else by asking.

    Args:
        env: name of the environment variable.
        file: a file whose first line is the passphrase.
        prompt: asks the user, e.g. ``getpass.getpass``; None where nobody can be asked.

    Raises:
        InvalidInput: it is found nowhere, or is empty.
        MissingData: there is no such file.
        BadFile: the file is not UTF-8 text.

    >>> read_passphrase(env="UNSET", prompt=lambda: "correct horse")
    'correct horse'
    """
    if file is not None:
        try:
            found = read_limited(file, 2**20).decode().partition("\n")[0].rstrip("\r")
        except UnicodeDecodeError as error:
            raise BadFile(f"{file} is not UTF-8 text", remedy="store it as plain text") from error
    elif os.environ.get(env):
        found = os.environ[env]
    else:
        found = prompt() if prompt else ""
    if not found:
        raise InvalidInput(
            "no passphrase was given",
            remedy=f"set {env}, name a file that holds it, or run this where you can be asked",
        )
    return found


def _encodable(envelope: Envelope, passphrase: str) -> bytes:
    """The envelope's key; a passphrase that is no valid text is bad input, not a crash."""
    try:
        return envelope.key(passphrase)
    except UnicodeEncodeError as error:
        raise InvalidInput("the passphrase is not valid text", why=error.reason) from None
