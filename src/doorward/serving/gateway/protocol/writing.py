"""Inference responses into bytes: JSON, or a JSON head with raw tensors behind it.

>>> import numpy as np
>>> scores = np.array([[0.25, 0.75]], dtype=np.float32)
>>> reply = write_response("net", "1", [Output("probabilities", scores, binary=True)], name="7")
>>> reply.headers["Inference-Header-Content-Length"], len(reply.body)
('154', 162)
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from doorward.serving.gateway.protocol.datatypes import name_of

__all__ = ["Output", "Reply", "write_response"]


@dataclass(frozen=True)
class Output:
    """One tensor of the answer, and whether it goes out as bytes."""

    name: str
    values: np.ndarray[Any, Any]
    binary: bool


@dataclass(frozen=True)
class Reply:
    """A response, ready to be sent."""

    body: bytes
    media_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def write_response(
    model: str, version: str, outputs: Sequence[Output], *, name: str | None = None
) -> Reply:
    """The response to an inference request.

    Args:
        model: name.
        version: of the model.
        outputs: tensors, finite, of types in `DATATYPES`.
        name: the client's own of the request (``id``), given back.
    """
    described: list[dict[str, Any]] = []
    tail = []
    for output in outputs:
        datatype = name_of(output.values.dtype)
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": datatype,
            "shape": list(output.values.shape),
        }
        if output.binary:
            content = np.ascontiguousarray(output.values).tobytes()
            entry["parameters"] = {"binary_data_size": len(content)}
            tail.append(content)
        else:
            entry["data"] = output.values.ravel().tolist()
        described.append(entry)
    answer = {"model_name": model, "model_version": version, "outputs": described}
    if name is not None:
        answer["id"] = name
    head = json.dumps(answer, separators=(",", ":"), allow_nan=False).encode()
    if not tail:
        return Reply(head)
    headers = {"Inference-Header-Content-Length": str(len(head))}
    return Reply(head + b"".join(tail), "application/octet-stream", headers)
