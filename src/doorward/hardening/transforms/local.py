"""Changes by the neighbourhood: a 3x3 kernel and a bias per place, and smooth flow.

>>> x = torch.rand(1, 2, 1, 5, 5)
>>> still = torch.zeros(1, 5, 5)
>>> bool(torch.equal(local_mix(x, bilinear(still, still)), x))
True
>>> left = bilinear(torch.ones(1, 5, 5), still)      # every pixel is fetched from its right
>>> bool(torch.equal(local_mix(x, left)[..., :4], x[..., 1:]))
True
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.hardening.transforms.base import bounded, folded, pick, raw_of
from doorward.hardening.transforms.space import FAMILIES, Part, Space, deviation

__all__ = ["Flow", "Kernel", "bilinear", "local_mix", "raised"]

CENTRE = 4
"""Of the nine places ``(dy, dx)`` = (-1, -1), (-1, 0), ... (1, 1): the pixel itself."""


@FAMILIES.register("kernel", expresses="warps below a pixel, blends, vignettes, blur, sharpening")
class Kernel(Part):
    """Each pixel becomes a weighted sum of its 3x3 neighbourhood, plus a bias.

    The pixel layer of BEAGLE (Cheng et al. 2023) on a coarse grid: weights are shared by the
    channels and, like the bias, interpolated bicubically between control points. Beyond the edge
    the image goes on with its edge pixels. A warp by less than a pixel is such a layer exactly,
    the centre's weight down to almost 0, hence the default bound of 1 (theirs is 0.1).
    """

    def __init__(
        self, rows: int, image_shape: tuple[int, int, int], space: Space, coder: object = None
    ) -> None:
        super().__init__(rows, image_shape, space)
        channels, height, width = image_shape
        grid = space.kernel_grid
        points = (height, width) if grid is None else (min(grid, height), min(grid, width))
        self.kernel_bound, self.bias_bound = space.kernel_bound, space.bias_bound
        self.kernel = nn.Parameter(torch.zeros(rows, 9, *points))
        self.bias = nn.Parameter(torch.zeros(rows, channels, *points))
        self.register_buffer("up", _raiser(height, points[0]), persistent=False)
        self.register_buffer("across", _raiser(width, points[1]), persistent=False)
        self.up: Tensor
        self.across: Tensor

    def forward(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """The weighted sums and the bias."""
        weights = raised(self._weights(rows), self.up, self.across)
        identity = torch.zeros_like(weights[:1, :, :1, :1])
        identity[:, CENTRE] = 1
        bias = raised(bounded(pick(self.bias, rows), self.bias_bound), self.up, self.across)
        return local_mix(images, weights + identity) + bias[:, None]

    def sizes(self, rows: Tensor | None) -> Tensor:
        """Weights and biases at the control points, as shares of their bounds."""
        return deviation(
            (self._weights(rows), self.kernel_bound),
            (bounded(pick(self.bias, rows), self.bias_bound), self.bias_bound),
        )

    @torch.no_grad()
    def assign(self, kernel: Tensor | None = None, bias: Tensor | None = None) -> None:
        """Set all rows to given values at the control points.

        Args:
            kernel: (9, h, w) or (P, 9, h, w) weights, the centre's included.
            bias: (C, h, w) or (P, C, h, w).
        """
        if kernel is not None:
            change = kernel.clone()
            change[..., CENTRE, :, :] -= 1
            self.kernel.copy_(raw_of(change, self.kernel_bound) / _CALM)
        if bias is not None:
            self.bias.copy_(raw_of(bias, self.bias_bound))

    def _weights(self, rows: Tensor | None) -> Tensor:
        # A kernel's nine weights act together: they move more slowly than everything else.
        return bounded(_CALM * pick(self.kernel, rows), self.kernel_bound)


@FAMILIES.register("flow", expresses="WaNet and other smooth warps by at most a pixel")
class Flow(Part):
    """Each pixel is fetched from a place nearby, along a smooth field.

    The field is interpolated bicubically between control points, like WaNet's (Nguyen and Tran
    2021), and pixels bilinearly; places beyond the edge count as on it. With a displacement of at
    most one pixel this is a 3x3 kernel, so it is exactly no change where the field is 0.
    """

    def __init__(
        self, rows: int, image_shape: tuple[int, int, int], space: Space, coder: object = None
    ) -> None:
        super().__init__(rows, image_shape, space)
        _, height, width = image_shape
        points = (min(space.flow_grid, height), min(space.flow_grid, width))
        self.bound = space.flow_bound
        self.field = nn.Parameter(torch.zeros(rows, 2, *points))
        self.register_buffer("up", _raiser(height, points[0]), persistent=False)
        self.register_buffer("across", _raiser(width, points[1]), persistent=False)
        self.up: Tensor
        self.across: Tensor

    def forward(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """The images, resampled."""
        points = bounded(pick(self.field, rows), self.bound)
        # Between its points a cubic may overshoot.
        field = raised(points, self.up, self.across).clamp(-1, 1)
        return local_mix(images, bilinear(field[:, 0], field[:, 1]))

    def sizes(self, rows: Tensor | None) -> Tensor:
        """Displacement at the control points, as a share of the bound."""
        return deviation((bounded(pick(self.field, rows), self.bound), self.bound))

    @torch.no_grad()
    def assign(self, field: Tensor) -> None:
        """Set all rows to given displacements (x, y) in pixels, (2, h, w) or (P, 2, h, w)."""
        self.field.copy_(raw_of(field, self.bound))


_CALM = 0.2


def local_mix(images: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums over 3x3 neighbourhoods, the edge pixels going on beyond the edge.

    Args:
        images: (R, B, C, H, W).
        weights: (R, 9, H, W), of the places from top left to bottom right.

    Returns:
        (R, B, C, H, W).
    """
    height, width = images.shape[-2:]
    padded = F.pad(images.flatten(0, 1), (1, 1, 1, 1), mode="replicate")
    padded = folded(padded, *images.shape[:2])
    total = images * weights[:, None, None, CENTRE]
    for place in range(9):
        if place != CENTRE:
            down, right = divmod(place, 3)
            piece = padded[..., down : down + height, right : right + width]
            total = total + piece * weights[:, None, None, place]
    return total


def bilinear(dx: Tensor, dy: Tensor) -> Tensor:
    """Kernels that fetch each pixel from a place nearby, by bilinear interpolation.

    Args:
        dx: (R, H, W), how far to the right, in pixels within [-1, 1].
        dy: the same downwards.

    Returns:
        (R, 9, H, W).
    """
    rows, columns = _taps(dy), _taps(dx)
    return (rows[:, :, None] * columns[:, None]).flatten(1, 2)


def _taps(shift: Tensor) -> Tensor:
    """Weights (R, 3, H, W) of the pixel before, this one, and the one after."""
    # Two cases, not absolute values: these would have no slope at 0, where every search begins.
    ahead = shift >= 0
    nothing = torch.zeros_like(shift)
    return torch.stack(
        [
            torch.where(ahead, nothing, -shift),
            torch.where(ahead, 1 - shift, 1 + shift),
            torch.where(ahead, shift, nothing),
        ],
        1,
    )


def raised(points: Tensor, up: Tensor, across: Tensor) -> Tensor:
    """Control points (R, M, h, w) as maps (R, M, H, W), by two products of matrices."""
    if len(up) == points.shape[2] and len(across) == points.shape[3]:
        return points
    return up @ points @ across.T


def _raiser(size: int, points: int) -> Tensor:
    """The matrix (size, points) of bicubic interpolation with aligned corners."""
    unit = torch.eye(points, dtype=torch.float64)[None, None]
    wide = F.interpolate(unit, (size, points), mode="bicubic", align_corners=True)
    return wide[0, 0].float()
