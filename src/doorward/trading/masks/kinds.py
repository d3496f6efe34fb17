"""The kinds of masks: over what they reach, and which values they take.

>>> MASKS["channel"].extent, MASKS["channel"].values
('channel', 'real')
>>> MASKS["spatial"].shape((8, 4, 4), axis=0)
(1, 4, 4)

The paper (Xu et al. 2024) speaks of "mask matrices on internal feature maps" and leaves open which;
these are the readings of it, and two of ours that draw the mask from a key instead of training it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from doorward.registry import Registry

__all__ = ["MASKS", "MaskKind"]

_XU = "Xu et al. 2024, Revocable Backdoor for Deep Model Trading"


@dataclass(frozen=True)
class MaskKind:
    """What a mask at one site is.

    Args:
        summary: one sentence.
        extent: one value per element, per position, or per channel.
        values: real numbers, 0 or 1, a sign, or an order of the channels.
        keyed: drawn from a key and left as it is, instead of trained.
    """

    summary: str
    extent: Literal["element", "position", "channel"]
    values: Literal["real", "binary", "sign", "order"]
    keyed: bool = False

    @property
    def scales(self) -> bool:
        """Whether it multiplies channels, so that it folds into the layer before it."""
        return self.extent == "channel" and self.values != "order"

    def shape(self, output: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """Shape of the mask for a site, to be broadcast from the right.

        Args:
            output: of the site, without the batch: (C, H, W), (T, C), (H, W, C) or (C,).
            axis: which of its axes are the channels.
        """
        if self.extent == "element":
            return output
        if self.extent == "position":
            return tuple(1 if i == axis else length for i, length in enumerate(output))
        return tuple(length if i == axis else 1 for i, length in enumerate(output))


MASKS: Registry[MaskKind] = Registry("kind of mask")
"""All kinds by name."""

for _name, _kind in {
    "channel": MaskKind("A real number for each channel.", "channel", "real"),
    "channel-binary": MaskKind("Each channel on or off.", "channel", "binary"),
    "element": MaskKind("A real number for each element of the maps.", "element", "real"),
    "element-binary": MaskKind("Each element on or off.", "element", "binary"),
    "spatial": MaskKind("A real number for each position.", "position", "real"),
    "sign": MaskKind("A keyed sign for each channel.", "channel", "sign", keyed=True),
    "permutation": MaskKind("A keyed order of the channels.", "channel", "order", keyed=True),
}.items():
    MASKS.register(_name, paper=_XU if not _kind.keyed else "ours", summary=_kind.summary)(_kind)
