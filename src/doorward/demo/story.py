"""What a chapter of the demonstration gets and gives.

>>> part = Part(key="train", summary={"accuracy": 0.99}, section=None,
...             promises={"the model reaches 98 %": True})
>>> [promise for promise, kept in part.promises.items() if not kept]
[]
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from doorward.data import ImageData
from doorward.models import Classifier, create
from doorward.reporting import Picture, Section
from doorward.training import Recipe, recipe_for

__all__ = ["Chapter", "Part", "Story"]

ARCHITECTURE = "resnet8"


@dataclass
class Story:
    """The story so far.

    Attributes:
        place: folder to write to; it becomes `shown` when the demonstration is complete.
        shown: the folder's final name, for commands that a reader can copy.
        train: training images.
        test: test images.
        recipe: how the demonstration trains; chapters take it as it is.
        seed: of everything but keys.
        device: where to compute.
        options: of the architecture; small in quick demonstrations.
        quick: whether everything is hurried, and nothing is proven.
        say: tells the user what is going on.
        passphrase: seals the keys of the demonstration; its file lies beside them.
        shelf: what earlier chapters leave for later ones, such as the clean model.
    """

    place: Path
    shown: Path
    train: ImageData
    test: ImageData
    recipe: Recipe
    passphrase: str
    seed: int = 0
    device: str = "auto"
    options: dict[str, Any] = field(default_factory=dict)
    quick: bool = False
    say: Callable[[str], None] = lambda _text: None
    shelf: dict[str, Any] = field(default_factory=dict)

    def fresh_model(self, purpose: str) -> Classifier:
        """An untrained model with initial weights of its own for each purpose."""
        from doorward.randomness import derive_seed

        return create(
            ARCHITECTURE,
            classes=self.train.classes,
            input_shape=self.train.image_shape,
            seed=derive_seed(self.seed, "demo", purpose),
            **self.options,
        )

    def fit_options(self) -> dict[str, Any]:
        """What every training of the demonstration passes to `training.fit`."""
        return {"device": self.device, "progress": True}


@dataclass(frozen=True)
class Part:
    """A chapter's contribution.

    Attributes:
        key: name of its entry in ``summary.json``; None for none.
        summary: that entry.
        section: its section of the report; None for none.
        promises: what it promised -> whether it was kept.
    """

    key: str | None
    summary: Mapping[str, Any]
    section: Section | None
    promises: Mapping[str, bool] = field(default_factory=dict)


Chapter = Callable[[Story], Part]


def demo_recipe(*, quick: bool, seed: int) -> Recipe:
    """The recipe of the demonstration: the known one for digits, or three steps of it."""
    import dataclasses

    recipe = recipe_for("digits", ARCHITECTURE)
    limits: dict[str, Any] = {"max_steps": 3, "batch_size": 32} if quick else {}
    return dataclasses.replace(recipe, seed=seed, **limits)


def images_picture(
    images: Tensor, alt: str, caption: str, labels: list[str] | None = None, *, columns: int = 10
) -> Picture:
    """Rows of small images as a picture of the report."""
    from doorward.data import grid

    return Picture.of(grid(images, columns=columns, labels=labels, scale=2), alt, caption)
