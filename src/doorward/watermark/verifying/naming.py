"""What to write down about a suspect and about cover images, whatever they are.

>>> from doorward.models import as_black_box
>>> def rival(images): return images
>>> name_of(rival, as_black_box(rival)), describe(as_black_box(rival))
('named:rival', {'kind': 'callable', 'name': 'rival'})
"""

from __future__ import annotations

import os
from typing import Any

from doorward.bundles.documents import canonical, parse_object
from doorward.data import ImageSource
from doorward.errors import BadFile, InvalidInput
from doorward.models import BlackBox

__all__ = ["describe", "name_of", "source_of"]

_LONGEST = 4096
"""Bytes of JSON that a suspect may say of itself; the rest is not written down."""


def name_of(suspect: Any, box: BlackBox, name: str | None = None) -> str:
    """The name of a suspect (`suspect_id`).

    Args:
        suspect: what was given to `verify`.
        box: the same, opened.
        name: what to call a function or a black box of your own; by default as it calls itself.
    """
    # Disputes build on verifications, and not the other way round, but for this one name.
    from doorward.watermark.disclosure.suspects import suspect_id

    # A bundle is named by its card, a factory by the module that it made just now.
    is_folder = isinstance(suspect, str | os.PathLike) and os.path.isdir(suspect)
    try:
        return suspect_id(suspect if is_folder else box)
    except InvalidInput:
        own = str(describe(box).get("name") or type(box).__name__)
        return suspect_id(box, name=name or _line(own))


def describe(box: BlackBox) -> dict[str, Any]:
    """What a suspect says of itself, as JSON that can be signed: a stranger may say anything."""
    said = box.describe()
    try:
        content = canonical(said, "the description")
        if len(content) <= _LONGEST:
            return parse_object(content, "the description")
    except (InvalidInput, BadFile):
        pass
    return {"kind": str(said.get("kind"))[:100], "unreadable": True}


def source_of(covers: ImageSource | None) -> str | None:
    """Name and content of cover images, None for look-alikes."""
    if covers is None:
        return None
    digest = getattr(covers, "digest", None)
    content = f"sha256:{digest()}" if callable(digest) else f"{len(covers)} images"
    return f"{_line(covers.name)} {content}"


def _line(text: str) -> str:
    """The beginning of a text, without what a terminal would not show as it is."""
    return "".join(sign if sign.isprintable() else "?" for sign in text[:200])
