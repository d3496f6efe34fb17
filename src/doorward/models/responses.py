"""What an inference server answered, by the Open Inference Protocol (v2): labels or scores.

>>> answer = {"outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 2],
...                        "data": [0.25, 0.75]}]}
>>> read_labels(answer, 1), read_scores(answer, 1)
(tensor([1]), ('probabilities', tensor([[0.2500, 0.7500]], dtype=torch.float64)))

The server's answers are not trusted: whatever is malformed is a `ValueError`, a `LookupError` or a
`ModelUnsuitable`, which `HttpBox` reports as a failure of the endpoint.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from doorward.models.answers import labels_only, to_labels

__all__ = ["FLOATS", "INTEGERS", "are_tensors", "read_labels", "read_scores"]

FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})
INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})


def read_labels(answer: dict[str, Any], count: int, num_classes: int | None = None) -> Tensor:
    """Labels of `count` images, int64 ``(count,)``.

    An integer output ``(count,)`` or ``(count, 1)`` is read first (one called ``labels`` before
    others), else the largest score of a floating-point output ``(count, K)``.

    Raises:
        ValueError, LookupError, TypeError, ArithmeticError, RuntimeError: the answer is malformed.
        ModelUnsuitable: its labels or scores are none.
    """
    outputs = _outputs(answer)
    integers = _labels_like(outputs, count)
    if integers:
        values = _tensor(integers[0]["data"], torch.int64).reshape(integers[0]["shape"])
        return to_labels(values.flatten(), count, num_classes)
    floats = _scores_like(outputs)
    if floats:
        values = _tensor(floats[0]["data"], torch.float64).reshape(floats[0]["shape"])
        return to_labels(values, count, num_classes)
    raise ValueError(f"no labels ({count},) and no logits ({count}, K) among: {_listed(outputs)}")


def read_scores(answer: dict[str, Any], count: int) -> tuple[str, Tensor]:
    """Name and values ``(count, K)`` (float64) of the scores for `count` images.

    Of several floating-point outputs, ``probabilities`` goes before ``logits`` before others.

    Raises:
        ValueError, LookupError, TypeError, ArithmeticError, RuntimeError: the answer is malformed.
        ModelUnsuitable: it holds labels only.
    """
    outputs = _outputs(answer)
    floats = _scores_like(outputs)
    if floats:
        chosen = floats[0]
        values = _tensor(chosen["data"], torch.float64).reshape(chosen["shape"])
        return chosen["name"], values
    if _labels_like(outputs, count):
        raise labels_only()
    raise ValueError(f"no logits or probabilities ({count}, K) among: {_listed(outputs)}")


def are_tensors(items: object) -> bool:
    """Whether this is a list of objects with a name, a datatype and a shape of whole numbers."""
    return isinstance(items, list) and all(
        isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("datatype"), str)
        and isinstance(item.get("shape"), list)
        and all(type(length) is int for length in item["shape"])
        for item in items
    )


def _outputs(answer: dict[str, Any]) -> list[dict[str, Any]]:
    outputs: list[dict[str, Any]] = answer["outputs"]
    if not are_tensors(outputs):
        raise ValueError("outputs is no list of tensors with name, datatype and shape")
    return outputs


def _labels_like(outputs: Iterable[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    found = [
        item
        for item in outputs
        if item["datatype"] in INTEGERS and item["shape"] in ([count], [count, 1])
    ]
    return sorted(found, key=lambda item: item["name"] != "labels")


def _scores_like(outputs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    found = [item for item in outputs if item["datatype"] in FLOATS and len(item["shape"]) == 2]
    rank = {"probabilities": 0, "logits": 1}
    return sorted(found, key=lambda item: rank.get(item["name"], 2))


def _listed(outputs: Iterable[dict[str, Any]]) -> str:
    given = (f"{item['name']} {item['datatype']} {item['shape']}" for item in outputs)
    return ", ".join(given) or "nothing"


def _tensor(data: Any, dtype: torch.dtype) -> Tensor:
    """Numbers of JSON, flat or nested, as a tensor; whole numbers must be whole."""
    values = torch.tensor(data)
    if values.dtype == torch.bool or (dtype == torch.int64 and values.is_floating_point()):
        raise ValueError(f"data holds {values.dtype}, not {dtype}")
    return torch.tensor(data, dtype=dtype)
