"""Checkpoints on disk: one safetensors file of state, one JSON file that commits to it.

>>> import tempfile, torch
>>> folder = Path(tempfile.mkdtemp()) / "run"
>>> write_checkpoint(folder, {"step": 3}, {"model": {"weight": torch.ones(2)}, "note": [1, None]})
>>> header, state = read_checkpoint(folder)
>>> header["step"], state
(3, {'model': {'weight': tensor([1., 1.])}, 'note': [1, None]})

The state goes to a file of a new name first; the JSON then replaces the old JSON in one rename,
and the old state is deleted. Whatever happens in between, power failure included, the folder holds
one whole checkpoint: the old or the new. Nothing is pickled.
"""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from doorward.data import ImageSource
from doorward.errors import BadFile, InvalidInput
from doorward.files import atomic_file, canonical_json, read_json, write_json

__all__ = [
    "fingerprint_data",
    "fingerprint_model",
    "has_checkpoint",
    "read_checkpoint",
    "require_same",
    "write_checkpoint",
]

FORMAT = "doorward-checkpoint-1"
HEADER = "checkpoint.json"


def has_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a checkpoint."""
    return (folder / HEADER).is_file()


def write_checkpoint(folder: Path, header: Mapping[str, Any], state: Mapping[str, Any]) -> None:
    """Replace the folder's checkpoint.

    Args:
        folder: made if missing.
        header: JSON-ready facts: step, recipe, fingerprints, history.
        state: nested dicts (string keys), lists and tuples of tensors and JSON values.

    Raises:
        InvalidInput: the state holds something else.
        StorageFailed: the disk is full or refuses; the previous checkpoint is intact.
    """
    tensors: dict[str, Tensor] = {}
    layout = _pack(state, "", tensors)
    name = f"state-{uuid.uuid4().hex[:12]}.safetensors"
    try:
        with atomic_file(folder / name) as temporary:
            try:
                save_file(tensors, temporary)
            except SafetensorError as error:  # it wraps the operating system's error as text
                raise OSError(str(error)) from error
        write_json(folder / HEADER, {"format": FORMAT, **header, "state": name, "layout": layout})
    except BaseException:
        (folder / name).unlink(missing_ok=True)
        raise
    # The state before, and what a killed process left half-written.
    for pattern in ("state-*.safetensors", ".state-*.safetensors.*", f".{HEADER}.*"):
        for stale in folder.glob(pattern):
            if stale.name != name:
                stale.unlink(missing_ok=True)


def read_checkpoint(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and state of the folder's checkpoint, tensors on the CPU.

    Raises:
        MissingData: there is none.
        BadFile: it is truncated, corrupt, or not a checkpoint of this format.
    """
    header = read_json(folder / HEADER)
    remedy = "delete the folder, or pass resume=False, to begin again"
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise BadFile(
            f"{folder / HEADER} is not a checkpoint of the format {FORMAT}", remedy=remedy
        )
    path = folder / Path(str(header.get("state"))).name
    try:
        tensors = load_file(path)
        state = _unpack(header["layout"], tensors)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadFile(
            f"the checkpoint's state {path} cannot be read", why=str(error), remedy=remedy
        ) from error
    return header, state


def fingerprint_model(model: nn.Module) -> str:
    """Hex SHA-256 over names, shapes and types of the weights, and what of them is trained."""
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    entries = [
        [name, list(tensor.shape), str(tensor.dtype), name in trained]
        for name, tensor in model.state_dict().items()
    ]
    return hashlib.sha256(canonical_json(entries)).hexdigest()


def fingerprint_data(source: ImageSource) -> str:
    """Hex SHA-256 over a set's name, classes, image shape, all labels and 16 of its images."""
    facts = [source.name, list(source.classes), list(source.image_shape), len(source)]
    state = hashlib.sha256(canonical_json(facts))
    state.update(source.labels.cpu().numpy().astype("<i8").tobytes())
    some = torch.linspace(0, len(source) - 1, min(len(source), 16)).long()
    state.update(source.fetch(some)[0].cpu().contiguous().numpy().tobytes())
    return state.hexdigest()


def require_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Compare what a checkpoint was begun with and what `fit` is called with now.

    Args:
        folder: for the message.
        before: the checkpoint's header.
        now: the same facts of this call: ``recipe`` (a dict) and further names.

    Raises:
        InvalidInput: they differ; the message says in what.
    """
    differences = [
        f"{field}: {before.get('recipe', {}).get(field)!r} then, {value!r} now"
        for field, value in now["recipe"].items()
        if before.get("recipe", {}).get(field) != value
    ]
    differences += [
        f"another {name.replace('_', ' ')}"
        for name, value in now.items()
        if name != "recipe" and before.get(name) != value
    ]
    if differences:
        raise InvalidInput(
            f"the checkpoint in {folder} belongs to another run",
            why="; ".join(differences),
            remedy="repeat the call it was begun with, choose another folder, or pass "
            "resume=False to overwrite it",
        )


def _pack(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        copy = value.detach().to("cpu", copy=True).contiguous()  # tied weights become two copies
        name = path
        while name in tensors:
            name += "'"
        tensors[name] = copy
        return {"tensor": name}
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise InvalidInput(
                f"the state {path or 'given'} has the key {wrong[0]!r}",
                why="checkpoints keep dicts with string keys",
            )
        prefix = f"{path}/" if path else ""
        return {"dict": {key: _pack(item, prefix + key, tensors) for key, item in value.items()}}
    if isinstance(value, list | tuple):
        items = [_pack(item, f"{path}/{i}", tensors) for i, item in enumerate(value)]
        return {"tuple" if isinstance(value, tuple) else "list": items}
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": str(value)}  # JSON has no infinity
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise InvalidInput(
        f"the state {path} is a {type(value).__name__}",
        why="checkpoints keep tensors, numbers, strings, lists and dicts",
    )


def _unpack(layout: Any, tensors: Mapping[str, Tensor]) -> Any:
    ((kind, content),) = layout.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {key: _unpack(item, tensors) for key, item in content.items()}
    if kind in ("list", "tuple"):
        items = [_unpack(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "float":
        return float(content)
    if kind == "value":
        return content
    raise ValueError(f"unknown kind {kind!r} in the layout")
