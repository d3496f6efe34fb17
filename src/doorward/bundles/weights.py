"""Weights on disk: safetensors, checked before anything is believed; pickles are refused.

>>> import tempfile, pathlib, torch
>>> path = pathlib.Path(tempfile.mkdtemp()) / "w.safetensors"
>>> write_weights(path, {"head.weight": torch.eye(2)})
>>> read_shapes(path)
{'head.weight': (2, 2)}
>>> read_weights(path)["head.weight"]
tensor([[1., 0.], [0., 1.]])
"""

from __future__ import annotations

import errno
import math
import os
import re
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from doorward.bundles.documents import parse_object
from doorward.errors import BadFile, MissingData, ModelUnsuitable, UnsafeFile

__all__ = [
    "check_finite",
    "convert_command",
    "is_pickle",
    "mismatches",
    "module_weights",
    "read_shapes",
    "read_weights",
    "refuse_pickle",
    "write_weights",
]

_DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL"}
_MAX_HEADER = 64 * 2**20
_PICKLE_SUFFIXES = {".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt", ".tar", ".joblib"}


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, bare or in PyTorch's ZIP, whatever its name says."""
    try:
        with path.open("rb") as stream:
            start = stream.read(12)
    except OSError:
        return False
    # A safetensors header of 640 bytes begins like a pickle of protocol 2, but goes on with "{".
    bare = re.match(rb"\x80[\x00-\x05]", start) and start[8:9] != b"{"
    return bool(bare or start.startswith(b"PK\x03\x04"))


def convert_command(path: Path, architecture: str = "ARCHITECTURE") -> str:
    """The command that turns a foreign checkpoint into a bundle."""
    bundle = path.with_suffix(".model")
    return f"doorward convert {path} --arch {architecture} --classes N --out {bundle}"


def refuse_pickle(path: Path) -> None:
    """Refuse a file that is, or by its name should be, a pickle.

    Raises:
        UnsafeFile: it is; the message holds the command that converts it.
    """
    if os.path.isfile(path) and (path.suffix.lower() in _PICKLE_SUFFIXES or is_pickle(path)):
        raise UnsafeFile(
            f"{path} is not a bundle but a pickle or another foreign checkpoint",
            why="a pickle runs whatever code its author put into it when it is read",
            remedy=f"run: {convert_command(path)}",
        )


def read_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a safetensors file, from its header alone.

    Raises:
        MissingData: there is no such file.
        UnsafeFile: it is a pickle.
        BadFile: it is truncated, or not safetensors.
    """
    if not path.is_file():
        raise MissingData(
            f"there is no file {path}", remedy="check the path, or get the bundle again"
        )
    try:
        with path.open("rb") as stream:
            size = path.stat().st_size
            length = struct.unpack("<Q", stream.read(8))[0] if size >= 8 else size
            if 8 + length > size or length > _MAX_HEADER:
                raise _bad(path, f"its header would end at byte {8 + length} of {size}")
            header = parse_object(stream.read(length), f"the header of {path}")
        header.pop("__metadata__", None)
        shapes, end = {}, 0
        for name, entry in header.items():
            if entry["dtype"] not in _DTYPES:
                raise _bad(path, f"{name} is of type {entry['dtype']}")
            shapes[name] = tuple(int(length) for length in entry["shape"])
            end = max(end, int(entry["data_offsets"][1]))
        if 8 + length + end != size:
            raise _bad(path, f"it has {size} bytes where {8 + length + end} are announced")
    except BadFile as error:
        if is_pickle(path):
            raise _disguised(path) from None
        raise error if str(path) in error.what else _bad(path, error.why) from error
    except (OSError, KeyError, TypeError, ValueError, IndexError) as error:
        raise _bad(path, f"{type(error).__name__}: {error}") from error
    return shapes


def read_weights(path: Path) -> dict[str, Tensor]:
    """Map a safetensors file into memory.

    Returns:
        Tensors by name that share the file's pages: copy them before the file may change.

    Raises:
        MissingData: there is no such file.
        UnsafeFile: it is a pickle.
        BadFile: it is truncated, or not safetensors.
    """
    read_shapes(path)
    try:
        return dict(load_file(path))
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise _bad(path, str(error)) from error


def write_weights(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write tensors as safetensors. Run it within `files.atomic_file` or `atomic_folder`.

    Raises:
        OSError: the disk is full or not writable.
    """
    seen: set[int] = set()
    tensors = {}
    for name, tensor in weights.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        # Tied weights are written once for each name: a reader need not know that they are tied.
        tensors[name] = tensor.clone() if place in seen else tensor
        seen.add(place)
    try:
        save_file(tensors, path)
    except SafetensorError as error:
        code = re.search(r"os error (\d+)", str(error))
        raise OSError(int(code[1]) if code else errno.EIO, str(error)) from error


def module_weights(model: nn.Module) -> dict[str, Tensor]:
    """The state of a module, as far as it can be stored.

    Raises:
        ModelUnsuitable: it keeps a state that is no tensor, or uninitialised or infinite weights.
    """
    state: dict[str, Any] = model.state_dict()
    other = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if other:
        raise ModelUnsuitable(
            f"the model keeps a state that is no tensor: {', '.join(other[:5])}",
            why="only tensors are stored, never pickles",
            remedy="keep it in a buffer, or as an option of the factory",
        )
    sparse = [
        name for name, value in state.items() if value.is_meta or value.layout != torch.strided
    ]
    if sparse:
        raise ModelUnsuitable(
            f"{sparse[0]} has no plain values",
            why=f"it is {state[sparse[0]].layout} on {state[sparse[0]].device}",
            remedy="materialise the model first",
        )
    check_finite(state, "the model")
    return state


def check_finite(weights: Mapping[str, Tensor], owner: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        ModelUnsuitable: the message names the tensors.
    """
    wrong = [name for name, value in weights.items() if not _is_finite(value)]
    if wrong:
        raise ModelUnsuitable(
            f"{owner} has NaN or infinite weights",
            why=_some(wrong),
            remedy="its training diverged: train again with a lower learning rate",
        )


def mismatches(
    expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """How two sets of named shapes differ, as phrases for a message; empty if they do not.

    >>> mismatches({"a": (1,), "b": (2,)}, {"a": (3,), "c": (2,)})
    ['missing: b', 'unexpected: c', 'of another shape: a (expected 1, found 3)']
    """
    shaped = [
        f"{name} (expected {_times(expected[name])}, found {_times(found[name])})"
        for name in expected
        if name in found and expected[name] != found[name]
    ]
    groups = {
        "missing": [name for name in expected if name not in found],
        "unexpected": [name for name in found if name not in expected],
        "of another shape": shaped,
    }
    return [f"{word}: {_some(names)}" for word, names in groups.items() if names]


def _is_finite(value: Tensor) -> bool:
    if not value.is_floating_point():
        return True
    # NaN and infinity survive a sum, which needs no memory; a sum may overflow, so look again.
    if math.isfinite(value.sum(dtype=torch.promote_types(value.dtype, torch.float32)).item()):
        return True
    return bool(torch.isfinite(value).all())


def _times(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape)) or "a scalar"


def _some(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _bad(path: Path, why: str) -> BadFile:
    return BadFile(
        f"{path} is not a whole safetensors file", why=why, remedy="get it again from its source"
    )


def _disguised(path: Path) -> UnsafeFile:
    return UnsafeFile(
        f"{path} is a pickle that pretends to be safetensors",
        why="a pickle runs whatever code its author put into it when it is read",
        remedy=f"do not trust its source; if you must: {convert_command(path)}",
    )
