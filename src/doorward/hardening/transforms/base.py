"""What every trainable change of images is: one set of parameters per row, all rows in one pass.

>>> from doorward.hardening.transforms import Pervasive
>>> change = Pervasive(90, (3, 32, 32))              # one row per pair of ten classes
>>> change(torch.rand(4, 3, 32, 32)).shape           # the same images under all of them
torch.Size([90, 4, 3, 32, 32])
>>> rows = torch.tensor([7, 7, 12])                  # or own images for some rows
>>> change(torch.rand(3, 4, 3, 32, 32), rows).shape
torch.Size([3, 4, 3, 32, 32])

All parameters have the row as their first axis and no more than four axes, so that rows can be
taken out, put back and kept one by one, and the loop may choose the memory format.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self, final

import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput

__all__ = ["Change", "bounded", "folded", "pick", "raw_of"]


class Change(nn.Module, ABC):
    """Images -> images, once per row; differentiable in its parameters.

    Args:
        rows: how many changes, at least 1.
        image_shape: (C, H, W).
    """

    def __init__(self, rows: int, image_shape: tuple[int, int, int]) -> None:
        super().__init__()
        if rows < 1:
            raise InvalidInput(f"a change for {rows} rows", why="at least one is needed")
        self.count, self.image_shape = rows, image_shape

    @abstractmethod
    def changed(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """(R, B, C, H, W) to the same, within [0, 1]."""

    @abstractmethod
    def sizes(self, rows: Tensor | None = None) -> Tensor:
        """How far the parameters are from no change, (R,)."""

    @abstractmethod
    def like(self, rows: int) -> Self:
        """A change of the same kind for another number of rows, on the CPU."""

    @final  # type: ignore[misc]  # torch declares `forward` as an attribute
    def forward(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Images under the changes of some rows.

        Args:
            images: float (B, C, H, W), the same for all rows, or (R, B, C, H, W), in [0, 1].
            rows: int64 (R,); None for all.

        Returns:
            (R, B, C, H, W) in [0, 1].

        Raises:
            InvalidInput: the images have another shape.
        """
        wanted = self.count if rows is None else len(rows)
        own = images.ndim == 5 and len(images) == wanted
        if not (own or images.ndim == 4) or images.shape[-3:] != self.image_shape:
            raise InvalidInput(
                f"images are {tuple(images.shape)}",
                why=f"(B, C, H, W) or ({wanted}, B, C, H, W) with (C, H, W) = "
                f"{self.image_shape} is expected",
            )
        if not own:
            images = images.expand(wanted, *images.shape)
        # Under autocast a matrix product would round what is to be added to the images.
        with torch.autocast(images.device.type, enabled=False):
            return self.changed(images, rows)

    def trained(self) -> list[nn.Parameter]:
        """The parameters that a search moves; each has one slice per row."""
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    @torch.no_grad()
    def start(self, draws: Sequence[torch.Generator], amount: float = 0.05) -> Self:
        """Move every row away from no change by uniform noise in [-amount, amount], in raw units.

        Args:
            draws: one generator on the CPU per row, so that a row begins the same in any company.
            amount: at least 0.
        """
        for parameter in self.trained():
            noise = [torch.rand(parameter.shape[1:], generator=draw) * 2 - 1 for draw in draws]
            parameter.add_(amount * torch.stack(noise).to(parameter))
        return self

    @torch.no_grad()
    def taken(self, rows: Tensor) -> Self:
        """A copy of some rows, int64 (R,)."""
        part = self.like(len(rows))
        for own, whole in zip(part.trained(), self.trained(), strict=True):
            own.copy_(whole.index_select(0, rows.to(whole.device)))
        return part

    @torch.no_grad()
    def put(self, rows: Tensor, part: Change) -> None:
        """Replace some rows, int64 (R,), by those of `part`."""
        for whole, own in zip(self.trained(), part.trained(), strict=True):
            whole.index_copy_(0, rows.to(whole.device), own.detach().to(whole))

    @torch.no_grad()
    def put_where(self, better: Tensor, tensors: Sequence[Tensor]) -> None:
        """Take the rows marked in `better`, bool (P,), from copies of the parameters."""
        for parameter, kept in zip(self.trained(), tensors, strict=True):
            parameter.copy_(torch.where(_wide(better, parameter), kept, parameter))

    @torch.no_grad()
    def kept_where(self, better: Tensor, tensors: Sequence[Tensor] | None) -> list[Tensor]:
        """Copies of the parameters: the rows marked in `better` as they are, others as kept."""
        now = self.trained()
        if tensors is None:
            return [parameter.detach().clone() for parameter in now]
        return [
            torch.where(_wide(better, parameter), parameter, kept)
            for parameter, kept in zip(now, tensors, strict=True)
        ]


def pick(parameter: Tensor, rows: Tensor | None) -> Tensor:
    """The slices of some rows; the parameter itself for None."""
    return parameter if rows is None else parameter.index_select(0, rows)


def folded(flat: Tensor, *lead: int) -> Tensor:
    """The first axis cut into several: (R * B, ...) to (R, B, ...) for ``lead`` (R, B)."""
    return flat.reshape(*lead, *flat.shape[1:])


def bounded(raw: Tensor, bound: float) -> Tensor:
    """``bound * raw / sqrt(1 + raw^2)``: within the bound, 0 at 0.

    Its slope falls with the third power of raw; that of tanh falls so fast that a search which
    once went to the bound hardly comes back.

    >>> bounded(torch.tensor([0.0, 0.75]), 0.5).tolist()
    [0.0, 0.30000001192092896]
    """
    return bound * raw * torch.rsqrt(1 + raw * raw)


def raw_of(value: Tensor, bound: float) -> Tensor:
    """What `bounded` makes `value` of; values beyond the bound count as almost at it."""
    limit = 1 - 1e-6
    share = (value.double() / bound).clamp(-limit, limit)
    return (share * torch.rsqrt(1 - share * share)).to(value.dtype)


def _wide(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(-1, *[1] * (like.ndim - 1))
