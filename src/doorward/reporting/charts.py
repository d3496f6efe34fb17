"""Charts as SVG that takes its colours from the page, so it reads in light and in dark.

Matplotlib draws with placeholder colours; they are exchanged for ``currentColor`` and the CSS
variables ``--series-1`` ... ``--series-6``, and its identifiers are made unique on the page.

>>> svg = draw(Curve({"loss": ([1, 2], [2.0, 1.0])}, x="epoch", y="loss"), prefix="c1")
>>> svg.startswith("<svg") and "currentColor" in svg and "var(--series-1)" in svg
True
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from doorward.reporting.numerals import printable
from doorward.reporting.plots import Curve, Dots, is_drawable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["DASHES", "SERIES", "STANDALONE_STYLE", "draw", "standalone"]

SERIES = 6
"""How many series have their own colour; later ones share them with another dash."""

DASHES: tuple[tuple[int, ...], ...] = ((), (6, 2), (2, 2), (7, 2, 2, 2), (1, 2), (10, 3))
"""Dash pattern of each series, so that colour is never the only difference."""

_INK, _FAINT = "#010101", "#020202"
_PLACEHOLDERS = {f"#0303{index:02x}": f"var(--series-{index + 1})" for index in range(SERIES)}
_RC: Any = {
    "font.size": 10.5,
    "svg.fonttype": "none",  # letters stay letters: small, searchable, in the reader's font
    "svg.hashsalt": "doorward",  # the same chart gives the same bytes
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _FAINT,
    "xtick.color": _FAINT,
    "ytick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
    "axes.unicode_minus": True,
}
STANDALONE_STYLE = """
svg { color: #1d2025; --faint: #b9bbc0; --series-1: #0f5fa8; --series-2: #b4540a;
  --series-3: #1a7a4c; --series-4: #8a3a9c; --series-5: #a31f3d; --series-6: #5f6368; }
@media (prefers-color-scheme: dark) { svg { color: #e4e5e8; --faint: #5a5e67;
  --series-1: #7cb8f2; --series-2: #f0a45d; --series-3: #6fd3a0; --series-4: #d79be6;
  --series-5: #f58aa2; --series-6: #a9adb5; } }
"""
"""Colours for a chart that stands in a file of its own."""


def draw(block: Curve | Dots, *, prefix: str, width: float = 7.2) -> str:
    """Draw a chart block.

    Args:
        block: what to draw.
        prefix: put before every identifier; must differ between the charts of a page.
        width: width in inches; 7.2 suits a page, 3.9 a phone.

    Returns:
        An ``<svg>`` element that scales to its container.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with mpl.rc_context(_RC), warnings.catch_warnings():
        # Only the measuring font lacks those letters; the reader's browser has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        height = _height(block, width)
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        _dress(axes)
        if isinstance(block, Curve):
            _draw_curve(axes, block)
        else:
            _draw_dots(axes, block, width)
        return _to_page(_render(figure), prefix)


def standalone(svg: str, title: str) -> str:
    """A chart from `draw` as the text of an SVG file with its own light and dark colours."""
    from markupsafe import escape

    head, rest = svg.split(">", 1)
    return f"{head}><title>{escape(title)}</title><style>{STANDALONE_STYLE}</style>{rest}\n"


def _height(block: Curve | Dots, width: float) -> float:
    if isinstance(block, Curve):
        return max(2.5, 0.46 * width)
    return 0.75 + 0.36 * len(block.values)


def _dress(axes: Axes) -> None:
    axes.patch.set_alpha(0)
    axes.figure.patch.set_alpha(0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, pad=5)
    axes.set_axisbelow(True)


def _draw_curve(axes: Axes, block: Curve) -> None:
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
    axes.grid(axis="y", color=_FAINT, linewidth=0.6)
    axes.set_xlabel(printable(block.x))
    axes.set_ylabel(printable(block.y))
    _whole_steps(axes, [float(x) for xs, _ in block.series.values() for x in xs])


def _draw_dots(axes: Axes, block: Dots, width: float) -> None:
    labels = list(block.values)
    for index, label in enumerate(labels):
        values = [float(v) for v in block.values[label] if is_drawable(v)]
        if not values:
            continue
        colour = _colour(0)
        axes.plot(values, [index] * len(values), "o", color=colour, alpha=0.45, markersize=6)
        mean = sum(values) / len(values)
        axes.plot([mean], [index], "|", color=colour, markersize=15, markeredgewidth=2.4)
    axes.set_yticks(
        range(len(labels)), [_shorten(printable(label), int(7 * width)) for label in labels]
    )
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.margins(x=0.08)
    axes.grid(axis="x", color=_FAINT, linewidth=0.6)
    axes.set_xlabel(printable(block.x))
    axes.locator_params(axis="x", nbins=max(3, int(width)))


def _whole_steps(axes: Axes, xs: Sequence[float]) -> None:
    from matplotlib.ticker import MaxNLocator

    if all(x == int(x) for x in xs):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def _colour(index: int) -> str:
    return list(_PLACEHOLDERS)[index % SERIES]


def _shorten(label: str, room: int) -> str:
    return label if len(label) <= room else label[: room - 1] + "…"


def _render(figure: Figure) -> str:
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None}
    figure.savefig(buffer, format="svg", metadata=metadata)
    return buffer.getvalue().decode()


def _to_page(document: str, prefix: str) -> str:
    svg = document[document.index("<svg") :].rstrip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # The width and height in points go; viewBox stays, so that the chart fills its container.
    head, rest = svg.split(">", 1)
    head = re.sub(r'\s(width|height)="[^"]*"', "", head)
    svg = f"{head}>{rest}"
    svg = re.sub(r'\sid="([^"]+)"', rf' id="{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"font: ?([\d.]+px)[^;\"]*", r"font-size: \1; font-family: inherit", svg)
    svg = svg.replace(_INK, "currentColor").replace(_FAINT, "var(--faint)")
    for placeholder, variable in _PLACEHOLDERS.items():
        svg = svg.replace(placeholder, variable)
    return svg
