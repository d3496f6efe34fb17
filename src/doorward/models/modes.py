"""Evaluation mode for the length of a block, every submodule put back as it was.

>>> from torch import nn
>>> model = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3).eval())
>>> with evaluating(model):
...     model[0].training
False
>>> model[0].training, model[1].training
(True, False)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["evaluating"]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[nn.Module]:
    """Put `model` in evaluation mode; afterwards each submodule gets its own mode back."""
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in before:
            module.training = training
