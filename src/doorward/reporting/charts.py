"""Charts as SVG that takes its colours from the page, so it reads in light and in dark.

Matplotlib draws with placeholder colours; they are exchanged for ``currentColor`` and the CSS
variables ``--series-1`` ... ``--series-6``, and its identifiers are made unique on the page.

>>> from doorward.reporting.plots import Curve
>>> svg = draw(Curve({"loss": ([1, 2], [2.0, 1.0])}, x="epoch", y="loss"), prefix="c1")
>>> svg.startswith("<svg") and "currentColor" in svg and "var(--series-1)" in svg
True
"""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

from doorward.reporting.drawing import FAINT, INK, PLACEHOLDERS, height_of, paint
from doorward.reporting.plots import Chart

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["STANDALONE_STYLE", "draw", "standalone"]

_RC: Any = {
    "font.size": 10.5,
    "svg.fonttype": "none",  # letters stay letters: small, searchable, in the reader's font
    "svg.hashsalt": "doorward",  # the same chart gives the same bytes
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
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


def draw(block: Chart, *, prefix: str, width: float = 7.2) -> str:
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
        figure = Figure(figsize=(width, height_of(block, width)), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot(), block, width)
        return _to_page(_render(figure), prefix)


def standalone(svg: str, title: str) -> str:
    """A chart from `draw` as the text of an SVG file with its own light and dark colours."""
    from markupsafe import escape

    head, rest = svg.split(">", 1)
    return f"{head}><title>{escape(title)}</title><style>{STANDALONE_STYLE}</style>{rest}\n"


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
    svg = svg.replace(INK, "currentColor").replace(FAINT, "var(--faint)")
    for placeholder, variable in PLACEHOLDERS.items():
        svg = svg.replace(placeholder, variable)
    return svg
