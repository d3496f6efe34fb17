"""Inference requests out of bytes: JSON, or a JSON head with raw tensors behind it.

>>> import numpy as np
>>> pixels = np.array([0.25, 0.75], dtype="<f4").tobytes()
>>> head = (b'{"inputs": [{"name": "images", "shape": [1, 2], "datatype": "FP32",'
...         b' "parameters": {"binary_data_size": 8}}]}')
>>> read_request(head + pixels, header_length=len(head)).inputs["images"].tolist()
[[0.25, 0.75]]

Nothing here trusts its input: each field has its type checked before use, numbers are never made
of words, and a tensor never takes more memory than the body that brought it, times a constant.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from doorward.serving.gateway.protocol.datatypes import DATATYPES
from doorward.serving.gateway.refusals import Refusal

__all__ = ["Asked", "Request", "read_request"]

_LONGEST_NAME = 256
_MOST_TENSORS = 16
_MOST_AXES = 8
_FINE = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}  # kinds of JSON numbers that a kind takes


@dataclass(frozen=True)
class Asked:
    """An output that the client names; `binary` None leaves the form to the request's default."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True)
class Request:
    """A well-formed request, about which nothing else is known yet.

    Args:
        inputs: name -> array of the declared shape and type, read-only where it was binary.
        outputs: those asked for; empty for all.
        binary: whether outputs go out as bytes unless they say otherwise.
        id: the client's own name of the request.
    """

    inputs: dict[str, np.ndarray[Any, Any]]
    outputs: tuple[Asked, ...] = ()
    binary: bool = False
    id: str | None = None


def read_request(body: bytes, *, header_length: int | None = None) -> Request:
    """Read the body of ``POST .../infer``.

    Args:
        body: the whole of it, uncompressed.
        header_length: of the JSON at its start, when raw tensors follow it (the header
            ``Inference-Header-Content-Length``); None when all is JSON.

    Raises:
        Refusal: 400, it is malformed; the message says where.
    """
    if header_length is not None and not 0 < header_length <= len(body):
        raise _bad(f"the JSON is said to have {header_length} of {len(body)} bytes")
    head = body if header_length is None else body[:header_length]
    content = _json(head)
    tail = memoryview(body)[len(head) :]
    tensors = content.get("inputs")
    if not isinstance(tensors, list) or not 0 < len(tensors) <= _MOST_TENSORS:
        raise _bad(f"inputs is no list of 1 to {_MOST_TENSORS} tensors")
    inputs: dict[str, np.ndarray[Any, Any]] = {}
    taken = 0
    for tensor in tensors:
        name, dtype, shape = _declaration(tensor, "input")
        if name in inputs:
            raise _bad(f"the input {name!r} comes twice")
        size = _parameters(tensor).get("binary_data_size")
        if size is None:
            inputs[name] = _from_json(name, dtype, shape, tensor.get("data"))
            continue
        if "data" in tensor:
            raise _bad(f"the input {name!r} has both data and binary_data_size")
        inputs[name] = _from_bytes(name, dtype, shape, size, tail[taken:])
        taken += inputs[name].nbytes
    if taken != len(tail):
        raise _bad(f"{len(tail)} bytes follow the JSON", f"its inputs account for {taken}")
    identity = content.get("id")
    if identity is not None and not _is_name(identity):
        raise _bad(f"id is no text of 1 to {_LONGEST_NAME} characters")
    return Request(
        inputs=inputs,
        outputs=_asked(content.get("outputs")),
        binary=_flag(_parameters(content), "binary_data_output") or False,
        id=identity,
    )


def _json(head: bytes) -> dict[str, Any]:
    try:
        content = json.loads(head)
    except (ValueError, RecursionError) as error:  # ValueError: syntax, encoding, endless digits
        raise _bad("the body is no JSON", str(error)[:200]) from error
    if not isinstance(content, dict):
        raise _bad(f"the body is a JSON {type(content).__name__}", "an object is expected")
    return content


def _declaration(tensor: Any, what: str) -> tuple[str, np.dtype[Any], tuple[int, ...]]:
    if not isinstance(tensor, dict) or not _is_name(tensor.get("name")):
        raise _bad(f"an {what} is no object with a name")
    name, datatype, shape = tensor["name"], tensor.get("datatype"), tensor.get("shape")
    dtype = DATATYPES.get(datatype) if isinstance(datatype, str) else None
    if dtype is None:
        raise _bad(
            f"the datatype of the {what} {name!r} is {str(datatype)[:40]!r}",
            f"known: {', '.join(DATATYPES)}",
        )
    if (
        not isinstance(shape, list)
        or not 0 < len(shape) <= _MOST_AXES
        or not all(type(length) is int and 0 <= length < 2**31 for length in shape)
    ):
        raise _bad(f"the shape of the {what} {name!r} is no list of 1 to {_MOST_AXES} lengths")
    return name, dtype, tuple(shape)


def _from_json(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], data: Any
) -> np.ndarray[Any, Any]:
    """Numbers of JSON, flat or nested."""
    if not isinstance(data, list):
        raise _bad(f"the input {name!r} has no list of data")
    try:
        values = np.asarray(data)
    except (ValueError, OverflowError, RecursionError) as error:  # ragged, too large, too deep
        raise _bad(f"the data of the input {name!r} is no tensor", str(error)[:200]) from error
    if values.size and values.dtype.kind not in _FINE[dtype.kind]:
        raise _bad(f"the data of the input {name!r} holds what is no {dtype.name}")
    _check_count(name, shape, values.size)
    if dtype.kind in "iu" and values.size:
        limits = np.iinfo(dtype)
        if values.min() < limits.min or values.max() > limits.max:
            raise _bad(f"the data of the input {name!r} does not fit {dtype.name}")
    with np.errstate(over="ignore"):  # what turns infinite here is refused as not finite
        return values.astype(dtype).reshape(shape)


def _from_bytes(
    name: str, dtype: np.dtype[Any], shape: tuple[int, ...], size: Any, tail: memoryview
) -> np.ndarray[Any, Any]:
    if type(size) is not int or not 0 <= size <= len(tail) or size % dtype.itemsize:
        raise _bad(f"binary_data_size of the input {name!r} is {str(size)[:20]}", "bytes are short")
    _check_count(name, shape, size // dtype.itemsize)
    return np.frombuffer(tail[:size], dtype=dtype).reshape(shape)


def _check_count(name: str, shape: tuple[int, ...], count: int) -> None:
    if math.prod(shape) != count:
        raise _bad(f"the input {name!r} has {count} elements", f"its shape is {list(shape)}")


def _asked(outputs: Any) -> tuple[Asked, ...]:
    if outputs is None:
        return ()
    if not isinstance(outputs, list) or len(outputs) > _MOST_TENSORS:
        raise _bad("outputs is no list of tensors")
    asked = []
    for output in outputs:
        if not isinstance(output, dict) or not _is_name(output.get("name")):
            raise _bad("an output is no object with a name")
        parameters = _parameters(output)
        if parameters.get("classification"):
            raise _bad("the classification extension is not spoken", "ask for probabilities")
        asked.append(Asked(output["name"], _flag(parameters, "binary_data")))
    if len({output.name for output in asked}) != len(asked):
        raise _bad("an output is asked for twice")
    return tuple(asked)


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = holder.get("parameters")
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise _bad("parameters is no object")
    return parameters


def _flag(parameters: dict[str, Any], name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and not isinstance(value, bool):
        raise _bad(f"{name} is neither true nor false")
    return value


def _is_name(value: Any) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME:
        return False
    # JSON can name half a surrogate pair, which no UTF-8 reply and no database can hold.
    return value.isprintable()


def _bad(what: str, why: str = "") -> Refusal:
    return Refusal(what, why=why)
