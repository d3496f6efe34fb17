"""What the commands that train share: their options, and how these become data, model and recipe.

::

    train_set, test_set = load_pair("digits", root=None, size=None, channels=None)
    net = make_model(train_set, arch="resnet8", factory=None, options=["width=16"], seed=0)
    recipe = make_recipe("digits", net, epochs=3, lr=None, batch_size=None, ...)
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.errors import InvalidInput

if TYPE_CHECKING:
    from torch import nn

    from doorward.data import ImageData
    from doorward.training import Recipe

__all__ = [
    "Architecture",
    "BatchSize",
    "Channels",
    "Checkpoint",
    "Epochs",
    "Factory",
    "LearningRate",
    "Options",
    "Out",
    "Quick",
    "Resume",
    "Size",
    "TrustFactory",
    "import_from_here",
    "load_pair",
    "make_model",
    "make_recipe",
    "parse_options",
    "require_free",
    "require_writable",
    "store_model",
]

DEFAULT_ARCHITECTURE = "resnet8"


def _complete_architecture(incomplete: str) -> list[str]:
    from doorward.models import ARCHITECTURES

    return [name for name in ARCHITECTURES if name.startswith(incomplete)]


Out = Annotated[Path, typer.Option(help="The model bundle (a folder) to write.")]
Architecture = Annotated[
    str | None,
    typer.Option(
        help="An architecture of the zoo. Default: resnet8.",
        autocompletion=_complete_architecture,
        show_default=False,
    ),
]
Factory = Annotated[
    str | None,
    typer.Option(
        help="Your own model instead: package.module:function that makes an nn.Module.",
        show_default=False,
    ),
]
Options = Annotated[
    list[str] | None,
    typer.Option(
        help="An option of the architecture or function, as name=value; may be repeated.",
        show_default=False,
    ),
]
Epochs = Annotated[
    float | None,
    typer.Option(help="Passes over the data. Default: as in the recipe.", show_default=False),
]
LearningRate = Annotated[
    float | None,
    typer.Option(help="Largest learning rate. Default: as in the recipe.", show_default=False),
]
BatchSize = Annotated[
    int | None, typer.Option(help="Images per step. Default: as in the recipe.", show_default=False)
]
Quick = Annotated[bool, typer.Option("--quick", help="A quarter of the recipe's epochs.")]
TrustFactory = Annotated[
    bool,
    typer.Option("--trust-factory", help="Import and run the Python code that a bundle names."),
]
Size = Annotated[
    int | None, typer.Option(help="Resize images to this side.", min=1, show_default=False)
]
Channels = Annotated[
    int | None,
    typer.Option(help="1 or 3: turn images grey or into colour.", min=1, max=3, show_default=False),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Folder for checkpoints, to go on after a stop.", show_default=False),
]
Resume = Annotated[
    bool, typer.Option("--resume/--no-resume", help="Go on from the checkpoint, or start over.")
]


def load_pair(
    data: str, *, root: Path | None, size: int | None, channels: int | None
) -> tuple[ImageData, ImageData]:
    """The train and test splits of a data set."""
    from doorward.data import load

    first, second = (
        load(data, split=split, root=root, size=size, channels=channels)
        for split in ("train", "test")
    )
    return first, second


def parse_options(options: list[str] | None) -> dict[str, Any]:
    """``["width=16", "pool=max"]`` as ``{"width": 16, "pool": "max"}``.

    Raises:
        InvalidInput: an entry has no ``=``.

    >>> parse_options(["width=16", "pool=max"])
    {'width': 16, 'pool': 'max'}
    """
    parsed = {}
    for option in options or []:
        name, equals, value = option.partition("=")
        if not (name and equals):
            raise InvalidInput(f"the option {option!r} has no value", remedy="write name=value")
        try:
            parsed[name] = json.loads(value)
        except json.JSONDecodeError:
            parsed[name] = value
    return parsed


def import_from_here() -> None:
    """Let ``package.module:function`` find modules in the current folder, as ``python -m`` does."""
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def make_model(
    data: ImageData,
    *,
    arch: str | None,
    factory: str | None,
    options: list[str] | None,
    seed: int,
) -> nn.Module:
    """An untrained model for the classes and shape of `data`; a foreign one keeps its origin.

    Raises:
        InvalidInput: both an architecture and a factory were named, or an option is wrong.
        UnknownName: there is no such architecture.
        ModelUnsuitable: the foreign model does not take the images or has other classes.
    """
    from doorward.models import create

    extra = parse_options(options)
    if factory is None:
        return create(
            arch or DEFAULT_ARCHITECTURE,
            classes=data.classes,
            input_shape=data.image_shape,
            seed=seed,
            **extra,
        )
    if arch is not None:
        raise InvalidInput("both --arch and --model were given", remedy="give one of them")
    import torch

    from doorward.models import load_factory, require_model
    from doorward.randomness import derive_seed

    import_from_here()
    with torch.random.fork_rng([]):  # a foreign factory draws its weights from the global generator
        torch.manual_seed(derive_seed(seed, "weights"))
        model = load_factory(factory, **extra)
    require_model(model, input_shape=data.image_shape, classes=data.num_classes)
    model.doorward_origin = {  # type: ignore[assignment]
        "factory": factory,
        "options": extra,
        "classes": data.classes,
        "input_shape": data.image_shape,
    }
    return model


def make_recipe(data: str, model: nn.Module, *, quick: bool = False, **changes: Any) -> Recipe:
    """The known recipe for a data set and model, with every change that is not None."""
    from doorward.training import recipe_for

    architecture = getattr(model, "architecture", "custom")
    recipe = recipe_for(Path(data).name, str(architecture), quick=quick)
    changed = {name: value for name, value in changes.items() if value is not None}
    return dataclasses.replace(recipe, **changed)


def require_free(out: Path) -> None:
    """Refuse, before long work, a place where a bundle could not be written.

    Raises:
        InvalidInput: something other than a bundle is there.
        StorageFailed: the file system does not allow writing there.
    """
    occupied = out.is_file() or (
        out.is_dir() and any(out.iterdir()) and not (out / "model.json").is_file()
    )
    if occupied:
        raise InvalidInput(
            f"{out} exists and is not a model bundle",
            why="saving would replace it",
            remedy="choose another --out",
        )
    require_writable(out)


def require_writable(place: Path, *, file: bool = False) -> None:
    """Refuse, before long work, a place that cannot be written afterwards.

    Args:
        place: where something will be; folders above it are made.
        file: whether it will be a file; a folder there is refused.

    Raises:
        InvalidInput: there is a folder where a file is to be.
        StorageFailed: the file system does not allow writing there.
    """
    from doorward.files import atomic_folder

    if file and place.is_dir():
        raise InvalidInput(f"{place} is a folder", remedy="name a file in it")
    probe = place.with_name(f".{place.name}.probe")
    with atomic_folder(probe) as folder:
        (folder / "probe").write_bytes(b"doorward")
    _remove(probe)


def store_model(
    model: nn.Module,
    out: Path,
    *,
    recipe: Recipe,
    metrics: Mapping[str, Any],
    licence: str | None = None,
    evidence: Mapping[str, Any] | None = None,
) -> None:
    """Write a model of the zoo, or a foreign one that `make_model` made, as a bundle."""
    from doorward.bundles import save_model

    origin: dict[str, Any] = getattr(model, "doorward_origin", {})
    save_model(
        model,
        out,
        recipe_digest=recipe.digest(),
        metrics=metrics,
        licence=licence,
        evidence=evidence,
        **origin,
    )


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
