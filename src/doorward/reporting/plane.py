"""The plane in which a cloud of pictures spreads most, to draw it as points.

>>> import torch
>>> line = torch.linspace(0, 1, 9)[:, None, None, None] * torch.ones(9, 1, 2, 2)
>>> plane = principal_plane(line)
>>> [round(share, 3) for share in plane.shares], round(plane.dimensions, 3)
([1.0, 0.0], 1.0)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from doorward.errors import InvalidInput

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Plane", "principal_plane"]


class Plane(NamedTuple):
    """A cloud of pictures seen from where it is widest.

    Attributes:
        points: one (x, y) per picture; (0, 0) is the mean.
        shares: of the whole variance, along x and along y.
        dimensions: participation ratio of the variances along all axes, ``(sum v)^2 / sum v^2``:
            1 for a line, d for a ball of d dimensions, 0 where all pictures are the same.
    """

    points: list[tuple[float, float]]
    shares: tuple[float, float]
    dimensions: float


def principal_plane(pictures: Tensor) -> Plane:
    """The first two principal components of some pictures.

    Args:
        pictures: float (N, ...), N at least 2; every entry is a coordinate.

    Returns:
        Coordinates with signs fixed (the largest entry of each axis is positive), so that the same
        pictures give the same drawing everywhere.

    Raises:
        InvalidInput: there are fewer than two pictures.
    """
    import torch

    if pictures.ndim < 2 or len(pictures) < 2:
        raise InvalidInput("a plane through fewer than two pictures is not defined")
    cloud = pictures.detach().cpu().double().flatten(1)
    cloud = cloud - cloud.mean(0)
    _, spreads, axes = torch.linalg.svd(cloud, full_matrices=False)
    variances = spreads.square()
    total = float(variances.sum())
    # Rounding noise of equal pictures is no direction.
    if total <= 1e-12 * cloud.numel():
        return Plane([(0.0, 0.0)] * len(cloud), (0.0, 0.0), 0.0)
    if len(axes) < 2:  # pictures of one number each
        axes = torch.cat([axes, torch.zeros_like(axes)])
        variances = torch.cat([variances, torch.zeros_like(variances)])
    axes = axes[:2]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    flat = cloud @ (axes * torch.where(largest < 0, -1.0, 1.0)).T
    first, second = (variances[:2] / total).tolist()
    return Plane(
        points=[(x, y) for x, y in flat.tolist()],
        shares=(first, second),
        dimensions=total**2 / float(variances.square().sum()),
    )
