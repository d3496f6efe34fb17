"""Finished parts of a hardening on disk, so that a killed one goes on where it was.

memory = Memory(folder, {"seed": 0, "model": weights_digest(model), ...})
outcome = guarded(method, model, work, held, context, memory)
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from doorward.errors import BadFile, InvalidInput
from doorward.files import canonical_json
from doorward.training.checkpoints import has_checkpoint, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from doorward.training.context import Context

__all__ = ["Memory"]


class Kept(Protocol):
    """What can be kept: JSON, and tensors."""

    def facts(self) -> dict[str, Any]: ...

    def tensors(self) -> dict[str, Any]: ...

    def load(self, facts: dict[str, Any], tensors: dict[str, Any]) -> None: ...


class Memory:
    """The folder of one hardening.

    Args:
        folder: made if missing.
        call: everything that decides what is done, JSON-ready.

    Raises:
        InvalidInput: the folder holds something else.
    """

    def __init__(self, folder: Path, call: dict[str, Any]) -> None:
        self.folder = folder
        self.call = hashlib.sha256(canonical_json(call)).hexdigest()
        if folder.is_file() or (
            folder.is_dir() and any(folder.iterdir()) and not has_checkpoint(folder)
        ):
            raise InvalidInput(
                f"{folder} holds something that is no hardening", remedy="choose an empty folder"
            )

    def resume(self, state: Kept, context: Context) -> None:
        """Take up the finished parts, if there are any.

        Raises:
            InvalidInput: they are of another hardening.
            BadFile: they cannot be read.
        """
        if not has_checkpoint(self.folder):
            return
        header, tensors = read_checkpoint(self.folder)
        if header.get("hardening") != self.call:
            raise InvalidInput(
                f"{self.folder} holds another hardening",
                why="model, images, seed or parameters differ",
                remedy="choose another folder, or delete that one",
            )
        try:
            state.load(header["facts"], tensors)
            context.history[:] = header["history"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise BadFile(
                f"the hardening in {self.folder} cannot be read",
                why=f"{type(error).__name__}: {error}".partition("\n")[0],
                remedy="delete that folder to begin again",
            ) from error

    def save(self, state: Kept, context: Context) -> None:
        """Replace what is kept."""
        header = {"hardening": self.call, "facts": state.facts(), "history": context.history}
        write_checkpoint(self.folder, header, state.tensors())
