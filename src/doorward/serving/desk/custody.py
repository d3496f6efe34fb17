"""What is entrusted to the desk: trials in files by their digest, secrets sealed at rest.

>>> import tempfile
>>> from doorward.randomness import Secret
>>> custody = Custody(tempfile.mkdtemp(), Secret.new())
>>> sealed = custody.seal("deal/key", b"the sealed key")
>>> custody.unseal("deal/key", sealed)
b'the sealed key'
>>> custody.unseal("another/key", sealed)
Traceback (most recent call last):
doorward.errors.KeyRefused: the desk cannot open what it holds of another/key: ...

Keys, preimages and opened keys lie in the database, so that they are released in the transaction
that takes the money, under AES-256-GCM with the desk's custody key: a copy of the database alone
releases nothing. A trial is public to its buyer and large, so it lies in a file beside it.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from doorward.errors import InvalidInput, KeyRefused, MissingData, StorageFailed
from doorward.randomness import Secret

__all__ = ["Custody"]


class Custody:
    """A folder for trials, and the key for secrets.

    Args:
        folder: made if it is not there. Several processes of one desk share it.
        secret: the custody key; without it, what was sealed is lost.
    """

    def __init__(self, folder: str | os.PathLike[str], secret: Secret) -> None:
        self.folder = Path(folder)
        self._cipher = AESGCM(secret.derive("desk custody", 32).reveal())
        for place in (self.folder / "trials", self.folder / "incoming"):
            try:
                place.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StorageFailed(f"{place} cannot be made", why=str(error)) from error

    def seal(self, label: str, content: bytes) -> bytes:
        """Seal a secret; it opens only under the same label."""
        nonce = secrets.token_bytes(12)
        return nonce + self._cipher.encrypt(nonce, content, label.encode())

    def unseal(self, label: str, sealed: bytes) -> bytes:
        """Open what `seal` made.

        Raises:
            KeyRefused: another label or custody key, or it was altered.
        """
        try:
            return self._cipher.decrypt(sealed[:12], sealed[12:], label.encode())
        except (InvalidTag, ValueError) as error:
            raise KeyRefused(
                f"the desk cannot open what it holds of {label}",
                why="the custody key is another one, or the database was altered",
                remedy="restore the custody key that the desk was set up with",
            ) from error

    def incoming(self) -> Path:
        """A fresh file for an upload, on the same file system as the trials."""
        handle, name = tempfile.mkstemp(dir=self.folder / "incoming")
        os.close(handle)
        return Path(name)

    def keep(self, upload: Path, sha256: str) -> Path:
        """Move an uploaded trial to its place, flushed to the disk; the same trial is kept once.

        Args:
            upload: a file from `incoming`.
            sha256: its digest, computed by the caller.
        """
        place = self.trial(sha256)
        try:
            place.parent.mkdir(exist_ok=True)
            with upload.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(upload, place)
            handle = os.open(place.parent, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        except OSError as error:
            raise StorageFailed("the trial could not be kept", why=str(error)) from error
        return place

    def trial(self, sha256: str) -> Path:
        """Where the trial of this digest lies.

        Raises:
            InvalidInput: that is no digest (so no path leads out of the folder).
        """
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise InvalidInput(f"{sha256!r:.80} is not a SHA-256")
        return self.folder / "trials" / sha256[:2] / sha256

    def require_trial(self, sha256: str) -> Path:
        """The trial of this digest, which must be there.

        Raises:
            MissingData: it is not.
        """
        place = self.trial(sha256)
        if not place.is_file():
            raise MissingData(f"the desk does not hold the trial {sha256[:16]}")
        return place
