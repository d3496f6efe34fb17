"""The table of architectures; each family's file adds its own entries.

>>> import doorward.models.zoo
>>> ARCHITECTURES.facts("resnet8")["paper"]
'He et al. 2016, Deep Residual Learning for Image Recognition'

An entry is a function ``(channels, size, **options) -> Body`` of the number of image channels and
their ``(height, width)``. Options are keyword-only with a default; see `create`.
"""

from __future__ import annotations

from collections.abc import Callable

from doorward.models.classifier import Body
from doorward.registry import Registry

__all__ = ["ARCHITECTURES", "MIN_SIZE", "Builder"]

Builder = Callable[..., Body]

MIN_SIZE = 16
"""The least height and width, in pixels, that every architecture accepts."""

ARCHITECTURES: Registry[Builder] = Registry("architecture")
"""Facts of an entry: `parameters` (10 classes, 3x32x32 images), `paper` and `year`."""
