"""How each kind of chart is drawn on matplotlib axes, in placeholder colours.

::

    axes = figure.add_subplot()
    paint(axes, Dots({"marked": [0.98, 0.97]}, x="accuracy"), width=7.2)

`doorward.reporting.charts` makes the figure, and exchanges the placeholders for the page's colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from doorward.reporting.numerals import format_value, printable
from doorward.reporting.plots import Bars, Chart, Curve, Dots, Scatter, is_drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["DASHES", "FAINT", "INK", "MARKERS", "PLACEHOLDERS", "SERIES", "height_of", "paint"]

SERIES = 6
"""How many series have their own colour; later ones share them with another dash."""

DASHES: tuple[tuple[int, ...], ...] = ((), (6, 2), (2, 2), (7, 2, 2, 2), (1, 2), (10, 3))
"""Dash pattern of each series, so that colour is never the only difference."""

INK, FAINT = "#010101", "#020202"
PLACEHOLDERS = {f"#0303{index:02x}": f"var(--series-{index + 1})" for index in range(SERIES)}

MARKERS: tuple[tuple[str, str], ...] = (
    ("o", "M6 2a4 4 0 1 0 .01 0Z"),
    ("X", "M2 2L10 10M10 2L2 10"),
    ("s", "M2 2H10V10H2Z"),
    ("^", "M6 2L10 10H2Z"),
    ("D", "M6 1L11 6L6 11L1 6Z"),
    ("v", "M2 2H10L6 10Z"),
)
"""Marker of each group of points: for matplotlib, and as a path of 12x12 for the legend."""

_ALARM = 4  # index of the colour of what is above the line: red


def height_of(block: Chart, width: float) -> float:
    """Height in inches of a chart that is `width` inches wide."""
    if isinstance(block, Curve):
        return max(2.5, 0.46 * width)
    if isinstance(block, Scatter):
        return max(2.8, 0.52 * width)
    if isinstance(block, Bars):
        return 0.8 + 0.3 * (len(block.values) + (block.line is not None))
    return 0.75 + 0.36 * len(block.values)


def paint(axes: Axes, block: Chart, width: float) -> None:
    """Draw a chart block on empty axes."""
    axes.patch.set_alpha(0)
    axes.figure.patch.set_alpha(0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, pad=5)
    axes.set_axisbelow(True)
    if isinstance(block, Curve):
        _curve(axes, block)
    elif isinstance(block, Dots):
        _dots(axes, block, width)
    elif isinstance(block, Bars):
        _bars(axes, block, width)
    else:
        _scatter(axes, block)


def _curve(axes: Axes, block: Curve) -> None:
    nan = float("nan")
    for index, (name, (xs, ys)) in enumerate(block.series.items()):
        values = [y if is_drawable(y) else nan for y in ys]
        axes.plot(
            [float(x) for x in xs],
            values,  # type: ignore[arg-type]
            color=_colour(index),
            linewidth=1.8,
            dashes=DASHES[index % len(DASHES)] or (None, None),
            marker="o" if len(xs) <= 25 else None,
            markersize=3.2,
            label=printable(name),
        )
    if block.log and any(y and y > 0 for _, ys in block.series.values() for y in ys):
        axes.set_yscale("log")
    axes.grid(axis="y", color=FAINT, linewidth=0.6)
    axes.set_xlabel(printable(block.x))
    axes.set_ylabel(printable(block.y))
    _whole_steps(axes, [float(x) for xs, _ in block.series.values() for x in xs])


def _dots(axes: Axes, block: Dots, width: float) -> None:
    for index, label in enumerate(block.values):
        values = [float(v) for v in block.values[label] if is_drawable(v)]
        if not values:
            continue
        colour = _colour(0)
        axes.plot(values, [index] * len(values), "o", color=colour, alpha=0.45, markersize=6)
        mean = sum(values) / len(values)
        axes.plot([mean], [index], "|", color=colour, markersize=15, markeredgewidth=2.4)
    axes.margins(x=0.08)
    _lines_of_labels(axes, list(block.values), block.x, width)


def _bars(axes: Axes, block: Bars, width: float) -> None:
    for index, (label, value) in enumerate(block.values.items()):
        if not is_drawable(value):
            continue
        above = label in block.marked
        colour = _colour(_ALARM if above else 0)
        axes.barh([index], [value], height=0.62, color=colour, alpha=1.0 if above else 0.55)
        words = format_value(value, digits=3) + (f" {printable(block.mark)}" if above else "")
        _beside(axes, words, max(value, 0.0), index, weight="bold" if above else "normal")
    reach = [0.0, *block.values.values(), *([] if block.line is None else [1.1 * block.line])]
    low, high = min(filter(is_drawable, reach)), max(filter(is_drawable, reach))
    # Room for the numbers at the ends of the bars: inches, so a larger share on a phone.
    room = (1.25 if block.marked else 0.45) / (width - 0.7)
    axes.set_xlim(low, low + (high - low or 1.0) / (1 - room))
    _lines_of_labels(axes, list(block.values), block.x, width)
    if block.line is not None and is_drawable(block.line):
        axes.axvline(block.line, color=INK, linewidth=1.2, dashes=(4, 3))
        axes.set_ylim(len(block.values) - 0.5, -1.2)  # a line more, for the words
        _beside(axes, printable(block.line_label), block.line, -0.8)


def _scatter(axes: Axes, block: Scatter) -> None:
    for index, points in enumerate(block.groups.values()):
        shown = [(x, y) for x, y in points if is_drawable(x) and is_drawable(y)]
        few = len(shown) < 4
        axes.plot(
            [x for x, _ in shown],
            [y for _, y in shown],
            MARKERS[index % len(MARKERS)][0],
            color=_colour(index),
            alpha=1.0 if few else 0.5,
            markersize=9 if few else 4.5,
            markeredgewidth=0.0,
        )
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_xlabel(printable(block.x))
    axes.set_ylabel(printable(block.y))


def _beside(axes: Axes, words: str, x: float, y: float, weight: str = "normal") -> None:
    """Words to the right of a point; they take no part in the layout, however long they are."""
    axes.annotate(
        words, (x, y), (5, 0), textcoords="offset points", va="center", size=9.5, weight=weight
    ).set_in_layout(False)


def _lines_of_labels(axes: Axes, labels: list[str], x: str, width: float) -> None:
    """One line per label, from top to bottom, over one horizontal axis."""
    shown = [_shorten(printable(label), int(7 * width)) for label in labels]
    axes.set_yticks(range(len(labels)), shown)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.grid(axis="x", color=FAINT, linewidth=0.6)
    axes.set_xlabel(printable(x))
    axes.locator_params(axis="x", nbins=max(3, int(width)))


def _whole_steps(axes: Axes, xs: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    if all(x == int(x) for x in xs):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _colour(index: int) -> str:
    return list(PLACEHOLDERS)[index % SERIES]


def _shorten(label: str, room: int) -> str:
    return label if len(label) <= room else label[: room - 1] + "…"
