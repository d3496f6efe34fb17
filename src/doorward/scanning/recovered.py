"""What a scan recovers for a class: a distribution of triggers, to look at, stamp and unlearn.

>>> import torch
>>> class Corner(Recovered):
...     def config(self): return {"target": self.target}
...     def stamp(self, images, draw):
...         marked = images.clone(); marked[..., :2, :2] = 1.0
...         return marked
...     def pictures(self, count, draw): return torch.ones(count, 3, 2, 2)
>>> found = Corner(target=4)
>>> found.stamp(torch.zeros(1, 3, 8, 8), torch.Generator())[0, 0, 1].tolist()
[1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]

A single inverted trigger is such a distribution, too: of one point. Register a subclass in
`RECOVERED`, and `save_recovered` and `load_recovered` keep it without pickles.
"""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingData
from doorward.files import atomic_folder, canonical_json, read_json, write_bytes, write_json
from doorward.registry import Registry

__all__ = ["RECOVERED", "Recovered", "load_recovered", "save_recovered"]

SCHEMA = "doorward-recovered/1"


class Recovered(nn.Module, ABC):
    """Triggers that send images to one class of the scanned model.

    Args:
        target: the class.
    """

    def __init__(self, target: int) -> None:
        super().__init__()
        if isinstance(target, bool) or not isinstance(target, int) or target < 0:
            raise InvalidInput(f"target is {target!r}", why="a class from 0 is expected")
        self.target = target

    @abstractmethod
    def stamp(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Put a trigger of its own on each image.

        Args:
            images: float (N, C, H, W) in [0, 1], on any device; N may be 0.
            draw: on the CPU; decides which triggers, and where they go.

        Returns:
            New images of the same shape and device, in [0, 1].
        """

    @abstractmethod
    def pictures(self, count: int, draw: torch.Generator) -> Tensor:
        """Triggers to look at, float (count, C, h, w) in [0, 1]; a point gives `count` equals.

        Where the trigger depends on the image, its change of a grey image.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON-ready builtins; tensors belong in `state_dict`."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build what `config` described.

        Raises:
            InvalidInput: an option is unknown or out of range.
        """
        try:
            return cls(**config)
        except TypeError as error:
            raise InvalidInput(
                f"{dict(config)!r:.200} does not describe a {cls.__name__}", why=str(error)
            ) from error


RECOVERED: Registry[type[Recovered]] = Registry("kind of recovered triggers")
"""All kinds by name."""


def save_recovered(recovered: Recovered, folder: str | os.PathLike[str]) -> None:
    """Write recovered triggers to a folder, whole or not at all.

    Raises:
        StorageFailed: the file system refused.
        InvalidInput: the class is not registered.
    """
    kind = next((name for name in RECOVERED if RECOVERED[name] is type(recovered)), None)
    if kind is None:
        raise InvalidInput(
            f"{type(recovered).__name__} is not a registered kind of recovered triggers",
            remedy="register the class in doorward.scanning.RECOVERED",
        )
    tensors = {name: t.detach().contiguous().cpu() for name, t in recovered.state_dict().items()}
    content = save_tensors(tensors)
    described = {"schema": SCHEMA, "kind": kind, "config": recovered.config()}
    with atomic_folder(folder) as temporary:
        write_bytes(temporary / "recovered.safetensors", content)
        sealed = {**described, "sha256": _digest(described, content)}
        write_json(temporary / "recovered.json", sealed)


def load_recovered(folder: str | os.PathLike[str]) -> Recovered:
    """Read what `save_recovered` wrote.

    Raises:
        MissingData: there is no such folder or file.
        BadFile: it is not a folder of recovered triggers.
        IntegrityError: the content was changed after it was saved.
    """
    folder = Path(folder)
    described = read_json(folder / "recovered.json")
    if not isinstance(described, dict) or described.get("schema") != SCHEMA:
        raise BadFile(f"{folder} does not hold recovered triggers", why=f"no schema {SCHEMA}")
    try:
        content = (folder / "recovered.safetensors").read_bytes()
    except FileNotFoundError:
        raise MissingData(
            f"there is no file {folder / 'recovered.safetensors'}", remedy="copy the whole folder"
        ) from None
    digest = described.pop("sha256", None)
    try:
        if digest != _digest(described, content):
            raise IntegrityError(
                f"the recovered triggers in {folder} were changed or damaged after they were saved",
                why="their content does not fit their digest",
                remedy="copy them again from their source",
            )
        recovered = RECOVERED[str(described["kind"])].from_config(described["config"])
        recovered.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError, TypeError, KeyError, ValueError) as error:
        raise BadFile(
            f"the recovered triggers in {folder} cannot be built", why=str(error)
        ) from error
    return recovered


def _digest(described: Mapping[str, Any], content: bytes) -> str:
    return hashlib.sha256(canonical_json(described) + b"\n" + content).hexdigest()
