"""The owner's secret: which frequencies the answers lean on, and towards which classes.

>>> from doorward.honeypot.lean.menu import Entry, Menu
>>> menu = Menu(classes=10, image_shape=(1, 16, 16), entries=tuple(
...     Entry(across=u, down=v, targets=tuple(range(10))) for u in (2, 4, 6) for v in (0, 3)))
>>> key = LeanKey.new(bits=3)
>>> bits = key.choose(menu)
>>> len(bits), len({(bit.across, bit.down) for bit in bits}), bits == key.choose(menu)
(3, 3, True)
>>> key, len(key.commitment())
(LeanKey(bits=3, owner=None, seed hidden), 64)

A key is 32 random bytes. It never says what it leans on by itself: it draws, uniformly, from a menu
that is the same for every key (`doorward.honeypot.lean.menu`). So any other key might as well have
drawn anything else, which is what the proof compares it with.
"""

from __future__ import annotations

import os
from itertools import count
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import canonical
from doorward.bundles.identity import PublicIdentity
from doorward.bundles.merkle import commit
from doorward.bundles.sealing import seal_file, unseal_file
from doorward.errors import InvalidInput, KeyRefused
from doorward.honeypot.lean.menu import Menu
from doorward.randomness import Secret
from doorward.records import STRICT, Record, Version1

__all__ = ["Bit", "LeanKey", "LeanParameters"]

_PURPOSE = "honeypot-lean-key"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LeanParameters(Record):
    """The public part of a key.

    Attributes:
        bits: how many waves it draws, each with a class of its own; more make the proof stronger,
            and the lean of each weaker within the same budget.
        owner: fingerprint of the owner's identity; None for an unbound key.
    """

    scheme: Literal["doorward-lean"] = "doorward-lean"
    version: Version1 = 1
    bits: Annotated[int, Field(ge=1, le=16, strict=True)] = 3
    owner: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Bit(Record):
    """One wave of a key with its class.

    Attributes:
        across: waves across the width.
        down: waves down the height.
        target: the class that loud waves lean to.
    """

    across: int
    down: int
    target: int


class LeanKey:
    """A lean's key: secret seed plus public parameters.

    Make one with `new`, store it with `seal`, read it with `open`. Its `repr` hides the seed, and
    it cannot be pickled.

    Args:
        seed: the secret, at least 16 bytes.
        parameters: the public part.
    """

    def __init__(self, seed: Secret, parameters: LeanParameters) -> None:
        self.parameters = parameters
        self._seed = seed
        self._master = seed.derive("doorward lean\0" + self._public().decode())

    @classmethod
    def new(cls, bits: int = 3, owner: PublicIdentity | None = None) -> LeanKey:
        """Draw a key from the operating system's random numbers.

        Args:
            bits: waves, 1 to 16.
            owner: who will claim with this key; None leaves it unbound: whoever gets hold of it
                could then sign a claim of their own.

        Raises:
            InvalidInput: `bits` is out of range.
        """
        fingerprint = owner.fingerprint if owner else None
        parameters = LeanParameters.from_dict({"bits": bits, "owner": fingerprint})
        return cls(Secret.new(), parameters)

    @property
    def bits(self) -> int:
        """How many waves it draws."""
        return self.parameters.bits

    def number(self, name: str, bound: int) -> int:
        """What this key draws for another purpose, uniformly in ``[0, bound)``.

        >>> 0 <= LeanKey.new().number("honeypot head target", 10) < 10
        True
        """
        return self._master.derive("number " + name).integer(b"", bound)

    def choose(self, menu: Menu) -> tuple[Bit, ...]:
        """What this key draws from a menu: `bits` pairs with different waves, uniformly.

        Raises:
            InvalidInput: the menu has fewer waves than the key has bits.
        """
        if len(menu.entries) < self.bits:
            raise InvalidInput(
                f"a menu of {len(menu.entries)} waves is too short for {self.bits} bits",
                remedy="make a key with fewer bits, or a longer menu",
            )
        drawing = self._master.derive("choice " + menu.digest())
        for attempt in count():  # pairs are drawn freely; a draw with a wave twice is thrown away
            pairs = [
                menu.pairs[drawing.integer(f"{attempt}/{bit}".encode(), len(menu))]
                for bit in range(self.bits)
            ]
            if len({row for row, _ in pairs}) == self.bits:
                break
        chosen = [(menu.entries[row], target) for row, target in pairs]
        return tuple(Bit(across=e.across, down=e.down, target=t) for e, t in chosen)

    def commitment(self) -> str:
        """SHA-256, hex, that binds the owner to this key without showing it."""
        salt = self._master.derive("commitment").reveal()
        return commit(salt, self._public(), self._seed.reveal()).hex()

    def seal(
        self,
        path: str | os.PathLike[str],
        passphrase: str,
        *,
        log2_n: int = 17,
        overwrite: bool = False,
    ) -> None:
        """Write the key to `path`, sealed with `passphrase`, readable by its owner only.

        Args:
            path: the file, mode 0600.
            passphrase: not empty.
            log2_n: scrypt's cost (lower it in tests only).
            overwrite: replace an existing file.

        Raises:
            InvalidInput: empty passphrase, or the file exists already.
            StorageFailed: it could not be written.
        """
        seal_file(
            path,
            self._seed,
            passphrase,
            purpose=_PURPOSE,
            public=self.parameters.to_dict(),
            log2_n=log2_n,
            overwrite=overwrite,
        )

    @classmethod
    def open(cls, path: str | os.PathLike[str], passphrase: str) -> LeanKey:
        """Read a key that `seal` wrote.

        Raises:
            MissingData: there is no such file.
            KeyRefused: wrong passphrase, or the file is damaged or no such key.
        """
        seed, public = unseal_file(path, passphrase, purpose=_PURPOSE)
        try:
            return cls(Secret(seed), LeanParameters.from_dict(public))
        except InvalidInput as error:
            raise KeyRefused(
                f"{path} holds no lean key of this version",
                why=error.why or error.what,
                remedy="use the version of doorward that made it, or your backup",
            ) from error

    def _public(self) -> bytes:
        return canonical(self.parameters.to_dict(), "the key's parameters")

    def __repr__(self) -> str:
        owner = self.parameters.owner
        return f"LeanKey(bits={self.bits}, owner={owner[:16] if owner else None}, seed hidden)"

    def __reduce__(self) -> tuple[object, ...]:
        raise TypeError("keys are not pickled; seal them with LeanKey.seal")
