"""What a well-formed request asks of this model: its images, and the outputs it names.

    images = read_images(request, graphs.clean, settings)      # float32 (N, C, H, W)
    outputs = read_outputs(request, tenant)

Images are float32 in ``[0, 1]``; other floats are converted, and bytes (UINT8) divided by 255, a
quarter of the traffic for the same pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from doorward.serving.gateway.graphs import Graph
from doorward.serving.gateway.protocol import Asked, Request
from doorward.serving.gateway.refusals import Refusal
from doorward.serving.gateway.settings import Settings
from doorward.serving.gateway.tenants import Tenant

__all__ = ["read_images", "read_outputs", "signature"]


def signature(graph: Graph, tenant: Tenant) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Inputs and outputs of the model as a tenant sees them, in the protocol's terms."""
    images = {"name": graph.input, "datatype": "FP32", "shape": [-1, *graph.image_shape]}
    labels = {"name": "labels", "datatype": "INT64", "shape": [-1]}
    scores = {"name": "probabilities", "datatype": "FP32", "shape": [-1, graph.classes]}
    return [images], [scores, labels] if tenant.mode.soft else [labels]


def read_images(request: Request, graph: Graph, settings: Settings) -> NDArray[np.float32]:
    """The request's images, checked.

    Raises:
        Refusal: 400 or 413, they are not what the model takes.
    """
    if set(request.inputs) != {graph.input}:
        raise Refusal(
            f"the inputs are {', '.join(sorted(request.inputs))[:200]}",
            why=f"the model takes one, called {graph.input!r}",
        )
    given = request.inputs[graph.input]
    wanted = graph.image_shape
    if given.ndim != 4 or any(
        length not in (-1, found) for length, found in zip(wanted, given.shape[1:], strict=True)
    ):
        raise Refusal(
            f"the images have shape {list(given.shape)}", why=f"the model takes {[-1, *wanted]}"
        )
    if not given.size > 0:
        raise Refusal("there are no images", why=f"the shape is {list(given.shape)}")
    if len(given) > settings.max_images:
        raise Refusal(
            f"there are {len(given)} images",
            why=f"one request may hold {settings.max_images}",
            remedy="send several requests",
            status=413,
        )
    if given.dtype == np.uint8:
        return given.astype(np.float32) / np.float32(255)
    if given.dtype.kind != "f":
        raise Refusal(f"the images are {given.dtype.name}", why="FP32 or UINT8 is taken")
    with np.errstate(over="ignore"):
        # Behind a JSON head of any length, floats need not begin at a multiple of four bytes.
        images = np.require(given, np.float32, ["C", "ALIGNED"])
    low, high = float(images.min()), float(images.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise Refusal("the images hold NaN or infinity", why="pixels are finite numbers")
    if settings.pixels and not (low >= 0 and high <= 1):
        raise Refusal(
            f"pixels span {low:.4g} to {high:.4g}",
            why="images are in [0, 1], before any normalisation",
            remedy="divide bytes by 255, or send them as UINT8",
        )
    return images


def read_outputs(request: Request, tenant: Tenant) -> tuple[Asked, ...]:
    """The outputs to send, each with its form.

    Raises:
        Refusal: 400, one is named that the tenant does not get.
    """
    offered = ("probabilities", "labels") if tenant.mode.soft else ("labels",)
    asked = request.outputs or tuple(Asked(name) for name in offered)
    for output in asked:
        if output.name not in offered:
            raise Refusal(
                f"there is no output {output.name[:80]!r}", why=f"there is {', '.join(offered)}"
            )
    return tuple(
        Asked(output.name, request.binary if output.binary is None else output.binary)
        for output in asked
    )
