"""A bank of masks: what unlocks a trial model, as plain tensors by site.

>>> import torch
>>> from doorward.models import create
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
>>> bank = MaskBank("channel", {"body.stem.1": torch.tensor([1.0, 0.5, 0.0, 2.0]).view(4, 1, 1)})
>>> images = torch.rand(2, 1, 16, 16)
>>> unlocked, plain = bank.apply(model), bank.fold(model)
>>> torch.allclose(unlocked(images), plain(images), atol=1e-5)
True
>>> MaskBank.from_bytes(bank.to_bytes()).digest() == bank.digest()
True

`apply` puts a small module behind every site, for any kind of mask; `fold` multiplies the masks
into the layers' own weights, where that is possible, and gives a model of the same architecture.
"""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from doorward.bundles.documents import canonical, parse_object, read_limited
from doorward.errors import BadFile, InvalidInput
from doorward.files import write_bytes
from doorward.models import sites as names_of
from doorward.trading.masks.folding import fold_masks
from doorward.trading.masks.gates import insert_gates, set_statistics
from doorward.trading.masks.kinds import MASKS, MaskKind

__all__ = ["MaskBank", "Statistics"]

Statistics = tuple[Tensor, Tensor]
"""Mean and variance of a BatchNorm layer, (C,) each."""

_MAGIC = b"doorward masks 1\n"
_LARGEST = 2**31


@dataclass(frozen=True, eq=False)
class MaskBank:
    """Masks by site, and the BatchNorm statistics that belong to them.

    Args:
        kind: a name in `MASKS`.
        masks: dotted name of a site -> its mask, without the batch axis, broadcast from the right
            over the site's output: float values, or for ``"permutation"`` int64 positions.
        statistics: dotted name of a BatchNorm layer -> mean and variance that it uses once
            unlocked; layers that are not named keep those of the trial.

    Raises:
        InvalidInput: an unknown kind, or values that such a mask cannot have.
    """

    kind: str
    masks: Mapping[str, Tensor]
    statistics: Mapping[str, Statistics] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = MASKS[self.kind]
        if not self.masks:
            raise InvalidInput("a mask bank without masks", remedy="name at least one site")
        masks = {
            name: self.masks[name].detach().cpu().clone(memory_format=torch.contiguous_format)
            for name in self.masks
        }
        for name, mask in masks.items():
            _check_mask(kind, name, mask)
        for name, (mean, variance) in self.statistics.items():
            fits = mean.ndim == 1 and mean.shape == variance.shape and bool((variance >= 0).all())
            if not fits or not bool(torch.isfinite(torch.stack([mean, variance])).all()):
                raise InvalidInput(f"the statistics of {name!r} are no means and variances")
        object.__setattr__(self, "masks", masks)
        stored = {
            name: (mean.detach().float().cpu().clone(), variance.detach().float().cpu().clone())
            for name, (mean, variance) in self.statistics.items()
        }
        object.__setattr__(self, "statistics", stored)

    @property
    def sites(self) -> tuple[str, ...]:
        """The masked sites, in order."""
        return tuple(self.masks)

    @property
    def values(self) -> int:
        """How many numbers the masks have together."""
        return sum(mask.numel() for mask in self.masks.values())

    @property
    def is_identity(self) -> bool:
        """Whether it changes nothing."""
        if self.statistics:
            return False
        if MASKS[self.kind].values == "order":
            return all(
                bool((mask.flatten() == torch.arange(mask.numel())).all())
                for mask in self.masks.values()
            )
        return all(bool((mask == 1).all()) for mask in self.masks.values())

    def check(self, model: nn.Module) -> None:
        """Refuse a model that lacks a site.

        Raises:
            InvalidInput: naming the first site that does not exist.
        """
        known = set(names_of(model))
        missing = [name for name in (*self.masks, *self.statistics) if name not in known]
        if missing:
            raise InvalidInput(
                f"the model has no site {missing[0]!r}",
                why="these masks were made for another architecture",
                remedy=f"its sites are {', '.join(sorted(known)[:20])}",
            )

    def apply(self, model: nn.Module) -> nn.Module:
        """The unlocked model: a copy with a small module behind every masked site.

        Exports to ONNX like any module. With masks of one, outputs are bitwise those of `model`.

        Raises:
            InvalidInput: a site is missing, or has maps of another shape.
        """
        self.check(model)
        copied = set_statistics(copy.deepcopy(model), self.statistics)
        return insert_gates(copied, MASKS[self.kind], self.masks)

    def fold(self, model: nn.Module) -> nn.Module:
        """The unlocked model as a plain one: masks multiplied into weights, nothing added.

        The copy has the architecture, parameters and speed of `model`.

        Raises:
            InvalidInput: a site is missing, or a mask has another length than its layer.
            ModelUnsuitable: a mask cannot be folded; the message says which and why.
        """
        self.check(model)
        copied = copy.deepcopy(model)
        fold_masks(copied, MASKS[self.kind], self.masks)
        return set_statistics(copied, self.statistics)

    def kept(self, sites: Sequence[str]) -> MaskBank:
        """The bank with only these sites (all statistics stay)."""
        return MaskBank(self.kind, {name: self.masks[name] for name in sites}, self.statistics)

    def to_bytes(self) -> bytes:
        """One byte string for this content, whatever machine wrote it."""
        header = {
            "kind": self.kind,
            "sites": list(self.masks),
            "norms": list(self.statistics),
        }
        tensors: dict[str, Tensor] = {}
        for i, mask in enumerate(self.masks.values()):
            tensors[f"mask.{i:05}"] = mask
        for i, (mean, variance) in enumerate(self.statistics.values()):
            tensors[f"mean.{i:05}"], tensors[f"variance.{i:05}"] = mean, variance
        described = canonical(header, "the masks")
        return _MAGIC + len(described).to_bytes(4, "big") + described + save_tensors(tensors)

    @classmethod
    def from_bytes(cls, content: bytes) -> MaskBank:
        """What `to_bytes` gave.

        Raises:
            BadFile: it is no mask bank, or a damaged one.
        """
        start = len(_MAGIC) + 4
        if not content.startswith(_MAGIC) or len(content) < start:
            raise _bad("it does not begin as one")
        end = start + int.from_bytes(content[len(_MAGIC) : start], "big")
        if end > len(content):
            raise _bad("it is truncated")
        try:
            header = parse_object(content[start:end], "the header of the masks")
            tensors = load_tensors(content[end:])
            return _assembled(header, tensors)
        except BadFile:
            raise
        except (SafetensorError, InvalidInput, KeyError, TypeError, ValueError) as error:
            raise _bad(f"{type(error).__name__}: {error}") from error
        except Exception as error:
            if type(error).__module__.startswith("safetensors"):
                raise _bad(str(error)) from error
            raise

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the bank to a file readable by its owner only: whoever has it has the key.

        Raises:
            StorageFailed: it could not be written.
        """
        write_bytes(path, self.to_bytes(), private=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> MaskBank:
        """Read what `save` wrote.

        Raises:
            MissingData: there is no such file.
            BadFile: it is no mask bank.
        """
        try:
            return cls.from_bytes(read_limited(Path(path), _LARGEST))
        except BadFile as error:
            raise BadFile(f"{path}: {error.what}", why=error.why, remedy=error.remedy) from error

    def digest(self) -> str:
        """Hex SHA-256 of `to_bytes`."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def __repr__(self) -> str:
        return f"MaskBank({self.kind!r}, {len(self.masks)} sites, {self.values} values)"


def _check_mask(kind: MaskKind, name: str, mask: Tensor) -> None:
    wrong = ""
    if kind.values == "order":
        flat = mask.flatten()
        if mask.dtype != torch.int64 or not torch.equal(flat.sort()[0], torch.arange(len(flat))):
            wrong = "an order of the channels, int64, each once, is needed"
    elif mask.dtype != torch.float32 or not bool(torch.isfinite(mask).all()):
        wrong = "finite float32 values are needed"
    elif kind.values == "binary" and not bool(((mask == 0) | (mask == 1)).all()):
        wrong = "every value must be 0 or 1"
    elif kind.values == "sign" and not bool((mask.abs() == 1).all()):
        wrong = "every value must be 1 or -1"
    if not wrong and kind.extent == "channel" and mask.numel() != max(mask.shape, default=1):
        wrong = f"one value per channel is needed, not {tuple(mask.shape)}"
    if wrong or not mask.numel():
        raise InvalidInput(
            f"the mask of {name!r} does not fit its kind", why=wrong or "it is empty"
        )


def _assembled(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> MaskBank:
    names, norms = header["sites"], header["norms"]
    if set(header) != {"kind", "sites", "norms"} or len(tensors) != len(names) + 2 * len(norms):
        raise _bad("header and tensors do not belong together")
    if len(set(names)) < len(names) or len(set(norms)) < len(norms):
        raise _bad("a site occurs twice")
    if not all(isinstance(name, str) for name in [*names, *norms, header["kind"]]):
        raise _bad("a name is no text")
    return MaskBank(
        header["kind"],
        {name: tensors[f"mask.{i:05}"] for i, name in enumerate(names)},
        {
            name: (tensors[f"mean.{i:05}"], tensors[f"variance.{i:05}"])
            for i, name in enumerate(norms)
        },
    )


def _bad(why: str) -> BadFile:
    return BadFile("this is not a whole mask bank", why=why, remedy="get it again from the seller")
