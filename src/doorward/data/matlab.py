"""A reader for numeric matrices in MATLAB 5 files that damaged or hostile files cannot crash.

>>> import pathlib, tempfile
>>> from scipy.io import savemat
>>> path = pathlib.Path(tempfile.mkdtemp()) / "a.mat"
>>> savemat(path, {"y": np.array([[1, 2], [3, 4]], dtype=np.uint8)}, do_compression=True)
>>> read_matrices(path)["y"].tolist()
[[1, 2], [3, 4]]

SciPy's reader is compiled code that our fuzz test could make crash the interpreter, so files from
elsewhere are read with this one. It knows real numeric matrices and nothing else.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from doorward.data.registry import broken

__all__ = ["read_matrices"]

_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x0800
_DTYPES = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8"}


def read_matrices(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read all matrices of a MATLAB 5 (v6, v7) file.

    Args:
        path: the file, little-endian; matrices may be compressed.

    Returns:
        Arrays by name, in the number type they are stored in.

    Raises:
        BadFile: it is damaged, of another version, or holds other things than real matrices.
    """
    content = memoryview(path.read_bytes())
    if len(content) < _HEADER or bytes(content[124:128]) != b"\x00\x01IM":
        raise broken(path, "it is no little-endian MATLAB 5 file (version 7.3 is not read)")
    matrices: dict[str, np.ndarray[Any, Any]] = {}
    try:
        position = _HEADER
        while position < len(content):
            kind, body, after = _element(content, position)
            if kind == _COMPRESSED:
                kind, body, _ = _element(_inflated(body), 0)
                after = position + 8 + _number(content, position + 4)  # these are not padded
            if kind != _MATRIX:
                raise ValueError(f"an element of type {kind} where a matrix belongs")
            name, matrix = _matrix(body)
            matrices[name] = matrix
            position = after
    except (ValueError, zlib.error) as error:
        raise broken(path, str(error)) from error
    return matrices


def _matrix(body: memoryview) -> tuple[str, np.ndarray[Any, Any]]:
    _, flags, position = _element(body, 0)
    _, sizes, position = _element(body, position)
    _, name, position = _element(body, position)
    kind, values, _ = _element(body, position)
    word = _number(flags, 0)
    if word & 0xFF not in _NUMERIC_CLASSES or word & _COMPLEX or kind not in _DTYPES:
        raise ValueError("it holds something other than a matrix of real numbers")
    shape = np.frombuffer(sizes, "<i4").tolist()
    flat = np.frombuffer(values, _DTYPES[kind])
    if not shape or min(shape) < 0 or math.prod(shape) != flat.size:
        raise ValueError(f"a matrix of size {shape} has {flat.size} numbers")
    return bytes(name).decode("latin-1"), flat.reshape(shape, order="F")


def _element(content: memoryview, position: int) -> tuple[int, memoryview, int]:
    """Type and content of the element at `position`, and where the next one begins."""
    word = _number(content, position)
    if word >> 16:  # a small element: size and type share a word, up to 4 bytes follow
        kind, size, start, after = word & 0xFFFF, word >> 16, position + 4, position + 8
        if size > 4:
            raise ValueError(f"a small element of {size} bytes")
    else:
        kind, size, start = word, _number(content, position + 4), position + 8
        after = start + (size + 7) // 8 * 8
    body = content[start : start + size]
    if len(body) != size:
        raise ValueError("it ends within an element")
    return kind, body, after


def _inflated(body: memoryview) -> memoryview:
    """Decompress one element, to no more than the size that its own header declares."""
    start = zlib.decompressobj().decompress(body, 8)
    size = 8 + _number(memoryview(start), 4)
    return memoryview(zlib.decompressobj().decompress(body, size))


def _number(content: memoryview, position: int) -> int:
    word = content[position : position + 4]
    if len(word) != 4:
        raise ValueError("it ends within an element")
    return int.from_bytes(word, "little")
