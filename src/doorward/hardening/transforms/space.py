"""Which whole-image changes are looked through, and how far each kind may go.

>>> space = Space(families=("flow", "colour"), flow_bound=0.5)
>>> space.families, Space.from_dict(space.to_dict()) == space
(('flow', 'colour'), True)

A part of `Pervasive` is filed in `FAMILIES` with what it can express.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record
from doorward.registry import Registry

if TYPE_CHECKING:
    from doorward.hardening.transforms.latent import Coder

__all__ = ["FAMILIES", "PLAIN", "Family", "Part", "Space"]

Family = Literal["latent", "colour", "flow", "kernel", "additive", "residual"]
Amount = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Grid = Annotated[int, Field(ge=1, le=4096)]

PLAIN: tuple[Family, ...] = ("colour", "flow", "kernel", "additive")
"""The families that need neither an encoder-decoder nor a network per row."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Space(Record):
    """The numbers of a `Pervasive` change.

    Args:
        families: which parts are switched on, each once; applied in the order of `FAMILY_ORDER`
            whatever order is given.
        kernel_grid: control points per axis of the 3x3 kernels and the bias; None for one per
            pixel, at which every warp by less than a pixel is reproduced exactly.
        kernel_bound: largest change of a kernel's weight.
        bias_bound: largest bias, pixels in [0, 1].
        flow_grid: control points per axis of the flow.
        flow_bound: largest displacement in pixels, at most 1.
        colour_knots: of the curve of each channel.
        colour_bound: largest change of an entry of the colour matrix; half of it bounds the
            offsets and the curve.
        frequencies: cosines per axis of the additive part, at most as many as pixels.
        additive_bound: largest value that it adds.
        residual_width: channels of each row's own network at full resolution.
        residual_bound: largest value that it adds.
        latent_factor: largest factor on a channel's mean and deviation in the encoder-decoder; 2
            for targeted attacks in Xu et al. (2021), 1.5 for others.
    """

    families: Annotated[tuple[Family, ...], Field(min_length=1)] = PLAIN
    kernel_grid: Grid | None = 8
    kernel_bound: Annotated[float, Field(gt=0, le=4)] = 1.0
    bias_bound: Amount = 0.2
    flow_grid: Grid = 4
    flow_bound: Annotated[float, Field(gt=0, le=1)] = 1.0
    colour_knots: Annotated[int, Field(ge=2, le=64)] = 5
    colour_bound: Amount = 0.5
    frequencies: Grid = 16
    additive_bound: Amount = 0.2
    residual_width: Annotated[int, Field(ge=1, le=64)] = 4
    residual_bound: Amount = 0.2
    latent_factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 2.0

    def __post_init__(self) -> None:
        if len(set(self.families)) != len(self.families):
            raise InvalidInput(f"families {self.families} name one twice")

    @property
    def ordered(self) -> list[Family]:
        """The families in the order in which they are applied."""
        return [name for name in FAMILY_ORDER if name in self.families]


FAMILY_ORDER: tuple[Family, ...] = ("latent", "colour", "flow", "kernel", "additive", "residual")
"""From the latent layer to the pixels, so that what is local comes last."""


class Part(nn.Module, ABC):
    """One family of changes: registered in `FAMILIES`, built from a `Space`.

    Args:
        rows: how many.
        image_shape: (C, H, W).
        space: the numbers.
        coder: the encoder-decoder, for the part that needs one.
    """

    def __init__(
        self,
        rows: int,
        image_shape: tuple[int, int, int],
        space: Space,
        coder: Coder | None = None,
    ) -> None:
        super().__init__()

    @abstractmethod
    def forward(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """(R, B, C, H, W) to the same, not clipped; the images themselves at zero parameters."""

    @abstractmethod
    def sizes(self, rows: Tensor | None) -> Tensor:
        """(R,): mean absolute deviation from no change, as a share of the bound."""


FAMILIES: Registry[type[Part]] = Registry("family of changes")
"""The parts by name; fact ``expresses``: known triggers that lie in its span."""


def deviation(*values: Any) -> Tensor:
    """Mean absolute value per row over several ``(tensor, bound)``, as shares of the bounds."""
    total: Tensor | None = None
    for tensor, bound in values:
        mean: Tensor = tensor.abs().flatten(1).mean(1) / bound
        total = mean if total is None else total + mean
    assert total is not None  # noqa: S101 - every part has parameters
    return total / len(values)
