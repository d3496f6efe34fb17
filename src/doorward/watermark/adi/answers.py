"""What a suspect says of a key's pictures: labels, asked for in an order it cannot foresee.

>>> import torch
>>> from doorward.watermark.adi.key import PaperKey
>>> key = PaperKey.new(n=5, classes=10, image_shape=(1, 16, 16))
>>> ask(key, lambda images: torch.full((len(images),), 3))
tensor([3, 3, 3, 3, 3])
"""

from __future__ import annotations

import random
from typing import Any

import torch
from torch import Tensor

from doorward.bundles import open_black_box
from doorward.errors import ModelUnsuitable
from doorward.models import BlackBox
from doorward.models.answers import to_labels
from doorward.watermark.adi.chance import chance_log2
from doorward.watermark.adi.key import PaperKey
from doorward.watermark.triggerset import TriggerSet

__all__ = ["ask", "matches_and_chance"]


def ask(key: TriggerSet, suspect: Any) -> Tensor:
    """The suspect's labels of a key's trigger images.

    Args:
        key: whose images.
        suspect: a module, a bundle's folder, an ``.onnx`` file, an ``http(s)://`` endpoint, a
            `BlackBox`, or any callable from float images ``(N, C, H, W)`` in ``[0, 1]`` to int64
            labels ``(N,)``.

    Returns:
        int64 ``(n,)`` on the CPU, in the key's order.

    Raises:
        ModelUnsuitable: the suspect has another number of classes, or answers nonsense.
        InvalidInput: it takes images of another shape, or cannot be asked at all.
        EndpointFailed: the endpoint does not answer.
    """
    box = open_black_box(suspect)
    _check_classes(box, key)
    images, _ = key.triggers()
    order = list(range(key.n))
    random.SystemRandom().shuffle(order)
    places = torch.tensor(order)
    said = to_labels(box.labels(images[places].float() / 255), key.n, key.classes)
    _check_classes(box, key)  # some suspects show their number of classes only in their answers
    answers = torch.empty_like(said)
    answers[places] = said
    return answers


def matches_and_chance(key: TriggerSet, suspect: Any) -> tuple[int, float]:
    """How many triggers a suspect gives the key's label, and log2 of the p-value.

    Args:
        key: its law decides the null hypothesis; keys that are no `PaperKey` have uniform labels.
        suspect: as in `ask`.

    Raises:
        ModelUnsuitable, InvalidInput, EndpointFailed: as `ask`.
    """
    answers, labels = ask(key, suspect), key.triggers()[1]
    law = key.law if isinstance(key, PaperKey) else "uniform"
    return int((answers == labels).sum()), chance_log2(law, labels, answers, key.classes)


def _check_classes(box: BlackBox, key: TriggerSet) -> None:
    if box.num_classes is not None and box.num_classes != key.classes:
        raise ModelUnsuitable(
            f"the suspect has {box.num_classes} classes",
            why=f"the key is for {key.classes}",
            remedy="if its head was exchanged, verify with the old head (with_head, --old-head)",
        )
