"""Recovered triggers as pictures: samples, mean and spread, where they lie, what they do to images.

blocks = trigger_blocks(recovered[3], clean, "class 3")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from doorward.reporting.blocks import Block, Picture, Text
from doorward.reporting.numerals import percent
from doorward.reporting.plane import principal_plane
from doorward.reporting.plots import Scatter

if TYPE_CHECKING:
    from torch import Tensor

    from doorward.data import ImageData
    from doorward.scanning import Recovered

__all__ = ["trigger_blocks"]

_CLOUD = 256  # samples behind the plane, the mean and the spread
_ROW = 10  # pictures side by side
_PAGE = 720  # width of a picture in pixels that suits the page
_APART = 8  # pixels between triggers, which would else look like one pattern


def trigger_blocks(
    recovered: Recovered, clean: ImageData | None, name: str, *, seed: int = 0
) -> list[Block]:
    """Recovered triggers as pictures: samples, mean and spread, the plane, and stamped images.

    Args:
        recovered: triggers of one class.
        clean: images to show stamped; None for no such examples.
        name: what to call the class.
        seed: of which samples and images are shown.
    """
    import torch

    from doorward.randomness import generator

    with torch.no_grad():
        cloud = recovered.pictures(_CLOUD, generator(seed, "report", "pictures")).detach().cpu()
        plane = principal_plane(cloud)
        single = plane.dimensions == 0.0
        blocks: list[Block] = [
            Text(
                f"**Triggers that lead to {name}.** "
                + (
                    "The scanner gives a single trigger for this class, so nothing is said about "
                    "other ones that work."
                    if single
                    else "A backdoor answers not to one trigger but to a whole set of them. These "
                    f"are samples of the recovered set; they vary in about {plane.dimensions:.1f} "
                    "independent directions."
                )
            ),
            _tiles(
                cloud[:1] if single else cloud[: 2 * _ROW],
                f"Small pictures of recovered triggers of {name}",
                "The recovered trigger" if single else "Samples of the recovered triggers",
                gap=_APART,
            ),
        ]
        if not single:
            middle = torch.stack([cloud.mean(0), (2 * cloud.std(0)).clamp(0, 1)])
            blocks.append(
                _tiles(
                    middle,
                    f"Mean of the triggers of {name}, and how much each pixel varies around it",
                    "Their mean, and the spread of each pixel (twice the standard deviation)",
                    gap=_APART,
                )
            )
        examples = _examples(recovered, clean, seed)
        if examples is not None:
            blocks.append(
                _tiles(
                    examples,
                    f"Clean images, and the same images with triggers of {name}",
                    f"Clean images as they are, then with recovered triggers of {name}",
                    across=len(examples) // 2,
                )
            )
        if not single:
            first, second = plane.shares
            blocks.append(
                Scatter(
                    {f"{len(plane.points)} samples": plane.points, "their mean": [(0.0, 0.0)]},
                    x=f"first principal component ({percent(first, 0)})",
                    y=f"second ({percent(second, 0)})",
                    caption=f"The recovered triggers of {name}, seen from where they differ most, "
                    "and how much of their variance each axis shows",
                )
            )
    return blocks


def _tiles(images: Tensor, alt: str, caption: str, *, across: int = _ROW, gap: int = 2) -> Picture:
    """Images side by side, enlarged to a size at which single pixels can be seen."""
    from doorward.data import grid

    images = images if images.shape[1] in (1, 3) else images.mean(1, keepdim=True)
    largest = max(images.shape[2:])
    columns = max(1, min(across, len(images), _PAGE // (largest + gap)))
    scale = max(1, (_PAGE // max(columns, _ROW) - gap) // largest)
    picture = grid(images, columns=columns, scale=scale, gap=gap)
    return Picture.of(picture, alt, caption)


def _examples(recovered: Recovered, clean: ImageData | None, seed: int) -> Tensor | None:
    """A row of clean images of other classes over the same images with triggers; None if none."""
    import torch

    from doorward.randomness import generator

    if clean is None or not len(clean):
        return None
    others = (clean.labels != recovered.target).nonzero().flatten().cpu()
    rows = others if len(others) else torch.arange(len(clean))
    draw = generator(seed, "report", "examples")
    most = min(_ROW, len(rows), max(1, _PAGE // (max(clean.image_shape[1:]) + 2)))
    chosen = rows[torch.randperm(len(rows), generator=draw)[:most]]
    images = clean.pixels(chosen.to(clean.labels.device))
    return torch.cat([images, recovered.stamp(images, draw)]).cpu()
