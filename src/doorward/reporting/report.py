"""The report itself: sections of blocks, rendered by a template into one HTML file.

>>> from doorward.reporting.blocks import Text
>>> report = Report("A title")
>>> _ = report.section("First", Text("Some **plain** words & a `<tag>`."))
>>> "<strong>plain</strong> words &amp; a <code>&lt;tag&gt;</code>" in report.html()
True
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from doorward import files
from doorward.reporting.blocks import Block
from doorward.reporting.charts import draw
from doorward.reporting.drawing import DASHES, MARKERS, SERIES
from doorward.reporting.numerals import format_value, printable
from doorward.reporting.plots import Chart, Curve, Scatter

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

__all__ = ["Report", "Section"]


@dataclass(frozen=True)
class Section:
    """A titled part of a report.

    Args:
        title: the heading.
        blocks: what it shows, in order.
        summary: one or two sentences in plain words, set under the heading.
    """

    title: str
    blocks: tuple[Block, ...]
    summary: str = ""


class Report:
    """A report in the making.

    Args:
        title: the heading of the page.
        subtitle: one sentence in plain words under it.
        made: when the results were made; now by default.
    """

    def __init__(self, title: str, subtitle: str = "", *, made: datetime | None = None) -> None:
        self.title, self.subtitle = title, subtitle
        self.made = made or datetime.now(UTC)
        self.sections: list[Section] = []

    def add(self, *sections: Section) -> Self:
        """Append sections."""
        self.sections.extend(sections)
        return self

    def section(self, title: str, *blocks: Block, summary: str = "") -> Self:
        """Append a section made on the spot."""
        return self.add(Section(title, blocks, summary))

    def html(self, package: str | None = None, **names: Any) -> str:
        """The page as text: valid without network, scripts or any other file.

        Args:
            package: one whose ``templates/page.html`` is the frame of the page instead (it can
                use the templates of this package); for services that show reports among links.
            names: what that frame needs besides ``report`` and ``runs``.
        """
        frame = _templates(package).get_template("page.html" if package else "report.html")
        runs = [list(_runs(section.blocks)) for section in self.sections]
        return printable(frame.render(report=self, runs=runs, **names))

    def write(self, path: str | os.PathLike[str]) -> Path:
        """Write the page to `path` atomically and return that path.

        Raises:
            StorageFailed: the file system refused; an older file is left as it was.
        """
        path = Path(path)
        files.write_text(path, self.html())
        return path


def _runs(blocks: Iterable[Block]) -> Iterable[tuple[str, list[Block]]]:
    """Consecutive blocks of one kind, so that verdicts and pictures can be set side by side."""
    run: list[Block] = []
    for block in blocks:
        if run and block.kind != run[0].kind:
            yield run[0].kind, run
            run = []
        run.append(block)
    if run:
        yield run[0].kind, run


@functools.cache
def _templates(package: str | None = None) -> Environment:
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    packages = (package, "doorward.reporting") if package else ("doorward.reporting",)
    templates = Environment(
        loader=ChoiceLoader([PackageLoader(name, "templates") for name in packages]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(inline=_inline, show=format_value, slug=_slug)
    templates.globals.update(chart=_chart, legend=_legend, version=_version)
    return templates


def _inline(text: str) -> Markup:
    """Escape a text, then honour its two marks."""
    from markupsafe import Markup, escape

    safe = str(escape(text))
    safe = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", safe)
    safe = re.sub(r"\*\*([^*\n]+)\*\*", r"<strong>\1</strong>", safe)
    return Markup(safe)  # noqa: S704 - escaped above


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "section"


def _chart(block: Chart, prefix: str, *, narrow: bool = False) -> Markup:
    from markupsafe import Markup

    # Matplotlib escapes every text it writes into an SVG (tested with hostile names).
    return Markup(draw(block, prefix=prefix, width=3.9 if narrow else 7.2))  # noqa: S704


def _legend(block: Curve | Scatter) -> list[tuple[str, int, str]]:
    """Name, colour, and dashes or marker of every series or group."""
    if isinstance(block, Scatter):
        return [
            (name, index % SERIES + 1, MARKERS[index % len(MARKERS)][1])
            for index, name in enumerate(block.groups)
        ]
    return [
        (name, index % SERIES + 1, " ".join(str(d) for d in DASHES[index % len(DASHES)]))
        for index, name in enumerate(block.series)
    ]


def _version() -> str:
    import doorward

    return doorward.__version__
