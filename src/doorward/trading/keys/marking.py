"""Keys that name their buyer: a keyed change of every mask value by one per cent, up or down.

>>> import torch
>>> from doorward.trading.masks import MaskBank
>>> bank = MaskBank("channel", {"a": torch.linspace(0.2, 1.8, 300).view(300, 1, 1)})
>>> master = Secret(bytes(32))
>>> codes = {name: buyer_code(master, "0" * 64, name) for name in ("bob", "eve", "joe")}
>>> leaked = marked(bank, codes["eve"])
>>> [match.buyer for match in accuse(leaked, bank, codes) if match.accused]
['eve']

All buyers get one trial; the masks in each key are multiplied by 1 + strength times the buyer's
signs, which only the seller can derive. A leaked key, or the weights of an unlocked copy, tell the
signs. Under the null hypothesis (the key was made for somebody else) agreements of n signs are
Binomial(n, 1/2), whatever was done to the values without knowing the code: the p-value is exact.

Ours. A pirate can drown the mark in noise of its own size at little cost, and two buyers who
average their keys leave half of it (the signs on which they agree): this does not replace the
collusion-secure codes that `doorward.watermark` can put into the trial's weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.metrics import binomial_tail
from doorward.randomness import Secret
from doorward.records import STRICT, Record
from doorward.trading.masks import MASKS, MaskBank
from doorward.trading.masks.folding import makers
from doorward.trading.masks.gates import Gated
from doorward.trading.masks.placing import keyed_signs

__all__ = ["Match", "accuse", "buyer_code", "marked", "read_masks"]

STRENGTH = 0.01
_REAL = {"channel-binary": "channel", "element-binary": "element", "sign": "channel"}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Match(Record):
    """How well a leaked key fits one buyer.

    Attributes:
        buyer: name in the seller's register.
        agreements: signs that agree with the buyer's.
        signs: how many could be read.
        p_value: of so many or more under the null hypothesis, times the number of buyers.
        accused: whether it is at most `alpha`.
    """

    buyer: str
    agreements: Annotated[int, Field(ge=0)]
    signs: Annotated[int, Field(ge=0)]
    p_value: Annotated[float, Field(ge=0, le=1)]
    accused: bool


def buyer_code(master: Secret, trial: str, buyer: str) -> Secret:
    """What one buyer's marks of one trial are derived from.

    Args:
        master: the seller's secret.
        trial: digest of the trial's weights.
        buyer: fingerprint of the buyer's identity.
    """
    return master.derive(f"doorward trade mark/{trial}/{buyer}")


def marked(bank: MaskBank, code: Secret, *, strength: float = STRENGTH) -> MaskBank:
    """The bank with a buyer's mark; binary masks and signs become real ones thereby.

    Args:
        bank: the masks as they were trained.
        code: the buyer's (`buyer_code`).
        strength: relative change of every value, in (0, 0.2].

    Raises:
        InvalidInput: an order of channels has no values to mark, or the strength is out of range.
    """
    if MASKS[bank.kind].values == "order":
        raise InvalidInput(
            "a permutation has no values that could carry a buyer's mark",
            remedy="use another kind of mask, or sell without marks",
        )
    if not 0 < strength <= 0.2:
        raise InvalidInput(f"a strength of {strength:g} is not in (0, 0.2]")
    masks = {
        name: mask * (1 + strength * _signs(code, name, mask)) for name, mask in bank.masks.items()
    }
    return MaskBank(_REAL.get(bank.kind, bank.kind), masks, bank.statistics)


def accuse(
    leaked: MaskBank, bank: MaskBank, codes: Mapping[str, Secret], *, alpha: float = 1e-6
) -> list[Match]:
    """Whose key was leaked.

    Args:
        leaked: masks found in a leaked key, or read from an unlocked copy (`read_masks`).
        bank: the unmarked masks.
        codes: buyer -> code, of all buyers of this trial.
        alpha: chance to accuse anybody who is innocent.

    Returns:
        One entry per buyer, the best fit first.

    Raises:
        InvalidInput: no buyers, or the two banks have no site in common.
    """
    common = [name for name in bank.sites if name in leaked.masks]
    if not codes or not common:
        raise InvalidInput("there is nothing to compare", why="no buyers, or no common sites")
    matches = []
    for buyer, code in codes.items():
        agreements = count = 0
        for name in common:
            true, found = bank.masks[name], leaked.masks[name]
            if true.shape != found.shape:
                raise InvalidInput(f"the masks at {name!r} have different shapes")
            change = (found - true) * true.sign()
            readable = (true.abs() > 1e-3) & (change != 0)
            same = change.sign() == _signs(code, name, true)
            agreements += int((same & readable).sum())
            count += int(readable.sum())
        chance = min(1.0, binomial_tail(agreements, count, 0.5) * len(codes)) if count else 1.0
        matches.append(
            Match(
                buyer=buyer,
                agreements=agreements,
                signs=count,
                p_value=chance,
                accused=chance <= alpha,
            )
        )
    return sorted(matches, key=lambda match: match.p_value)


@torch.no_grad()
def read_masks(unlocked: nn.Module, trial: nn.Module, bank: MaskBank) -> MaskBank:
    """The masks that are in an unlocked copy, applied or folded, even if it was fine-tuned.

    Args:
        unlocked: the copy that was found.
        trial: the model that was sold.
        bank: the unmarked masks, for their kind and sites.

    Returns:
        For every channel the number that takes the trial's weights nearest to the copy's.

    Raises:
        InvalidInput: a site is missing.
        ModelUnsuitable: the masks do not fold, and no gate is in the copy.
    """
    kind = dataclasses.replace(MASKS[bank.kind], values="real")
    found: dict[str, Tensor] = {}
    layers = dict(unlocked.named_modules())
    for name, mask in bank.masks.items():
        inside = layers.get(name)
        if isinstance(inside, Gated):
            found[name] = inside.gate.mask.cpu().float()
            continue
        if inside is None:
            raise InvalidInput(f"the copy has no site {name!r}", remedy="is it another model?")
        ours, theirs = (_rows(makers(model, name, kind)[0]) for model in (trial, unlocked))
        lengths = (ours * ours).sum(1)
        values = torch.where(lengths > 0, (ours * theirs).sum(1) / lengths.clamp(min=1e-12), 0)
        found[name] = values.view(mask.shape).cpu()
    return MaskBank(_REAL.get(bank.kind, bank.kind), found)


def _signs(code: Secret, name: str, mask: Tensor) -> Tensor:
    return keyed_signs(code.derive(name), mask.numel()).view(mask.shape)


def _rows(layer: nn.Module) -> Tensor:
    """Weights and bias with one row per channel."""
    parts = [getattr(layer, name, None) for name in ("weight", "bias")]
    return torch.cat([part.flatten(1) if part.ndim > 1 else part[:, None]
                      for part in parts if isinstance(part, Tensor)], 1).float()  # fmt: skip
