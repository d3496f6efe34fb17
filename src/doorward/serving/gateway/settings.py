"""Everything about a gateway that can be set, with its limits.

>>> Settings(max_batch=32).max_batch
32
>>> Settings.from_dict({"max_batch": 0})
Traceback (most recent call last):
doorward.errors.InvalidInput: Settings is not valid: max_batch: ...
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record
from doorward.serving.gateway.monitors.settings import Monitors

__all__ = ["Settings"]

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Stage = Annotated[str, Field(min_length=1, max_length=40)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Settings(Record):
    """How a gateway answers.

    Args:
        model: name of the model in addresses.
        outputs: what the ONNX files give: ``"logits"``, ``"probabilities"``; ``"auto"`` finds out.
        pixels: refuse inputs outside ``[0, 1]``, which is where Doorward's models take images.
        threads: of one inference; 0 for all cores.
        max_batch: images in one inference.
        max_delay: seconds that a request waits at most for others to share its inference.
        max_waiting: images that may wait; requests beyond them are refused with 503.
        max_images: in one request.
        max_body: bytes of one request, unpacked.
        time_limit: seconds for one answer.
        receive_limit: seconds in which the body of a request must have arrived.
        ladder: policies by stage (see `policies.POLICIES`); monitors move a tenant up, one stage
            or more at a time, and only the operator moves it down.
        monitors: what is watched, and from which values on.
    """

    model: Name = "model"
    outputs: Literal["auto", "logits", "probabilities"] = "auto"
    pixels: bool = True
    threads: Annotated[int, Field(ge=0, le=1024)] = 0
    max_batch: Annotated[int, Field(ge=1, le=65536)] = 64
    max_delay: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.002
    max_waiting: Annotated[int, Field(ge=1)] = 4096
    max_images: Annotated[int, Field(ge=1)] = 1024
    max_body: Annotated[int, Field(ge=1024)] = 64 * 2**20
    time_limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    receive_limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30.0
    ladder: Annotated[tuple[Stage, ...], Field(min_length=1)] = ("clean", "honeypot", "label-only")
    monitors: Monitors = Field(default_factory=Monitors)
