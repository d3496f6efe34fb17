"""How often recovered triggers work on images that the search has not seen.

require_several_classes(clean)
success = held_out_success(model, recovered[3], held_out, draw)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.metrics.predictions import predict_batches
from doorward.scanning.recovered import Recovered

__all__ = ["held_out_success", "require_several_classes"]


def require_several_classes(clean: ImageData) -> None:
    """Refuse images of a single class: no trigger of that class could be seen to work.

    Raises:
        InvalidInput: all images have one label.
    """
    first = int(clean.labels[0])
    if bool((clean.labels == first).all()):
        raise InvalidInput(
            f"all clean images are of class {first} ({clean.classes[first]})",
            why="triggers of a class are tried on images of other classes",
            remedy="give images of all classes",
        )


def held_out_success(
    model: nn.Module,
    recovered: Recovered,
    held_out: ImageData,
    draw: torch.Generator,
    *,
    batch_size: int = 512,
) -> float | None:
    """Share of the images of other classes that the triggers send to their class.

    Args:
        model: on any device.
        recovered: triggers of one class.
        held_out: images that took no part in the search, with the labels to use.
        draw: of triggers and places, on the CPU.
        batch_size: images per forward pass.

    Returns:
        The share; None if all images are of the triggers' own class.

    >>> from doorward.data import load
    >>> from doorward.scanning.stamps import Perturbation
    >>> digits = load("digits").sample(30, seed=0)
    >>> brighter = Perturbation.of(1, change=torch.ones(1, 32, 32))
    >>> light = nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))
    >>> _ = nn.init.zeros_(light[1].weight), nn.init.zeros_(light[1].bias)
    >>> light[1].weight.data[1] = 1.0
    >>> held_out_success(light, brighter, digits, torch.Generator())
    1.0
    """
    others = (held_out.labels != recovered.target).nonzero().squeeze(1)
    if not len(others):
        return None

    def stamped(rows: Tensor) -> Tensor:
        return recovered.stamp(held_out.pixels(others[rows.to(others.device)]), draw)

    answers = predict_batches(model, len(others), stamped, batch_size).argmax(1)
    return float((answers == recovered.target).double().mean())
