"""A model behind HTTP as a black box, by the Open Inference Protocol (KServe v2, REST).

>>> box = HttpBox("http://127.0.0.1:8000", model="victim")
>>> box
HttpBox('http://127.0.0.1:8000/v2/models/victim')
>>> labels = box.labels(images)  # doctest: +SKIP

Triton, KServe, MLServer, OpenVINO Model Server, TorchServe and Doorward's own gateway speak it. The
model's first input must take images ``(N, C, H, W)``; an integer output ``(N,)`` is read as labels
(one called ``labels`` first), a floating-point output ``(N, K)`` as probabilities or logits (one
called ``probabilities`` first, then ``logits``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import torch
from torch import Tensor

from doorward.errors import DoorwardError, EndpointFailed, InvalidInput, ModelUnsuitable
from doorward.models.answers import Outputs, Scores, check_images, whole_shape
from doorward.models.responses import FLOATS, INTEGERS, are_tensors, read_labels, read_scores
from doorward.models.transport import JsonClient, shown

__all__ = ["HttpBox"]

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
        outputs: what floating-point outputs are; under ``"auto"`` their values tell, and in doubt
            the output's name.

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
        outputs: Outputs = "auto",
    ) -> None:
        if batch_size < 1:
            raise InvalidInput(f"batch_size {batch_size} is not at least 1")
        self._address = _model_address(url, model)
        self._client = JsonClient(
            timeout=timeout, retries=retries, backoff=backoff, max_bytes=max_bytes, headers=headers
        )
        self.batch_size = batch_size
        self._about: dict[str, Any] | None = None
        Scores(outputs)  # an unknown word is refused now, not at the first answer
        self._outputs = outputs
        self._scores: Scores | None = None

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
            if output.get("datatype") in FLOATS and len(shape) == 2 and shape[1] > 0:
                return int(shape[1])
        return None

    @property
    def input_shape(self) -> tuple[int, int, int] | None:
        """``(C, H, W)`` in the server's metadata; None if it leaves a length open."""
        return whole_shape(self._metadata()["inputs"][0]["shape"][1:])

    def labels(self, images: Tensor) -> Tensor:
        """Classes of `images` (see `BlackBox.labels`).

        Raises:
            InvalidInput: images are no float batch in ``[0, 1]``, or of another size than the
                server's metadata says.
            EndpointFailed: the server cannot be reached, refuses, or answers nonsense.
        """
        nothing = torch.empty(0, dtype=torch.int64)
        return torch.cat([nothing, *self._ask_all(images, self._labels)])

    def probabilities(self, images: Tensor) -> Tensor:
        """Probabilities of every class (see `BlackBox.probabilities`).

        Raises:
            InvalidInput, EndpointFailed: as `labels`.
            ModelUnsuitable: the server gives labels only, scores that are not finite, or scores
                that could be logits or probabilities.
        """
        answers = self._ask_all(images, self._probabilities)
        return torch.cat(answers) if answers else torch.empty(0, self.num_classes or 0)

    def _labels(self, answer: dict[str, Any], count: int) -> Tensor:
        try:
            return read_labels(answer, count, self.num_classes)
        except ModelUnsuitable as error:
            raise self._useless(str(error)) from error

    def _probabilities(self, answer: dict[str, Any], count: int) -> Tensor:
        name, values = read_scores(answer, count)
        if self._scores is None:
            self._scores = Scores(self._outputs, hint=name)
        return self._scores.probabilities(values, count, self.num_classes)

    def _ask_all(
        self, images: Tensor, read: Callable[[dict[str, Any], int], Tensor]
    ) -> list[Tensor]:
        """The server's answers, request by request, as `read` makes them out."""
        check_images(images)
        if not len(images):
            return []
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
        if taken["datatype"] in INTEGERS:
            pixels = (pixels * 255).round().to(torch.uint8)
        return [self._ask(taken, batch, read) for batch in torch.split(pixels, self.batch_size)]

    def describe(self) -> dict[str, Any]:
        """Kind, address (without credentials), and the name, platform and versions it states."""
        about = self._metadata()
        stated = {key: about.get(key) for key in ("name", "platform", "versions")}
        return {"kind": "http", "address": shown(self._address), **stated}

    def _metadata(self) -> dict[str, Any]:
        if self._about is None:
            about = self._client.request("GET", self._address)
            tensors = [about.get("inputs"), about.get("outputs", [])]
            if not tensors[0] or not all(map(are_tensors, tensors)):
                raise EndpointFailed(
                    f"{shown(self._address)} does not describe a model",
                    why="its metadata lacks well-formed inputs and outputs",
                    remedy=_REMEDY,
                )
            self._about = about
        return self._about

    def _ask(
        self,
        taken: dict[str, Any],
        batch: Tensor,
        read: Callable[[dict[str, Any], int], Tensor],
    ) -> Tensor:
        tensor = {
            "name": taken["name"],
            "shape": list(batch.shape),
            "datatype": taken["datatype"],
            "data": batch.flatten().tolist(),
        }
        body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
        answer = self._client.request("POST", f"{self._address}/infer", body)
        try:
            return read(answer, len(batch))
        except DoorwardError:
            raise
        except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
            reason = f"its outputs are malformed ({type(error).__name__}: {error})"
            raise self._useless(reason) from error

    def _useless(self, why: str) -> EndpointFailed:
        return EndpointFailed(
            f"{shown(self._address)} gave no usable answer", why=why, remedy=_REMEDY
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
