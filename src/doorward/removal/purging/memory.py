"""Steps of a purge that are done, kept on disk, so that a killed purge goes on where it was.

A purge is a fixed sequence of scans and repairs; each is made once and read back afterwards::

    memory = Memory(folder, {"seed": 0, ...})
    verdict, recovered = memory.scanned("00-scan", lambda: scan(model, clean))
    repaired, facts = memory.repaired("01-unlearn", model, lambda: unlearn(model, ...))

Without a folder everything is simply made.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from doorward.bundles.weights import module_weights, read_weights, write_weights
from doorward.errors import BadFile, IntegrityError, InvalidInput
from doorward.files import (
    atomic_folder,
    canonical_json,
    read_json,
    sha256_file,
    write_json,
)
from doorward.removal.base import RemovalResult
from doorward.scanning import RECOVERED, Recovered, ScanResult, load_recovered, save_recovered

__all__ = ["Memory", "weights_digest"]

SCHEMA = "doorward-purge/1"
_HEAD, _RESULT, _WEIGHTS, _TRIGGERS = (
    "purge.json",
    "result.json",
    "model.safetensors",
    "recovered",
)


class Memory:
    """The folder of one purge.

    Args:
        folder: None to keep nothing.
        call: everything that decides what the purge does, JSON-ready.

    Raises:
        InvalidInput: the folder holds another purge, or something else.
        StorageFailed: it cannot be written.
    """

    def __init__(self, folder: Path | None, call: dict[str, Any]) -> None:
        self.folder = folder
        if folder is None:
            return
        head = {"schema": SCHEMA, "call": hashlib.sha256(canonical_json(call)).hexdigest()}
        if (folder / _HEAD).is_file():
            if read_json(folder / _HEAD) != head:
                raise InvalidInput(
                    f"{folder} holds another purge",
                    why="model, images, seed or parameters differ",
                    remedy="choose another folder, or delete that one",
                )
        elif folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise InvalidInput(
                f"{folder} holds something that is not a purge", remedy="choose an empty folder"
            )
        else:
            write_json(folder / _HEAD, head)

    def scanned(
        self, name: str, make: Callable[[], tuple[ScanResult, dict[int, Recovered]]]
    ) -> tuple[ScanResult, dict[int, Recovered]]:
        """A scan, made or read back."""
        place = self._place(name)
        if place is not None and place.is_dir():
            return self._read_scan(place)
        verdict, recovered = make()
        # Triggers of a kind that is not registered cannot be read back: that scan is made again.
        kinds = {RECOVERED[kind] for kind in RECOVERED}
        if place is not None and all(type(found) in kinds for found in recovered.values()):
            with atomic_folder(place) as temporary:
                for target, found in recovered.items():
                    save_recovered(found, temporary / _TRIGGERS / str(target))
                write_json(temporary / _RESULT, verdict.to_dict())
        return verdict, recovered

    def repaired(
        self,
        name: str,
        model: nn.Module,
        make: Callable[[], tuple[nn.Module, RemovalResult]],
    ) -> tuple[nn.Module, RemovalResult]:
        """A repair of `model`, made or read back."""
        place = self._place(name)
        if place is not None and place.is_dir():
            return self._read_repair(place, model)
        repaired, result = make()
        # A method may put other layers into a model; weights alone would not bring them back.
        if place is not None and _built(repaired) == _built(model):
            with atomic_folder(place) as temporary:
                write_weights(temporary / _WEIGHTS, module_weights(repaired))
                digest = sha256_file(temporary / _WEIGHTS)
                content = {"sha256": digest, "result": result.to_dict()}
                write_json(temporary / _RESULT, content)
        return repaired, result

    def _place(self, name: str) -> Path | None:
        return None if self.folder is None else self.folder / name

    def _read_scan(self, place: Path) -> tuple[ScanResult, dict[int, Recovered]]:
        try:
            verdict = ScanResult.from_dict(read_json(place / _RESULT))
            folders = place / _TRIGGERS
            found = sorted(folders.iterdir()) if folders.is_dir() else []
            return verdict, {int(folder.name): load_recovered(folder) for folder in found}
        except (TypeError, ValueError) as error:
            raise _damaged(place, str(error)) from error

    def _read_repair(self, place: Path, model: nn.Module) -> tuple[nn.Module, RemovalResult]:
        try:
            content = read_json(place / _RESULT)
            result, digest = RemovalResult.from_dict(content["result"]), content["sha256"]
            if not (place / _WEIGHTS).is_file() or sha256_file(place / _WEIGHTS) != digest:
                raise IntegrityError(
                    f"the weights in {place} were changed or damaged after they were saved",
                    remedy="delete that folder: the step is then done again",
                )
            repaired = copy.deepcopy(model)
            repaired.load_state_dict(read_weights(place / _WEIGHTS))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise _damaged(place, str(error)) from error
        return repaired, result


def weights_digest(model: nn.Module) -> str:
    """Hex SHA-256 over the names, shapes and values of a model's state."""
    state = hashlib.sha256()
    for name, tensor in sorted(module_weights(model).items()):
        values = tensor.detach().cpu().contiguous()
        state.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        state.update(values.reshape(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()


def _built(model: nn.Module) -> list[Any]:
    layers: list[Any] = [(name, type(module)) for name, module in model.named_modules()]
    return layers + [(name, value.shape, value.dtype) for name, value in model.state_dict().items()]


def _damaged(place: Path, why: str) -> BadFile:
    return BadFile(
        f"the step of a purge in {place} cannot be read",
        why=why.partition("\n")[0],
        remedy="delete that folder: the step is then done again",
    )
