"""A trial as it is handed around: a bundle, or the zip of one that a desk holds.

>>> import tempfile
>>> from doorward.bundles import save_model
>>> from doorward.models import create
>>> folder = Path(tempfile.mkdtemp()) / "digits.trial"
>>> _ = save_model(create("resnet8", classes=10, input_shape=(1, 16, 16), width=4), folder,
...                licence="To be tried, not used.")
>>> open_trial(folder).licence
'To be tried, not used.'
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from doorward.bundles import ModelCard, open_model, read_card
from doorward.data import ImageData
from doorward.data.archives import unpack
from doorward.errors import InvalidInput

__all__ = ["Trial", "fitted", "open_trial"]


class Trial(NamedTuple):
    """A trial and the terms that are written on it.

    Args:
        model: in evaluation mode, on the CPU.
        card: of its bundle; None for a model without one.
    """

    model: nn.Module
    card: ModelCard | None = None

    @property
    def licence(self) -> str | None:
        """The text that the bundle states, if it states one."""
        return self.card.licence if self.card else None

    @property
    def origin(self) -> dict[str, Any]:
        """What `save_model` must be told of a foreign module; nothing for one of the zoo."""
        if self.card is None or self.card.factory is None:
            return {}
        return {
            "factory": self.card.factory,
            "options": dict(self.card.options),
            "classes": self.card.classes,
            "input_shape": self.card.input_shape,
        }


def open_trial(trial: str | os.PathLike[str], *, trust_factory: bool = False) -> Trial:
    """Open a trial; a zip is unpacked into a folder that is gone afterwards.

    Args:
        trial: a bundle's folder, the zip of one, or whatever `doorward.bundles.open_model` takes.
        trust_factory: import the Python code that a bundle names.

    Raises:
        MissingData: there is nothing.
        BadFile, UnsafeFile, IntegrityError, ModelUnsuitable: it is no whole and harmless bundle.
    """
    place = Path(trial)
    if not place.is_file() or not zipfile.is_zipfile(place):
        return _opened(place, trust_factory)
    with tempfile.TemporaryDirectory(prefix="doorward-trial-") as name:
        folder = Path(name) / "trial"
        unpack(place, folder)
        return _opened(folder, trust_factory)


def fitted(images: ImageData, model: nn.Module) -> ImageData:
    """The images in the size and number of channels that a model of the zoo takes.

    Raises:
        InvalidInput: it takes images of neither one nor three channels, or knows other classes.
    """
    known = getattr(model, "num_classes", images.num_classes)
    if known != images.num_classes:
        raise InvalidInput(
            f"the model has {known} classes",
            why=f"{images.name} has {images.num_classes}",
            remedy="count on images of the kind that it was trained for",
        )
    shape = getattr(model, "input_shape", images.image_shape)
    channels, height, width = shape
    if (height, width) != images.image_shape[1:] and height == width:
        images = images.resized(height)
    return images if channels == images.image_shape[0] else images.with_channels(channels)


def _opened(place: Path, trust_factory: bool) -> Trial:
    model = open_model(place, trust_factory=trust_factory)
    return Trial(model, read_card(place) if (place / "model.json").is_file() else None)
