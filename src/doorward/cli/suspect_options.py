"""Options that the commands about suspicious models share: the model, clean images, the scanner.

::

    def scan(model: Model, data: CleanData, scanner: ScannerName = "mesa") -> None: ...
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
]


def _complete_scanner(incomplete: str) -> list[str]:
    from doorward.scanning import SCANNERS

    return [name for name in SCANNERS if name.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Argument(help="A bundle, or package.module:factory[=weights.safetensors]."),
]
CleanData = Annotated[
    str,
    typer.Option(
        "--data",
        help="Clean images: a folder/class/image.png, a data set by name, or an .npy file.",
    ),
]
Split = Annotated[
    str | None,
    typer.Option(
        help="Part of the data to use. Default: all of a folder, train of a named data set.",
        show_default=False,
    ),
]
Labelled = Annotated[
    str,
    typer.Option(
        help="given, or model: the model's own answers, for images without (good) labels."
    ),
]
Limit = Annotated[
    int | None,
    typer.Option(help="Use this many of the images, drawn by the seed. Default: all.", min=2),
]
ScannerName = Annotated[str, typer.Option(help="How to scan.", autocompletion=_complete_scanner)]
ScannerOptions = Annotated[
    list[str] | None,
    typer.Option(help="A parameter of the scanner, as name=value; may be repeated."),
]
AtOnce = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        help="Images at once in the classifier while scanning: fewer take less memory. Default: "
        "the scanner's.",
        min=1,
        show_default=False,
    ),
]
ControlsFile = Annotated[
    Path | None,
    typer.Option(help="Scans of clean models (controls.json), for p-values.", show_default=False),
]
ControlModels = Annotated[
    list[str] | None,
    typer.Option(
        "--control-model",
        help="A clean model of the same kind, scanned first; may be repeated. 19 give p = 0.05.",
        show_default=False,
    ),
]
