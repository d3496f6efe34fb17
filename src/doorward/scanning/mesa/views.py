"""What reports show of recovered triggers: their mean, a sheet of samples, and a map of them.

>>> from doorward.scanning.mesa.distribution import PatchDistribution
>>> found = PatchDistribution(3, channels=1, sizes=[2, 2], levels=[0.5, 0.9])
>>> draw = torch.Generator()
>>> mean_trigger(found, 50, draw).shape, sheet(found, 2, 3, draw).shape
(torch.Size([1, 2, 2]), torch.Size([1, 7, 10]))
>>> view = plane(found, 40, draw)
>>> view.coordinates.shape, sorted(set(view.levels))
(torch.Size([40, 2]), [0.5, 0.9])
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from doorward.errors import InvalidInput
from doorward.scanning.mesa.distribution import PatchDistribution
from doorward.scanning.recovered import Recovered

__all__ = ["Plane", "mean_trigger", "plane", "sheet"]


def mean_trigger(recovered: Recovered, count: int, draw: torch.Generator) -> Tensor:
    """The mean of `count` triggers, (C, h, w) in [0, 1]."""
    _require(count, 1)
    return recovered.pictures(count, draw).mean(0)


def sheet(recovered: Recovered, rows: int, columns: int, draw: torch.Generator) -> Tensor:
    """Samples side by side, with a white line of one pixel between and around them.

    Args:
        recovered: any kind of triggers.
        rows: of samples.
        columns: of samples.
        draw: on the CPU.

    Returns:
        One picture (C, rows * (h + 1) + 1, columns * (w + 1) + 1) in [0, 1].
    """
    _require(min(rows, columns), 1)
    pictures = recovered.pictures(rows * columns, draw)
    _, channels, height, width = pictures.shape
    framed = torch.ones(rows, columns, channels, height + 1, width + 1, device=pictures.device)
    framed[..., 1:, 1:] = pictures.view(rows, columns, channels, height, width)
    cells = framed.permute(2, 0, 3, 1, 4).reshape(
        channels, rows * (height + 1), columns * (width + 1)
    )
    whole = torch.ones(channels, cells.shape[1] + 1, cells.shape[2] + 1, device=cells.device)
    whole[:, :-1, :-1] = cells
    return whole


class Plane(NamedTuple):
    """Triggers as points of a plane.

    Attributes:
        coordinates: (count, 2), along the first two principal components, zero mean.
        levels: of the component that each was drawn from.
        explained: share of the variance along each of the two; how much the map leaves out.
    """

    coordinates: Tensor
    levels: list[float]
    explained: tuple[float, float]


def plane(found: PatchDistribution, count: int, draw: torch.Generator) -> Plane:
    """Principal component analysis of sampled triggers.

    The signs are fixed so that the largest loading of each component is positive: two maps of the
    same distribution look alike.

    Args:
        found: a distribution of patches.
        count: how many to draw, 2 at least.
        draw: on the CPU.

    Raises:
        InvalidInput: there are fewer than two, or patches of a single value.
    """
    _require(count, 2)
    patches, which = found.sample(count, draw)
    points = patches.flatten(1).double().cpu()
    if points.shape[1] < 2:
        raise InvalidInput("patches of one value have no plane", why="they lie on a line")
    centred = points - points.mean(0)
    _, sizes, axes = torch.linalg.svd(centred, full_matrices=False)
    largest = axes.abs().argmax(1, keepdim=True)
    axes = axes * axes.gather(1, largest).sign()
    total = float(sizes.square().sum())
    shares = (sizes[:2].square() / total).tolist() if total else [0.0, 0.0]
    return Plane(
        coordinates=(centred @ axes[:2].T).float(),
        levels=[found.levels[component] for component in which.tolist()],
        explained=(shares[0], shares[1]),
    )


def _require(count: int, least: int) -> None:
    if count < least:
        raise InvalidInput(f"{count} triggers are too few", why=f"{least} are the least")
