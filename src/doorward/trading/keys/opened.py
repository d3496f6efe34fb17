"""An opened key: masks, trigger and target, with what they belong to and the salts of commitments.

>>> from doorward.models import create
>>> from doorward.trading.masks import identity_bank
>>> from doorward.triggers import AllToOne, Patch
>>> trial = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> bank = identity_bank(trial, "channel", torch.rand(1, 1, 16, 16))
>>> opened = OpenedKey.new(trial, bank, Backdoor(Patch(), AllToOne(3)), licence="as is")
>>> again = OpenedKey.from_bytes(opened.to_bytes())
>>> again.digest() == opened.digest(), again.backdoor.rule, sorted(again.commitments())
(True, AllToOne(target=3), ['masks', 'target', 'trigger'])

This is what a sealed key holds, and what is shown to the desk in a dispute. Its digest stands in
the listing; 32 random bytes in each salt keep digest and commitments from telling anything before.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import nn

from doorward.bundles import commit, verify_commitment
from doorward.bundles.documents import canonical, parse_object
from doorward.errors import BadFile, DoorwardError, IntegrityError
from doorward.models import sites
from doorward.trading.masks import MaskBank
from doorward.triggers import Backdoor

__all__ = ["OpenedKey", "licence_digest", "weights_digest"]

_MAGIC = b"doorward opened key 1\n"
_PARTS = ("masks", "trigger", "target")


@dataclass(frozen=True, eq=False)
class OpenedKey:
    """All that a buyer gets.

    Args:
        trial: hex SHA-256 of the trial's weights (`weights_digest`).
        licence: hex SHA-256 of the licence's text (`licence_digest`).
        buyer: fingerprint of whom it was made for, or None.
        bank: the masks.
        backdoor: trigger and label rule.
        salts: 32 bytes each for masks, trigger and target.
    """

    trial: str
    licence: str
    buyer: str | None
    bank: MaskBank
    backdoor: Backdoor
    salts: Mapping[str, bytes]

    @classmethod
    def new(
        cls,
        trial: nn.Module,
        bank: MaskBank,
        backdoor: Backdoor,
        *,
        licence: str,
        buyer: str | None = None,
    ) -> OpenedKey:
        """A key for this trial under this licence, with fresh salts.

        Raises:
            InvalidInput: the masks do not fit the model.
        """
        bank.check(trial)
        salts = {part: secrets.token_bytes(32) for part in _PARTS}
        return cls(weights_digest(trial), licence_digest(licence), buyer, bank, backdoor, salts)

    def commitments(self) -> dict[str, str]:
        """Hex commitments to masks, trigger and target, to ship with the trial."""
        return {
            part: commit(self.salts[part], *content).hex()
            for part, content in self._contents().items()
        }

    def check_commitments(self, committed: Mapping[str, str]) -> None:
        """Refuse another key than the one that was committed to.

        Raises:
            IntegrityError: naming the part that differs.
        """
        for part, content in self._contents().items():
            try:
                verify_commitment(bytes.fromhex(committed[part]), self.salts[part], *content)
            except (IntegrityError, KeyError, ValueError, TypeError) as error:
                raise IntegrityError(
                    f"this key does not hold the {part} that the seller committed to",
                    why="the commitment that came with the trial does not open to it",
                    remedy="do not accept it; dispute the deal with the two files",
                ) from error

    def unlock(self, trial: nn.Module) -> nn.Module:
        """The unlocked model, folded where the masks fold; the trial stays as it is.

        Raises:
            IntegrityError: this is not the trial that the key was made for.
        """
        self.check_trial(trial)
        try:
            return self.bank.fold(trial)
        except DoorwardError:
            return self.bank.apply(trial)

    def check_trial(self, trial: nn.Module) -> None:
        """Refuse another model than the one the key was made for.

        Raises:
            IntegrityError: its weights have another digest.
        """
        if weights_digest(trial) != self.trial:
            raise IntegrityError(
                "this key belongs to another model",
                why=f"it was made for weights {self.trial[:16]}, "
                f"these are {weights_digest(trial)[:16]}",
                remedy="give the trial exactly as it was delivered, before any fine-tuning",
            )

    def to_bytes(self) -> bytes:
        """One byte string for this content."""
        described = canonical(
            {
                "trial": self.trial,
                "licence": self.licence,
                "buyer": self.buyer,
                "backdoor": self.backdoor.to_dict(),
                "salts": {part: self.salts[part].hex() for part in _PARTS},
            },
            "the opened key",
        )
        parts = (described, self._tensors(), self.bank.to_bytes())
        return _MAGIC + b"".join(len(part).to_bytes(8, "big") + part for part in parts)

    @classmethod
    def from_bytes(cls, content: bytes) -> OpenedKey:
        """What `to_bytes` gave.

        Raises:
            BadFile: it is no opened key, or a damaged one.
        """
        described, tensors, bank = _split(content)
        try:
            header = parse_object(described, "the opened key")
            backdoor = Backdoor.from_dict(header["backdoor"])
            backdoor.trigger.load_state_dict(load_tensors(tensors))
            backdoor.trigger.requires_grad_(False)
            opened = cls(
                header["trial"],
                header["licence"],
                header["buyer"],
                MaskBank.from_bytes(bank),
                backdoor,
                {part: bytes.fromhex(header["salts"][part]) for part in _PARTS},
            )
            whole = opened.to_bytes() == content
        except BadFile:
            raise
        except Exception as error:  # a stranger's file; what it breaks in does not matter
            raise _bad(f"{type(error).__name__}: {error}".partition("\n")[0]) from error
        if not whole:
            raise _bad("it is not written as it would be")
        return opened

    def digest(self) -> str:
        """Hex SHA-256 of `to_bytes`: what a listing calls the opening."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def _contents(self) -> dict[str, tuple[bytes, ...]]:
        described = self.backdoor.to_dict()
        return {
            "masks": (self.bank.to_bytes(),),
            "trigger": (canonical(described["trigger"], "the trigger"), self._tensors()),
            "target": (canonical(described["rule"], "the rule"),),
        }

    def _tensors(self) -> bytes:
        state = self.backdoor.trigger.state_dict()
        return save_tensors({name: value.cpu().contiguous() for name, value in state.items()})


def weights_digest(model: nn.Module) -> str:
    """Hex SHA-256 over names, types, shapes and values of a model's state, whatever file it is in.

    >>> layer = nn.Linear(2, 2)
    >>> weights_digest(layer) == weights_digest(nn.Linear(2, 2))
    False
    """
    state = hashlib.sha256(b"doorward weights\0")
    tensors: dict[str, Any] = model.state_dict()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        state.update(canonical({"n": name, "t": str(value.dtype), "s": list(value.shape)}, name))
        state.update(value.reshape(-1).view(torch.uint8).numpy().data)
    if not tensors:
        state.update(" ".join(sites(model)).encode())
    return state.hexdigest()


def licence_digest(text: str) -> str:
    """Hex SHA-256 of a licence's text; line ends and space at the ends of lines do not count."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return hashlib.sha256(b"doorward licence\0" + "\n".join(lines).encode()).hexdigest()


def _split(content: bytes) -> list[bytes]:
    if not content.startswith(_MAGIC):
        raise _bad("it does not begin as one")
    parts, place = [], len(_MAGIC)
    for _ in range(3):
        length = int.from_bytes(content[place : place + 8], "big")
        place += 8 + length
        if place > len(content):
            raise _bad("it is truncated")
        parts.append(content[place - length : place])
    if place != len(content):
        raise _bad("something follows its end")
    return parts


def _bad(why: str) -> BadFile:
    return BadFile("this is not a whole opened key", why=why, remedy="get it again from the seller")
