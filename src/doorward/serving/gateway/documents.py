"""What the OpenAPI document says of the inference request and of the replies.

>>> sorted(READS)[:2], INFER["requestBody"]["required"]
([400, 401], True)
"""

from __future__ import annotations

from typing import Any

from doorward.serving.gateway.protocol.datatypes import DATATYPES

__all__ = ["INFER", "READS"]

_PARAMETERS = {"type": "object", "additionalProperties": True}
_SHAPE = {"type": "array", "items": {"type": "integer", "minimum": 0}, "minItems": 1}

_TENSOR = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "enum": list(DATATYPES)},
        "shape": _SHAPE,
        "data": {"type": "array", "items": {}},
        "parameters": _PARAMETERS,
    },
}

_REQUEST = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": _PARAMETERS},
            },
        },
        "parameters": _PARAMETERS,
    },
}

INFER: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": _REQUEST},
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    },
    "security": [{}, {"bearer": []}],
}
"""The inference request, as JSON or with raw tensors behind the JSON."""


def _refusal(description: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["error"],
        "properties": {"error": {"type": "string"}},
    }
    return {"description": description, "content": {"application/json": {"schema": schema}}}


READS: dict[int | str, dict[str, Any]] = {
    400: _refusal("The request is malformed, or not for this model."),
    401: _refusal("The API key is missing or unknown."),
    404: _refusal("There is no such model or version."),
    408: _refusal("The body did not arrive in time."),
    413: _refusal("The body or the batch is too large."),
    415: _refusal("The content encoding is not read."),
    422: _refusal("The model cannot answer these images."),
    429: _refusal("The budget is spent."),
    503: _refusal("Too busy, shutting down, or not able to write evidence; try again."),
}
"""The replies that are no answers."""
