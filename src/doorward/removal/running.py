"""One call for every method on the board.

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(64, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> repaired, result = remove(model, digits, "magnitude-pruning")
>>> result.method, result.images, round(result.details["pruned_share"], 3)
('magnitude-pruning', 64, 0.5)
"""

from __future__ import annotations

import torch
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.removal.base import Labels, Removal, RemovalResult, removal

__all__ = ["remove"]


def remove(
    model: nn.Module,
    clean: ImageData,
    method: str | Removal,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    progress: bool = False,
) -> tuple[nn.Module, RemovalResult]:
    """Apply a removal method to a copy of a model.

    Args:
        model: maps float images (N, C, H, W) in [0, 1] to logits (N, K); it is not changed.
        clean: the clean images at hand, of the shape and classes that the model takes.
        method: a `Removal`, or a name in `REMOVALS` for that method's defaults.
        seed: of everything random; on a CPU the same seed gives the same weights.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...; where the work is done.
        labels: ``"given"``, or ``"model"`` to label the images by the model's own answers, for
            someone who has images but no labels.
        progress: draw progress bars of the training phases, on stderr.

    Returns:
        The repaired model, on the device that `model` is on and in its modes (training or
        evaluation, trainable or frozen parameters), and what was done.

    Raises:
        UnknownName: there is no such method.
        InvalidInput: images, labels or parameters do not fit; said before the work.
        ModelUnsuitable: the model lacks what the method needs, or cannot be copied.
        TrainingDiverged: the method's learning rate is too high for this model.
    """
    if isinstance(method, str):
        method = removal(method)
    if not isinstance(method, Removal):
        raise InvalidInput(
            f"the method is {method!r:.60}",
            why="a name in REMOVALS or a Removal is needed",
            remedy="make one first, e.g. FineTuning(lr=0.01)",
        )
    return method(model, clean, seed=seed, device=device, labels=labels, progress=progress)
