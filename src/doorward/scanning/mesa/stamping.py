"""Put patches into images, each at a place of its own, and take the same places out again.

>>> images, patches = torch.zeros(2, 1, 4, 4), torch.ones(2, 1, 2, 2)
>>> rows, columns = torch.tensor([0, 2]), torch.tensor([1, 2])
>>> stamped = paste(images, patches, rows, columns)
>>> stamped[0, 0, :2].tolist()
[[0.0, 1.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]]
>>> bool((cut(stamped, 2, rows, columns) == patches).all())
True

`cut` of a gradient with respect to stamped images is the gradient with respect to the patches.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["cut", "paste", "random_places"]


def paste(images: Tensor, patches: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Overwrite a square of each image.

    Args:
        images: (N, C, H, W).
        patches: (N, C, s, s).
        rows: int64 (N,), the patch's first row in each image, 0..H-s.
        columns: int64 (N,), its first column, 0..W-s.

    Returns:
        New images.
    """
    stamped = images.clone()
    stamped[_window(images, patches.shape[2], rows, columns)] = patches.to(images.dtype)
    return stamped


def cut(images: Tensor, size: int, rows: Tensor, columns: Tensor) -> Tensor:
    """The squares (N, C, size, size) of images (N, C, H, W) that begin at (rows, columns)."""
    return images[_window(images, size, rows, columns)]


def random_places(
    count: int,
    free: tuple[int, int],
    draw: torch.Generator,
    places: Sequence[tuple[float, float]] | None = None,
) -> tuple[Tensor, Tensor]:
    """First row and column of a patch, for each of some images.

    Args:
        count: N.
        free: the largest row and column at which the patch still fits: (H-s, W-s).
        draw: on the CPU.
        places: where it may be, as shares of `free`: (0, 0) is the top left corner, (1, 1) the
            bottom right one. None for anywhere, the last row and column included.

    Returns:
        int64 (N,) and (N,), on the CPU.

    >>> random_places(3, (4, 8), torch.Generator(), [(1.0, 0.5)])
    (tensor([4, 4, 4]), tensor([4, 4, 4]))
    """
    if places is None:
        return (
            torch.randint(free[0] + 1, (count,), generator=draw),
            torch.randint(free[1] + 1, (count,), generator=draw),
        )
    chosen = torch.tensor(places)[torch.randint(len(places), (count,), generator=draw)]
    corners = (chosen * torch.tensor(free)).round().long()
    return corners[:, 0], corners[:, 1]


def _window(images: Tensor, size: int, rows: Tensor, columns: Tensor) -> tuple[Tensor, ...]:
    device = images.device
    side = torch.arange(size, device=device)
    return (
        torch.arange(len(images), device=device)[:, None, None, None],
        torch.arange(images.shape[1], device=device)[None, :, None, None],
        (rows.to(device)[:, None] + side)[:, None, :, None],
        (columns.to(device)[:, None] + side)[:, None, None, :],
    )
