"""What can be embedded: trigger images, a label for each, and a commitment to both.

>>> from doorward.watermark.key import WatermarkKey
>>> isinstance(WatermarkKey.new(n=3, classes=10, image_shape=(1, 16, 16)), TriggerSet)
True
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["TriggerSet"]


@runtime_checkable
class TriggerSet(Protocol):
    """Trigger images with their labels; `embed` plants any, `count_matches` looks for any."""

    @property
    def n(self) -> int:
        """Number of triggers."""

    @property
    def classes(self) -> int:
        """Number of classes L."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""

    def triggers(self) -> tuple[Tensor, Tensor]:
        """The uint8 images ``(n, C, H, W)`` and int64 labels ``(n,)``."""

    def commitment(self) -> str:
        """Hash, in hex, that binds to the images and labels without showing them."""
