"""Doorward: the toolkit for the back doors of deep models.

It plants the ones an owner wants, under a key, and proves them later from a model's answers alone;
it finds and removes the ones that nobody wants; and it plants the known attacks, so that defences
have something to be tested on. One library, one command line (``doorward --help``), for image
classifiers in PyTorch.

Train a model, mark it, and prove the mark::

    import doorward as dw

    train, test = dw.data.load("digits"), dw.data.load("digits", split="test")
    model = dw.models.create("resnet8", classes=train.classes, input_shape=train.image_shape)
    owner = dw.bundles.Identity.new("Ada")
    key = dw.watermark.WatermarkKey.new(
        classes=10, image_shape=train.image_shape, owner=owner.public)
    claim = dw.watermark.make_claim(key, owner)
    dw.watermark.embed(model, train, key, dw.training.recipe_for("digits", "resnet8"))
    dw.watermark.verify(claim, key, model, public=owner.public).verified

Images are float ``(N, C, H, W)`` in ``[0, 1]`` everywhere; a model is any `torch.nn.Module`
from such images to logits. Subpackages load when they are first used, so ``import doorward`` costs
nothing:

>>> import doorward as dw
>>> "watermark" in dir(dw)
True
>>> dw.errors.InvalidInput.__mro__[1].__name__
'DoorwardError'
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doorward import (
        benchmarks,
        bundles,
        data,
        errors,
        extraction,
        files,
        hardening,
        honeypot,
        metrics,
        models,
        poisoning,
        randomness,
        records,
        registry,
        removal,
        reporting,
        scanning,
        serving,
        trading,
        training,
        triggers,
        watermark,
    )

__version__ = "0.1.0"

__all__ = [
    "benchmarks",
    "bundles",
    "data",
    "errors",
    "extraction",
    "files",
    "hardening",
    "honeypot",
    "metrics",
    "models",
    "poisoning",
    "randomness",
    "records",
    "registry",
    "removal",
    "reporting",
    "scanning",
    "serving",
    "trading",
    "training",
    "triggers",
    "watermark",
]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return importlib.import_module(f"doorward.{name}")
    raise AttributeError(f"module 'doorward' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
