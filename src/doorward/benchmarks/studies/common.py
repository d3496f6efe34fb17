"""What studies share: loading their data and building their recipes and models from a cell.

>>> from doorward.benchmarks.study import Cell
>>> cell = Cell(study="s", version=1, tier="quick", method="m", setting="digits", seed=3,
...             options={"dataset": "digits", "architecture": "resnet8", "width": 8,
...                      "recipe": {"epochs": 1.0}})
>>> train, test = load_pair(cell)
>>> new_model(cell, train).architecture, recipe_of(cell).seed
('resnet8', 3)
"""

from __future__ import annotations

import dataclasses
from typing import Any

from doorward import data, models
from doorward.benchmarks.study import Cell, Grid
from doorward.data import ImageData
from doorward.errors import MissingData
from doorward.training import Recipe, recipe_for

__all__ = ["load_pair", "new_model", "recipe_of", "require_data", "task"]


def task(
    dataset: str,
    architecture: str,
    *,
    quick: bool = False,
    width: int | None = None,
    size: int | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """Options of a setting: data, network and recipe, so that a changed recipe voids old rows.

    Args:
        dataset: name.
        architecture: name.
        quick: take the recipe's short form.
        width: of the network, where it has that option; None for its own.
        size: side of the images in pixels; None for the data set's own.
        changes: to the recipe.
    """
    recipe = dataclasses.replace(recipe_for(dataset, architecture, quick=quick), **changes)
    content = recipe.to_dict()
    del content["seed"]  # each cell has its own
    return {
        "dataset": dataset,
        "architecture": architecture,
        "width": width,
        "size": size,
        "recipe": content,
    }


def recipe_of(cell: Cell, **changes: Any) -> Recipe:
    """The cell's recipe, with the cell's seed and `changes` of its fields."""
    return Recipe.from_dict({**cell.options["recipe"], "seed": cell.seed, **changes})


def load_pair(cell: Cell) -> tuple[ImageData, ImageData]:
    """Training and test images of the cell's data set."""
    name, size = cell.options["dataset"], cell.options.get("size")
    return data.load(name, size=size), data.load(name, split="test", size=size)


def new_model(cell: Cell, source: ImageData, *, seed: int | None = None) -> models.Classifier:
    """The cell's network, untrained; its weights derive from `seed`, or from the cell's."""
    width = cell.options.get("width")
    return models.create(
        cell.options["architecture"],
        classes=source.classes,
        input_shape=source.image_shape,
        seed=cell.seed if seed is None else seed,
        **({} if width is None else {"width": width}),
    )


def require_data(grid: Grid) -> None:
    """Say what data is missing before the first cell is run."""
    names = {options["dataset"] for options in grid.settings.values()}
    missing = sorted(name for name in names if not data.available(name))
    if missing:
        raise MissingData(
            f"the data set {missing[0]} is not there",
            why=f"this study trains on it (looked in {data.data_root()})",
            remedy=f"run: doorward data fetch {missing[0]}, or set DOORWARD_DATA to where it is",
        )
