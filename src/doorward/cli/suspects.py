"""What the commands about suspicious models share: the model, clean images, the scanner, controls.

::

    suspect = open_suspect("theirs.model", trust_factory=False)
    clean = clean_images(suspect, "photos", split=None, count=500, labels="given", seed=0)
    save_repaired(suspect, repaired, clean, Path("clean.model"), metrics={}, evidence={})
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from doorward.cli.common import note
from doorward.cli.suspect_options import (
    AtOnce,
    CleanData,
    ControlModels,
    ControlsFile,
    Labelled,
    Limit,
    Model,
    ScannerName,
    ScannerOptions,
    Split,
)
from doorward.errors import InvalidInput, MissingData

if TYPE_CHECKING:
    from torch import nn

    from doorward.data import ImageData
    from doorward.scanning import Controls, Scanner

__all__ = [
    "AtOnce",
    "CleanData",
    "ControlModels",
    "ControlsFile",
    "Labelled",
    "Limit",
    "Model",
    "ScannerName",
    "ScannerOptions",
    "Split",
    "Suspect",
    "clean_images",
    "controls_for",
    "make_scanner",
    "open_suspect",
    "save_repaired",
]


class Suspect(NamedTuple):
    """A model that was received.

    Attributes:
        model: with its weights, on the CPU.
        origin: what `doorward.bundles.save_model` must know to write it again.
        classes: their names, where known.
        input_shape: (C, H, W), where known.
    """

    model: nn.Module
    origin: dict[str, Any]
    classes: tuple[str, ...] | None
    input_shape: tuple[int, int, int] | None


def open_suspect(target: str, *, trust_factory: bool) -> Suspect:
    """Open a bundle or a factory."""
    from doorward.bundles import open_model, read_card
    from doorward.cli.options import import_from_here
    from doorward.models import Classifier

    import_from_here()
    model = open_model(target, trust_factory=trust_factory)
    if isinstance(model, Classifier):
        return Suspect(model, {}, model.classes, model.input_shape)  # type: ignore[arg-type]
    if not os.path.exists(target):
        return Suspect(model, {"factory": target.partition("=")[0]}, None, None)
    card = read_card(target)
    origin = {"factory": card.factory, "options": card.options}
    return Suspect(model, origin, card.classes, card.input_shape)


def clean_images(
    suspect: Suspect,
    data: str,
    *,
    split: str | None,
    root: Path | None,
    size: int | None,
    channels: int | None,
    labels: str,
    count: int | None,
    seed: int,
) -> ImageData:
    """Load the user's images as the model takes them, classes in the model's order."""
    from doorward.data import DATASETS, load, load_folder
    from doorward.data.folders import class_folders
    from doorward.data.image_files import EXTENSIONS

    if suspect.input_shape is not None:
        depth, height, width = suspect.input_shape
        channels = channels or depth
        size = size or (height if height == width else None)
    folder = Path(data)
    if data in DATASETS or not folder.is_dir():
        part = split or ("train" if data in DATASETS else "all")
        images = load(data, split=part, root=root, size=size, channels=channels)
    else:
        flat = not class_folders(folder) and any(
            file.suffix.lower() in EXTENSIONS for file in folder.iterdir()
        )
        if flat and labels == "model":  # images side by side, without classes
            images = load_folder(
                folder.absolute().parent, classes=[folder.absolute().name], size=size,
                channels=channels,
            )  # fmt: skip
        elif flat:
            raise MissingData(
                f"the images in {folder} have no labels",
                why=f"expected {folder}/CLASS/IMAGE",
                remedy="put the images of each class into a folder of its own, or use --labels "
                "model to take the model's own answers",
            )
        else:
            images = load(data, split=split or "all", root=root, size=size, channels=channels)
    if suspect.classes and labels == "given":
        images = _in_order(images, suspect.classes)
    if count is not None and count < len(images):
        images = images.sample(count, seed=seed)
    return images


def _in_order(images: ImageData, classes: tuple[str, ...]) -> ImageData:
    """The images with the model's classes in the model's order; folders are sorted by name."""
    import torch

    if images.classes == classes:
        return images
    if set(images.classes) <= set(classes):
        numbers = torch.tensor([classes.index(name) for name in images.classes])
        labels = numbers.to(images.labels.device)[images.labels]
        return dataclasses.replace(images, labels=labels, classes=classes)
    if len(images.classes) == len(classes):
        note(
            f"The classes of {images.name} have other names than the model's: "
            f"{images.classes[0]} is taken for {classes[0]}, {images.classes[-1]} for "
            f"{classes[-1]}, and so on in their order."
        )
    return images


def make_scanner(name: str, options: list[str] | None, at_once: int | None = None) -> Scanner:
    """The scanner of --scanner, --scanner-option and --batch-size."""
    from doorward.cli.options import parse_options
    from doorward.scanning import scanner

    chosen = scanner(name, **parse_options(options))
    return chosen if at_once is None else chosen.in_passes(at_once)


def controls_for(
    looker: Scanner,
    clean: ImageData,
    *,
    file: Path | None,
    models: list[str] | None,
    labels: str,
    seed: int,
    device: str,
    trust_factory: bool,
) -> Controls | None:
    """What clean models look like to this scanner: from --controls, or by scanning them."""
    from doorward.files import read_json
    from doorward.scanning import Controls, controls_from

    if file is not None and models:
        raise InvalidInput(
            "both --controls and --control-model were given",
            why="the file holds scans of clean models already",
            remedy="give one of them",
        )
    if file is not None:
        content = read_json(file)
        if not isinstance(content, dict):
            raise InvalidInput(f"{file} holds no controls", why="a JSON object is expected")
        controls = Controls.from_dict(content)
        controls.require(scanner=looker.label, recipe_digest=looker.digest())
        return controls
    if not models:
        return None
    results = {}
    opened = {name: open_suspect(name, trust_factory=trust_factory) for name in models}
    for name, control in opened.items():
        result, _ = looker(control.model, clean, seed=seed, device=device, labels=labels)  # type: ignore[arg-type]
        results[name] = result
        largest = max(finding.statistic for finding in result.findings)
        note(f"{name}: clean model scanned, largest statistic {largest:.3g}")
    return controls_from(results)


def save_repaired(
    suspect: Suspect,
    repaired: nn.Module,
    clean: ImageData,
    out: Path,
    *,
    metrics: Mapping[str, Any],
    evidence: Mapping[str, Any],
) -> None:
    """Write a repaired model as a bundle; a foreign one keeps its origin."""
    from doorward.bundles import save_model
    from doorward.metrics import predict
    from doorward.models.classifier import class_names

    origin = dict(suspect.origin)
    if origin:
        # Images without labels have no class names either.
        count = predict(repaired, clean.subset([0])).shape[1]
        named = clean.classes if count == clean.num_classes else class_names(count)
        origin["classes"] = suspect.classes or named
        origin["input_shape"] = suspect.input_shape or clean.image_shape
    save_model(repaired, out, metrics=metrics, evidence=evidence, **origin)
