"""How docstrings become pages: examples as code blocks. A griffe extension, used by mkdocstrings.

>>> fenced("Adds:\\n\\n>>> 1 + 1\\n2\\n\\nDone.")
'Adds:\\n\\n```pycon\\n>>> 1 + 1\\n2\\n```\\n\\nDone.'
"""

from __future__ import annotations

import re
from typing import Any

import griffe


class Examples(griffe.Extension):
    """Puts doctests and literal blocks of all docstrings into fences."""

    def on_object(self, *, obj: griffe.Object, **_context: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """A docstring with each doctest in a fence, and ``::`` before an indented block as ``:``."""
    text = re.sub(r"(?m)^(\s*)::$\n?", "", text)
    text = re.sub(r"::(?=\n\n +)", ":", text)
    lines: list[str] = []
    indent: str | None = None  # of the doctest that we are in
    for line in text.split("\n"):
        start = re.match(r"( *)>>> ", line)
        if indent is None and start:
            indent = start[1]
            lines.append(f"{indent}```pycon")
        elif indent is not None and not line.strip():
            lines.append(f"{indent}```")
            indent = None
        lines.append(line)
    if indent is not None:
        lines.append(f"{indent}```")
    return "\n".join(lines)
