"""The blocks a report is made of: small frozen values that check themselves.

>>> Table(["method", "accuracy"], [["unmarked", 0.981], ["marked", 0.979]]).caption
''
>>> Table(["method", "accuracy"], [["unmarked"]])
Traceback (most recent call last):
doorward.errors.InvalidInput: row 0 of the table has 1 cells: there are 2 columns
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from doorward.errors import InvalidInput

__all__ = [
    "Block",
    "Code",
    "Note",
    "Number",
    "Numbers",
    "Picture",
    "Table",
    "Text",
    "Verdict",
]


class Block:
    """Base of all blocks; `kind` names the macro in ``templates/blocks.html`` that draws it."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Text(Block):
    """Plain paragraphs, parted by blank lines.

    Two marks are understood, ``**strong**`` and `` `code` ``; everything else is shown as typed.
    """

    text: str
    kind: ClassVar[str] = "text"

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs, without blank ones."""
        return [part.strip() for part in re.split(r"\n\s*\n", self.text) if part.strip()]


@dataclass(frozen=True)
class Note(Text):
    """A paragraph set apart: a limit, a caution, what a number does not say."""

    kind: ClassVar[str] = "note"


@dataclass(frozen=True)
class Number:
    """One key figure: what it is, its value (see `format_value`), and a few words below it."""

    label: str
    value: Any
    note: str = ""


@dataclass(frozen=True, init=False)
class Numbers(Block):
    """A row of key figures."""

    items: tuple[Number, ...]
    kind: ClassVar[str] = "numbers"

    def __init__(self, *items: Number) -> None:
        object.__setattr__(self, "items", tuple(items))


@dataclass(frozen=True)
class Table(Block):
    """A table; its first column names the rows, columns of numbers are aligned right.

    Args:
        columns: the column titles.
        rows: one sequence of cells per row; strings, numbers, truth values or None.
        caption: what the table shows.
        note: small print below it.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    note: str = ""
    kind: ClassVar[str] = "table"

    def __post_init__(self) -> None:
        for index, row in enumerate(self.rows):
            if len(row) != len(self.columns):
                raise InvalidInput(
                    f"row {index} of the table has {len(row)} cells",
                    why=f"there are {len(self.columns)} columns",
                )

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether its cells read as numbers."""
        return [
            any(_is_number(row[column]) for row in self.rows)
            and all(row[column] is None or _is_number(row[column]) for row in self.rows)
            for column in range(len(self.columns))
        ]


@dataclass(frozen=True)
class Picture(Block):
    """A PNG inside the page.

    Args:
        png: the bytes of the file.
        alt: what is to be seen, for those who cannot see it; never empty.
        caption: the line below.
        pixelated: keep hard pixel edges when enlarged (small images, trigger grids).
        width: width on the page in CSS pixels (shrinks on small screens); None for its own size.
    """

    png: bytes = field(repr=False)
    alt: str
    caption: str = ""
    pixelated: bool = True
    width: int | None = None
    kind: ClassVar[str] = "picture"

    def __post_init__(self) -> None:
        if not self.png.startswith(b"\x89PNG\r\n\x1a\n"):
            raise InvalidInput("a picture's bytes are not a PNG", remedy="use Picture.of(image)")
        if not self.alt.strip():
            raise InvalidInput(
                "a picture has no description", remedy="say in `alt` what there is to see"
            )

    @classmethod
    def of(cls, image: Any, alt: str, caption: str = "", **options: Any) -> Self:
        """From a `PIL.Image` (such as `doorward.data.grid` draws)."""
        buffer = io.BytesIO()
        image.save(buffer, format="PNG", optimize=True)
        return cls(buffer.getvalue(), alt, caption, **options)

    @property
    def uri(self) -> str:
        """The picture as a ``data:`` address."""
        return "data:image/png;base64," + base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Verdict(Block):
    """A question answered yes or no.

    Args:
        question: in plain words, with its question mark.
        answer: yes or no.
        good: whether that answer is the one hoped for; by default, yes is. "Does a stranger's
            key open it?" hopes for no.
        detail: the evidence in a few words.
    """

    question: str
    answer: bool
    good: bool | None = None
    detail: str = ""
    kind: ClassVar[str] = "verdict"

    @property
    def welcome(self) -> bool:
        """Whether the answer is the one hoped for."""
        return self.answer if self.good is None else self.good


@dataclass(frozen=True)
class Code(Block):
    """Commands or code to copy."""

    text: str
    caption: str = ""
    kind: ClassVar[str] = "code"


_NUMBER = re.compile(
    r"^([<>~+-]\s?|[\u2212\u2264\u2265\u2248]\s?)?[\d.,\u202f]+([eE][+-]?\d+)?"
    r"[\u207b\u2070\u00b9\u00b2\u00b3\u2074-\u2079\u00b7]*"  # a power: superscript signs
    r"(\s?(%|s|ms|MiB|GiB|x|\u00d7))?( \u00b1.*)?$|^\u2013$"  # a unit, a spread, or a dash
)


def _is_number(value: Any) -> bool:
    if isinstance(value, str):
        return bool(_NUMBER.match(value))
    return isinstance(value, int | float) and not isinstance(value, bool)
