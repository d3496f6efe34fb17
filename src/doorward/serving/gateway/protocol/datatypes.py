"""Names of element types on the wire, and the NumPy types (little-endian) that they are.

>>> DATATYPES["FP32"].itemsize, name_of(DATATYPES["INT64"])
(4, 'INT64')
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["DATATYPES", "name_of"]

DATATYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}

_NAMES = {dtype: name for name, dtype in DATATYPES.items()}


def name_of(dtype: np.dtype[Any]) -> str:
    """The protocol's name of a NumPy type."""
    return _NAMES[dtype.newbyteorder("<")]
