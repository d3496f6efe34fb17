"""A model behind HTTP as a black box, by the Open Inference Protocol (KServe v2, REST).

>>> box = HttpBox("http://127.0.0.1:8000", model="victim")
>>> box
HttpBox('http://127.0.0.1:8000/v2/models/victim')
>>> labels = box.labels(images)  # doctest: +SKIP

Triton, KServe, MLServer, OpenVINO Model Server, TorchServe and Doorward's own gateway speak it. The
model's first input must take images ``(N, C, H, W)``; an integer output ``(N,)`` is read as labels
(one called ``labels`` first), a floating-point output ``(N, K)`` as logits or probabilities.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from doorward.errors import EndpointFailed, InvalidInput, ModelUnsuitable
from doorward.models.blackbox import check_images, to_labels
from doorward.models.transport import JsonClient, shown

__all__ = ["HttpBox"]

_FLOATS = frozenset({"FP16", "FP32", "FP64", "BF16"})
_INTEGERS = frozenset({"INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"})
_REMEDY = "check that the server follows the Open Inference Protocol (v2)"


class HttpBox:
    """A black box that asks an inference server.

    Args:
        url: address of the server (``http://host:8000``), or of the model on it
            (``http://host:8000/v2/models/NAME``).
        model: the model's name, where `url` does not hold it.
        timeout: seconds for one attempt.
        retries: attempts after the first, on 429, 5xx, timeouts and dropped connections.
        batch_size: images per request.
        backoff: seconds before the first retry, doubled for each later one.
        max_bytes: largest response that is read.
        headers: sent with every request, e.g. an authorisation; never shown.

    Raises:
        InvalidInput: no model is named, or a number is out of range.

    Nothing is sent before the first question. The server's answers are not trusted: whatever is
    not a well-formed answer to the question is an `EndpointFailed`.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        timeout: float = 10.0,
        retries: int = 5,
        *,
        batch_size: int = 64,
        backoff: float = 0.5,
        max_bytes: int = 64 * 2**20,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        if batch_size < 1:
            raise InvalidInput(f"batch_size {batch_size} is not at least 1")
        self._address = _model_address(url, model)
        self._client = JsonClient(
            timeout=timeout, retries=retries, backoff=backoff, max_bytes=max_bytes, headers=headers
        )
        self.batch_size = batch_size
        self._about: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"HttpBox({shown(self._address)!r})"

    def __enter__(self) -> HttpBox:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept-alive connections."""
        self._client.close()

    @property
    def num_classes(self) -> int | None:
        """K of a floating-point output ``(N, K)`` in the server's metadata, else None."""
        for output in self._metadata().get("outputs", []):
            shape = output.get("shape", [])
            if output.get("datatype") in _FLOATS and len(shape) == 2 and shape[1] > 0:
                return int(shape[1])
        return None

    def labels(self, images: Tensor) -> Tensor:
        """Classes of `images` (see `BlackBox.labels`).

        Raises:
            InvalidInput: images are no float batch in ``[0, 1]``, or of another size than the
                server's metadata says.
            EndpointFailed: the server cannot be reached, refuses, or answers nonsense.
        """
        check_images(images)
        if not len(images):
            return torch.empty(0, dtype=torch.int64)
        taken = self._metadata()["inputs"][0]
        wanted = taken["shape"][1:]
        if len(wanted) != 3 or any(
            length not in (-1, given)
            for length, given in zip(wanted, images.shape[1:], strict=True)
        ):
            raise InvalidInput(
                f"images have shape {tuple(images.shape)}",
                why=f"{shown(self._address)} takes {taken['shape']}",
                remedy="resize the images",
            )
        pixels = images.detach().cpu().float()
        if taken["datatype"] in _INTEGERS:
            pixels = (pixels * 255).round().to(torch.uint8)
        return torch.cat(
            [self._ask(taken, batch) for batch in torch.split(pixels, self.batch_size)]
        )

    def describe(self) -> dict[str, Any]:
        """Kind, address (without credentials), and the name, platform and versions it states."""
        about = self._metadata()
        stated = {key: about.get(key) for key in ("name", "platform", "versions")}
        return {"kind": "http", "address": shown(self._address), **stated}

    def _metadata(self) -> dict[str, Any]:
        if self._about is None:
            about = self._client.request("GET", self._address)
            tensors = [about.get("inputs"), about.get("outputs", [])]
            if not tensors[0] or not all(map(_are_tensors, tensors)):
                raise EndpointFailed(
                    f"{shown(self._address)} does not describe a model",
                    why="its metadata lacks well-formed inputs and outputs",
                    remedy=_REMEDY,
                )
            self._about = about
        return self._about

    def _ask(self, taken: dict[str, Any], batch: Tensor) -> Tensor:
        tensor = {
            "name": taken["name"],
            "shape": list(batch.shape),
            "datatype": taken["datatype"],
            "data": batch.flatten().tolist(),
        }
        body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
        answer = self._client.request("POST", f"{self._address}/infer", body)
        try:
            return _read_answer(answer, len(batch), self.num_classes)
        except (
            ModelUnsuitable,
            LookupError,
            TypeError,
            ValueError,
            ArithmeticError,
            RuntimeError,
        ) as error:
            detail = str(error) if isinstance(error, ModelUnsuitable) else ""
            reason = detail or f"its outputs are malformed ({type(error).__name__}: {error})"
            raise EndpointFailed(
                f"{shown(self._address)} gave no usable answer", why=reason, remedy=_REMEDY
            ) from error


def _read_answer(answer: dict[str, Any], count: int, num_classes: int | None) -> Tensor:
    """Labels of `count` images from a v2 inference response."""
    outputs = answer["outputs"]
    if not _are_tensors(outputs):
        raise ValueError("outputs is no list of tensors with name, datatype and shape")
    integers = [item for item in outputs if item["datatype"] in _INTEGERS]
    floats = [item for item in outputs if item["datatype"] in _FLOATS]
    integers.sort(key=lambda item: item["name"] != "labels")
    for output in (*integers, *floats):
        shape = output["shape"]
        labels_like = output["datatype"] in _INTEGERS and shape in ([count], [count, 1])
        if labels_like or (output in floats and len(shape) == 2):
            exact = torch.int64 if labels_like else torch.float64
            values = _tensor(output["data"], exact).reshape(shape)
            return to_labels(values.flatten() if labels_like else values, count, num_classes)
    given = ", ".join(f"{item['name']} {item['datatype']} {item['shape']}" for item in outputs)
    raise ValueError(f"no labels ({count},) and no logits ({count}, K) among: {given or 'nothing'}")


def _tensor(data: Any, dtype: torch.dtype) -> Tensor:
    """Numbers of JSON, flat or nested, as a tensor; whole numbers must be whole."""
    values = torch.tensor(data)
    if values.dtype == torch.bool or (dtype == torch.int64 and values.is_floating_point()):
        raise ValueError(f"data holds {values.dtype}, not {dtype}")
    return torch.tensor(data, dtype=dtype)


def _are_tensors(items: object) -> bool:
    """Whether this is a list of objects with a name, a datatype and a shape of whole numbers."""
    return isinstance(items, list) and all(
        isinstance(item, dict)
        and isinstance(item.get("name"), str)
        and isinstance(item.get("datatype"), str)
        and isinstance(item.get("shape"), list)
        and all(type(length) is int for length in item["shape"])
        for item in items
    )


def _model_address(url: str, model: str | None) -> str:
    base = url.rstrip("/").removesuffix("/infer")
    if not base.startswith(("http://", "https://")):
        raise InvalidInput(f"{url!r} is no http:// or https:// address")
    start, found, named = base.partition("/v2/models/")
    if found and named and model in (None, named):
        return base
    if found and named:
        raise InvalidInput(f"the address names the model {named!r}", why=f"but model is {model!r}")
    if model is None or not model:
        raise InvalidInput(
            f"{shown(url)} names no model",
            remedy="give model=..., or the address http://host:port/v2/models/NAME",
        )
    return f"{start.removesuffix('/v2')}/v2/models/{quote(model, safe='')}"
