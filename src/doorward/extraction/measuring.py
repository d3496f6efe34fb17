"""How close a substitute comes to its victim: agreement, and both accuracies.

>>> from doorward.data import load
>>> from doorward.models import ModuleBox, create
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> compare(model, ModuleBox(model), load("digits", split="test", size=16))["agreement"]
1.0
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from doorward.data import ImageSource, to_pixels
from doorward.extraction.victim import Victim
from doorward.metrics import predict
from doorward.models import BlackBox

__all__ = ["compare"]


def compare(
    model: nn.Module, box: BlackBox, validation: ImageSource | None, folder: Path | None = None
) -> dict[str, Any]:
    """Ask both for the classes of the validation images, the victim once for each image.

    Args:
        model: the substitute.
        box: the victim.
        validation: labelled images; None to measure nothing.
        folder: keeps the victim's answers, so that a resumed theft does not ask again.

    Returns:
        ``agreement``, ``accuracy`` and ``victim_accuracy`` (in [0, 1], or None), and
        ``validation_images``.
    """
    if validation is None:
        names = ("agreement", "accuracy", "victim_accuracy")
        return {**dict.fromkeys(names), "validation_images": 0}
    asked = Victim(box, "label", budget=2**62, folder=folder)  # not part of the theft: no limit
    rows = torch.split(torch.arange(len(validation)), 1024)
    theirs = torch.cat([asked.ask(to_pixels(validation.fetch(part)[0])) for part in rows])
    ours, labels = predict(model, validation).argmax(1), validation.labels.cpu()
    return {
        "agreement": _share(ours == theirs),
        "accuracy": _share(ours == labels),
        "victim_accuracy": _share(theirs == labels),
        "validation_images": len(validation),
    }


def _share(hits: Tensor) -> float:
    return float(hits.double().mean())
