"""Two kinds of randomness that never mix.

*Experiments* draw from `torch.Generator`s derived from a seed and a name, so that adding a draw
in one place never shifts the draws of another, and the global generator is left alone:

>>> import torch
>>> a = generator(0, "split"); b = generator(0, "augmentation")
>>> bool((torch.rand(4, generator=a) == torch.rand(4, generator=b)).any())
False

*Keys* come from the operating system (`Secret.new`) and are stretched with HKDF and HMAC; a
`Secret` never shows its bytes in a `repr`, a log line or a traceback:

>>> Secret(b"0" * 32)
Secret(<32 bytes hidden>)
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

import numpy as np
import torch
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from doorward.errors import InvalidInput

__all__ = ["Secret", "derive_seed", "generator", "numpy_generator"]


def derive_seed(seed: int, *names: str | int) -> int:
    """Hash a seed and a path of names into a 63-bit seed.

    Args:
        seed: the experiment's seed, any integer.
        names: what the numbers are for, e.g. ``("augmentation", epoch)``.

    Returns:
        An integer in ``[0, 2**63)``, the same on every platform.

    >>> derive_seed(0, "split") == derive_seed(0, "split") != derive_seed(1, "split")
    True
    """
    # The type tag keeps 1 and "1" apart; the length prefix keeps ("ab",) and ("a", "b") apart.
    parts = [f"{type(part).__name__}:{part}" for part in (seed, *names)]
    message = "".join(f"{len(part)}|{part}" for part in parts).encode()
    return int.from_bytes(hashlib.sha256(message).digest()[:8], "big") >> 1


def generator(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A fresh `torch.Generator` for one purpose of an experiment (see `derive_seed`)."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *names))


def numpy_generator(seed: int, *names: str | int) -> np.random.Generator:
    """The NumPy twin of `generator`."""
    return np.random.default_rng(derive_seed(seed, *names))


class Secret:
    """Secret bytes, with the derivations that keys need and no way to print them by accident.

    Args:
        value: at least 16 bytes from a cryptographic source.

    Raises:
        InvalidInput: fewer than 16 bytes were given.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        if len(value) < 16:
            raise InvalidInput(
                f"a secret of {len(value)} bytes is too short",
                why="16 bytes is the least that cannot be guessed",
                remedy="let Secret.new() draw it",
            )
        self._value = bytes(value)

    @classmethod
    def new(cls, length: int = 32) -> Secret:
        """Draw a secret of `length` bytes from the operating system."""
        return cls(secrets.token_bytes(length))

    def reveal(self) -> bytes:
        """The bytes themselves, for sealing or for a deliberate disclosure."""
        return self._value

    def derive(self, info: str, length: int = 32) -> Secret:
        """HKDF-SHA256: an independent secret for the purpose `info`.

        >>> master = Secret(bytes(range(32)))
        >>> master.derive("labels") == master.derive("labels")
        True
        >>> master.derive("labels") == master.derive("images")
        False
        """
        kdf = HKDF(algorithm=hashes.SHA256(), length=length, salt=None, info=info.encode())
        return Secret(kdf.derive(self._value))

    def mac(self, message: bytes) -> bytes:
        """HMAC-SHA256 of `message` under this secret (32 bytes)."""
        return hmac.digest(self._value, message, "sha256")

    def integer(self, message: bytes, bound: int) -> int:
        """A keyed integer, exactly uniform in ``[0, bound)`` (rejection sampling, no modulo bias).

        >>> 0 <= Secret(bytes(32)).integer(b"trigger 0", 10) < 10
        True
        """
        if not 1 <= bound <= 2**64:
            raise InvalidInput(f"bound {bound} is not in 1..2**64")
        limit = 2**64 - 2**64 % bound
        counter = 0
        while True:
            value = int.from_bytes(self.mac(message + counter.to_bytes(4, "big"))[:8], "big")
            if value < limit:
                return value % bound
            counter += 1

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        return hash(hashlib.sha256(self._value).digest())

    def __repr__(self) -> str:
        return f"Secret(<{len(self._value)} bytes hidden>)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("secrets are not pickled; seal them with doorward.bundles")
