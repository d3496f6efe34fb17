"""Masks that should not unlock: the controls of a lock.

>>> import torch
>>> bank = MaskBank("channel", {"a": torch.tensor([0.0, 1.0, 0.5, 2.0]).view(4, 1, 1)})
>>> shuffled(bank, seed=0).masks["a"].flatten().sort().values.tolist()
[0.0, 0.5, 1.0, 2.0]
>>> quantised(bank, 1).masks["a"].flatten().tolist()
[0.0, 0.0, 0.0, 2.0]
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.randomness import generator
from doorward.trading.masks.bank import MaskBank
from doorward.trading.masks.kinds import MASKS

__all__ = ["half_entries", "half_sites", "quantised", "shuffled"]


def shuffled(bank: MaskBank, seed: int) -> MaskBank:
    """The same values at each site in a random order: as sparse, and as strong."""
    return _changed(bank, lambda name, mask: _reordered(mask, seed, name))


def half_sites(bank: MaskBank, seed: int) -> MaskBank:
    """Only half of the sites, drawn at random (at least one)."""
    order = torch.randperm(len(bank.sites), generator=generator(seed, "half the sites"))
    chosen = set(order[: max(1, len(bank.sites) // 2)].tolist())
    return bank.kept([name for i, name in enumerate(bank.sites) if i in chosen])


def half_entries(bank: MaskBank, seed: int) -> MaskBank:
    """At every site a random half of the values, ones elsewhere.

    Raises:
        InvalidInput: half of an order is none.
    """
    if MASKS[bank.kind].values == "order":
        raise InvalidInput("half of a permutation is no permutation", remedy="take half the sites")

    def halved(name: str, mask: Tensor) -> Tensor:
        kept = torch.rand(mask.shape, generator=generator(seed, "half the entries", name)) < 0.5
        return torch.where(kept, mask, 1.0)

    return _changed(bank, halved)


def quantised(bank: MaskBank, bits: int) -> MaskBank:
    """Every mask rounded to 2**bits levels between its least and its largest value.

    Args:
        bank: of real masks.
        bits: 1 to 16.

    Raises:
        InvalidInput: other masks, or other bits.
    """
    if MASKS[bank.kind].values != "real" or not 1 <= bits <= 16:
        raise InvalidInput(f"{bank.kind} masks in {bits} bits", why="real masks, 1 to 16 bits")

    def rounded(_: str, mask: Tensor) -> Tensor:
        low, high = mask.aminmax()
        step = ((high - low) / (2**bits - 1)).clamp(min=1e-12)
        levels: Tensor = ((mask - low) / step).round()
        result: Tensor = low + levels * step
        return result

    return _changed(bank, rounded)


def _reordered(mask: Tensor, seed: int, name: str) -> Tensor:
    order = torch.randperm(mask.numel(), generator=generator(seed, "shuffled masks", name))
    return mask.flatten()[order].view(mask.shape)


def _changed(bank: MaskBank, change: Callable[[str, Tensor], Tensor]) -> MaskBank:
    masks = {name: change(name, mask) for name, mask in bank.masks.items()}
    return MaskBank(bank.kind, masks, bank.statistics)
