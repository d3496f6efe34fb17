"""The section about class distances: the matrix as a heat map, the closest pairs with pictures.

result, found = measure_distances(model, clean)
report.add(distance_section(result, found, clean))
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from doorward.reporting.blocks import Block, Note, Number, Numbers, Picture, Table
from doorward.reporting.numerals import format_value, percent
from doorward.reporting.report import Section
from doorward.reporting.scanning import class_name

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor

    from doorward.data import ImageData
    from doorward.hardening import DistanceResult, PairAttack

__all__ = ["MEANING", "close_pairs", "distance_section", "heat_map"]

MEANING = {
    "patch": "sum of the mask of the smallest patch, over all channels",
    "pixel": "L2 norm of the smallest change of the whole image",
    "ssim": "1 - SSIM of the smallest change of the whole image",
    "lpips": "feature distance of the smallest change of the whole image",
    "parameters": "parameters of the smallest change of the whole image",
}
_MOST_CLASSES = 12  # whose numbers are written into the heat map
_NAMES = 30  # of classes along its edges
_CLOSEST = 10  # pairs in the table
_SHOWN = 3  # of these as pictures
_EACH = 4  # images of each
_LOUD = 4.0  # by how much differences are magnified
_PAGE = 720


def distance_section(
    result: DistanceResult,
    found: PairAttack | None = None,
    clean: ImageData | None = None,
    *,
    title: str = "How far apart are the classes?",
) -> Section:
    """Class distances, for people.

    Args:
        result: of `doorward.hardening.class_distances`.
        found: the changes behind it (`measure_distances`); without them there are no pictures.
        clean: images to show changed.
        title: of the section.
    """
    missing = result.unreachable
    blocks: list[Block] = [
        Numbers(
            Number("Mean distance", _short(result.mean.mean), _interval(result)),
            Number("Median", _short(result.median), "pairs out of reach count as farthest"),
            Number("Pairs reached", f"{result.mean.count} of {len(result.pairs)}"),
            Number("Seconds", f"{result.seconds:.1f}", f"{result.peak_memory_mib:.0f} MiB"),
        ),
        Picture.of(
            heat_map(result),
            f"Matrix of the distances from each class (row) to each other: {_words(result)}",
            f"From each class (row) to each other (column): {MEANING[result.kind]}. A dash is a "
            "pair that the attack did not reach.",
            pixelated=False,
            width=_PAGE,
        ),
        _table(result),
    ]
    picture = close_pairs(result, found, clean) if found is not None and clean is not None else None
    if picture is not None:
        blocks.append(
            Picture.of(
                picture,
                "Images of the closest pairs, the same images changed, and the differences",
                f"The closest pairs: {_EACH} images, the same images as they reach the other "
                f"class, and the differences ({_LOUD:g} times, around grey)",
            )
        )
    blocks.append(
        Note(
            "A distance is an upper bound: that of the smallest change that this measuring attack "
            f"(`{result.recipe_digest[:12]}`) found in {len(result.by_start)} starts. It can be "
            "compared with distances by the same attack only. "
            + (
                f"{len(missing)} pairs were out of its reach; they count nowhere as 0."
                if missing
                else "No pair was out of its reach."
            )
        )
    )
    return Section(title, tuple(blocks), summary=_summary(result))


def heat_map(result: DistanceResult, *, scale: tuple[float, float] | None = None) -> Image.Image:
    """The matrix as a picture, on white: dark is close, a dash is out of reach.

    Args:
        result: of `doorward.hardening.class_distances`.
        scale: distances at the ends of the colours; None for the smallest and the largest.
    """
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    count = len(result.classes)
    cells = np.array([[np.nan if d is None else d for d in row] for row in result.distances])
    side = min(9.0, 2.2 + 0.45 * min(count, 15))
    figure = Figure(figsize=(side + 1.0, side), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_facecolor("#e4e4e4")
    low, high = (np.nanmin(cells), np.nanmax(cells)) if np.isfinite(cells).any() else (0, 1)
    low, high = scale or (low, high)
    if np.isfinite(cells).any():
        shown = axes.imshow(
            cells, cmap="viridis", interpolation="nearest", vmin=low, vmax=max(high, low + 1e-9)
        )
        figure.colorbar(shown, ax=axes, label=result.kind, shrink=0.8)
    else:
        axes.imshow(np.zeros_like(cells), cmap="Greys", vmin=0, vmax=10, interpolation="nearest")
    for s, t in result.pairs if count <= _MOST_CLASSES else result.unreachable:
        value = result.distances[s][t]
        light = value is not None and (value - low) <= 0.6 * (high - low)
        axes.text(
            t, s, "-" if value is None else format_value(value, digits=2),
            ha="center", va="center", size=8, color="white" if light else "black",
        )  # fmt: skip
    if count <= _NAMES:
        names = [name if len(name) <= 12 else name[:11] + "…" for name in result.classes]
        axes.set_xticks(range(count), names, rotation=60 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(count), names)
    axes.set_xlabel("to")
    axes.set_ylabel("from")
    buffer = io.BytesIO()
    # "tight" keeps labels of any length within the picture.
    figure.savefig(buffer, format="png", bbox_inches="tight")
    buffer.seek(0)
    return Image.open(buffer).convert("RGB")


def close_pairs(
    result: DistanceResult, found: PairAttack, clean: ImageData, *, pairs: int = _SHOWN
) -> Image.Image | None:
    """The closest pairs as pictures: images, the same changed, and the differences.

    Args:
        result: of `doorward.hardening.measure_distances`.
        found: the changes it came with.
        clean: images of the classes; of those without any nothing is shown.
        pairs: how many.

    Returns:
        One line per pair; None where there is nothing to show.
    """
    import torch

    from doorward.data import grid

    rows = {pair: row for row, pair in enumerate(found.aims.pairs)}
    lines: list[Tensor] = []
    for close in result.closest():
        mine = (clean.labels == close.source).nonzero().flatten()[:_EACH].cpu()
        row = rows.get((close.source, close.target))
        if len(mine) < _EACH or row is None or len(lines) == pairs:
            continue
        images = clean.pixels(mine.to(clean.device)).cpu()
        changed = found.apply(row, images)
        lines.append(torch.cat([images, changed, 0.5 + _LOUD * (changed - images)]))
    if not lines:
        return None
    scale = max(1, (_PAGE // (3 * _EACH) - 2) // max(clean.image_shape[1:]))
    return grid(torch.cat(lines), columns=3 * _EACH, scale=scale)


def _table(result: DistanceResult) -> Table:
    names = [name for name in result.measures if name != result.kind]
    rows = [
        [
            f"{class_name(result.classes, close.source)} to "
            f"{class_name(result.classes, close.target)}".replace("class ", ""),
            _short(close.distance),
            *(_short(result.measures[name][close.source][close.target]) for name in names),
            percent(close.success),
        ]
        for close in result.closest(_CLOSEST)
    ]
    return Table(
        ["Pair", f"Distance ({result.kind})", *names, "Success"],
        rows,
        f"The {len(rows)} closest pairs",
        note="Success: share of images not used in the search that the change leads to the other "
        "class. The other columns measure the same change.",
    )


def _summary(result: DistanceResult) -> str:
    closest = result.closest(1)
    if not closest:
        return "The measuring attack led no class to another: all distances are out of its reach."
    first = closest[0]
    return (
        f"The closest pair: {class_name(result.classes, first.source)} becomes "
        f"{class_name(result.classes, first.target)} by a change of {_short(first.distance)} "
        f"({MEANING[result.kind]})."
    )


def _words(result: DistanceResult) -> str:
    closest = result.closest()
    if not closest:
        return "none was reached"
    return f"they go from {_short(closest[0].distance)} to {_short(closest[-1].distance)}"


def _interval(result: DistanceResult) -> str:
    low, high = result.mean.low, result.mean.high
    return "" if low is None else f"{_short(low)} to {_short(high)} over the pairs (95 %)"


def _short(value: float | None) -> str:
    return "-" if value is None else format_value(value, digits=3)
