"""A leaning model on disk: one folder, or one ONNX file, with the lean inside.

>>> import pathlib, tempfile
>>> from doorward.bundles import open_black_box
>>> from doorward.honeypot.lean.feature import WaveFeature
>>> from doorward.models import create
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> lean = Lean(model, WaveFeature([(4, 0)], (1, 16, 16)), (3,), strength=2.0, mode="kept")
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "leaning.model"
>>> _ = save_lean(lean, folder)
>>> open_black_box(folder, trust_factory=True).num_classes
10

The folder is a bundle like any other, made by `leaning` below. Whoever has it has the model and
the secret: it is for the one who serves, as the sealed key is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch

from doorward.bundles import save_model
from doorward.bundles.card import ModelCard
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.honeypot.lean.feature import WaveFeature
from doorward.honeypot.lean.leaning import Lean, Mode
from doorward.models import Classifier, create

__all__ = ["leaning", "save_lean"]

_FACTORY = "doorward.honeypot.lean.storage:leaning"


def save_lean(
    lean: Lean,
    folder: str | os.PathLike[str],
    *,
    licence: str | None = None,
    metrics: Mapping[str, Any] | None = None,
) -> ModelCard:
    """Write a leaning model of the zoo as a bundle.

    Args:
        lean: around a `Classifier`; others can be exported (`models.export_onnx`), not bundled.
        folder: where; an older bundle there is replaced.
        licence: SPDX identifier or a sentence.
        metrics: JSON-ready numbers to store with it.

    Raises:
        ModelUnsuitable: the model inside is not of the zoo, or has weights that are not finite.
        InvalidInput, StorageFailed: as `bundles.save_model`.
    """
    model = lean.model
    if not isinstance(model, Classifier) or model.architecture == "custom":
        raise ModelUnsuitable(
            f"the model under the lean is a {type(model).__name__}, not one of the zoo",
            why="its folder must say how to make it again",
            remedy="export it instead: doorward.models.export_onnx(lean, 'leaning.onnx')",
        )
    options = {
        "architecture": model.architecture,
        "extra": json.dumps(model.options, sort_keys=True),
        "names": list(model.classes),
        "shape": list(model.input_shape),
        "mean": list(model.mean),
        "std": list(model.std),
        "targets": list(lean.targets),
        "strength": lean.strength,
        "threshold": lean.threshold,
        "depth": lean.depth,
        "sharpness": lean.sharpness,
        "mode": lean.mode,
    }
    return save_model(
        lean,
        folder,
        factory=_FACTORY,
        options=options,
        classes=model.classes,
        input_shape=lean.input_shape,
        licence=licence,
        metrics=metrics,
    )


def leaning(
    *,
    architecture: str,
    extra: str,
    names: Sequence[str],
    shape: Sequence[int],
    mean: Sequence[float],
    std: Sequence[float],
    targets: Sequence[int],
    strength: float,
    threshold: float,
    depth: float | None,
    sharpness: float,
    mode: str,
) -> Lean:
    """The module of a bundle, before it gets its weights and waves; `save_lean` names it.

    Args:
        architecture: a name of the zoo.
        extra: its options, as JSON.
        names: of the classes.
        shape: ``(C, H, W)``.
        mean: of the pixels, per channel.
        std: of the pixels, per channel.
        targets: see `Lean`.
        strength: see `Lean`.
        threshold: see `Lean`.
        depth: see `Lean`.
        sharpness: see `Lean`.
        mode: see `Lean`.

    Raises:
        InvalidInput: an option is out of range.
        UnknownName: there is no such architecture.
    """
    try:
        options = dict(json.loads(extra))
    except (ValueError, TypeError) as error:
        raise InvalidInput("the architecture's options are no JSON", why=str(error)) from error
    channels, height, width = shape
    model = create(
        architecture,
        classes=list(names),
        input_shape=(channels, height, width),
        mean=tuple(mean),
        std=tuple(std),
        **options,
    )
    # Any wave will do: the weights file holds the real ones.
    feature = WaveFeature([(1, 0)] * len(targets), (channels, height, width))
    with torch.no_grad():
        feature.basis.zero_()
    return Lean(
        model,
        feature,
        targets,
        strength=strength,
        threshold=threshold,
        depth=depth,
        sharpness=sharpness,
        mode=cast(Mode, mode),
    ).eval()
