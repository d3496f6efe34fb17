"""Named things of one kind: architectures, data sets, triggers, methods, studies.

>>> SHAPES: Registry[type] = Registry("shape")
>>> @SHAPES.register("square", corners=4)
... class Square: "Four equal sides."
>>> SHAPES.names(), SHAPES.facts("square")
(['square'], {'corners': 4})
>>> SHAPES["sqare"]
Traceback (most recent call last):
doorward.errors.UnknownName: no shape is called 'sqare'. Did you mean 'square'? Known: square.

The README and docs tables and the table-driven tests walk these registries, so what is
registered is documented and tested.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from doorward.errors import InvalidInput, UnknownName

__all__ = ["Registry"]

T = TypeVar("T")
U = TypeVar("U")


class Registry(Generic[T]):
    """A name -> object table that refuses duplicates and explains unknown names.

    Args:
        kind: what the entries are, in the singular, for messages ("architecture").
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, T] = {}
        self._facts: dict[str, dict[str, Any]] = {}

    def register(self, name: str, **facts: Any) -> Callable[[U], U]:
        """Decorator that files a class or function under `name`, with `facts` for tables."""

        def file(entry: U) -> U:
            if name in self._entries:
                raise InvalidInput(f"a {self.kind} called {name!r} is registered already")
            self._entries[name] = entry  # type: ignore[assignment]
            self._facts[name] = facts
            return entry

        return file

    def names(self) -> list[str]:
        """All names, sorted."""
        return sorted(self._entries)

    def facts(self, name: str) -> dict[str, Any]:
        """What was said of the entry at registration (paper, year, access it needs, ...)."""
        self[name]
        return dict(self._facts[name])

    def summary(self, name: str) -> str:
        """First line of the entry's docstring."""
        return (inspect.getdoc(self[name]) or "").partition("\n")[0]

    def __getitem__(self, name: str) -> T:
        try:
            return self._entries[name]
        except KeyError:
            raise UnknownName.of(self.kind, name, self._entries) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __len__(self) -> int:
        return len(self._entries)
