"""Models written to their folder: whole or absent, and only if they can be read again.

>>> import tempfile, pathlib
>>> from doorward.models import create
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "first.model"
>>> card = save_model(create("resnet8", classes=2, width=4), folder, metrics={"accuracy": 0.5})
>>> sorted(path.name for path in folder.iterdir())
['model.json', 'model.safetensors']
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from doorward.bundles.card import CARD, EVIDENCE, WEIGHTS, ModelCard, evidence_bytes
from doorward.bundles.documents import read_object
from doorward.bundles.signing import SIGNATURE
from doorward.bundles.skeletons import check_fit, zoo_skeleton
from doorward.bundles.weights import module_weights, write_weights
from doorward.errors import BadFile, InvalidInput, MissingData, ModelUnsuitable
from doorward.files import atomic_folder, sha256_file, write_json
from doorward.models import Classifier

__all__ = ["save_model"]

_OWN = {CARD, WEIGHTS, EVIDENCE, SIGNATURE}


def save_model(
    model: nn.Module,
    folder: str | os.PathLike[str],
    *,
    recipe_digest: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    licence: str | None = None,
    evidence: Mapping[str, bytes | Mapping[str, Any]] | None = None,
    factory: str | None = None,
    options: Mapping[str, Any] | None = None,
    classes: Sequence[str] | None = None,
    input_shape: tuple[int, int, int] | None = None,
) -> ModelCard:
    """Write a model folder. The same model gives the same bytes, hence the same digest.

    Args:
        model: a `Classifier` of the zoo; or any module, with `factory`, `classes`, `input_shape`.
        folder: where; an older bundle there is replaced in one step, anything else is refused.
        recipe_digest: digest of the recipe it was trained with (hex).
        metrics: JSON-ready numbers to store with it.
        licence: SPDX identifier or a sentence.
        evidence: file name -> content, stored in ``evidence/``.
        factory: ``package.module:function`` that makes the foreign module.
        options: what the factory is called with.
        classes: class names of a foreign module.
        input_shape: (C, H, W) of a foreign module.

    Returns:
        The card as written; its ``digest()`` names the folder's content.

    Raises:
        ModelUnsuitable: NaN weights, or a model that its architecture would not give back.
        InvalidInput: a field is not acceptable, or `folder` holds something else.
        StorageFailed: the disk refused; nothing is left half-written.
    """
    folder = Path(folder)
    _check_place(folder)
    weights = module_weights(model)
    files = evidence_bytes(evidence)
    origin = _origin(model, factory, options, classes, input_shape)
    draft = ModelCard.from_dict(
        {
            **origin,
            "recipe_digest": recipe_digest,
            "metrics": dict(metrics or {}),
            "licence": licence,
            "evidence": {name: hashlib.sha256(files[name]).hexdigest() for name in sorted(files)},
            "weights_sha256": "0" * 64,
            "weights_bytes": 8,
        }
    )
    draft.digest()  # a card that cannot be written shall fail before the weights are
    if draft.architecture is not None:
        _check_reloadable(draft, weights)
    with atomic_folder(folder) as place:
        write_weights(place / WEIGHTS, weights)
        measured = {
            "weights_sha256": sha256_file(place / WEIGHTS),
            "weights_bytes": (place / WEIGHTS).stat().st_size,
        }
        card = ModelCard.from_dict({**draft.to_dict(), **measured})
        if files:
            (place / EVIDENCE).mkdir()
        for name, content in files.items():
            (place / EVIDENCE / name).write_bytes(content)
        write_json(place / CARD, card.to_dict())
    return card


def _check_place(folder: Path) -> None:
    """Saving replaces the whole folder: refuse if anything but an older bundle is in it."""
    if not os.path.lexists(folder):
        return
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    other = sorted(names - _OWN)
    if not names or (folder.is_dir() and not other and _is_card(folder / CARD)):
        return
    raise InvalidInput(
        f"{folder} exists and is not a model bundle alone",
        why=f"saving would replace all of it: {', '.join(other[:5]) or CARD}",
        remedy="choose another name",
    )


def _is_card(path: Path) -> bool:
    try:  # other programs call their files model.json, too
        return bool(read_object(path).get("format") == "doorward-model")
    except (BadFile, MissingData):
        return False


def _origin(
    model: nn.Module,
    factory: str | None,
    options: Mapping[str, Any] | None,
    classes: Sequence[str] | None,
    input_shape: tuple[int, int, int] | None,
) -> dict[str, Any]:
    if factory is not None:
        names = classes or getattr(model, "classes", None)
        shape = input_shape or getattr(model, "input_shape", None)
        if names is None or shape is None:
            raise InvalidInput(
                "a foreign module needs classes and input_shape",
                remedy='give classes=["cat", "dog"], input_shape=(3, 32, 32)',
            )
        return {
            "factory": factory,
            "options": dict(options or {}),
            "classes": list(names),
            "input_shape": list(shape),
        }
    if not isinstance(model, Classifier):
        raise ModelUnsuitable(
            f"a {type(model).__name__} is not a model of the zoo",
            why="its folder must say how to make it again",
            remedy='name a function that makes it: factory="package.module:function"',
        )
    return {
        "architecture": model.architecture,
        "options": model.options,
        "classes": list(model.classes),
        "input_shape": list(model.input_shape),
        "mean": list(model.mean),
        "std": list(model.std),
    }


def _check_reloadable(card: ModelCard, weights: Mapping[str, Tensor]) -> None:
    """A model whose layers were exchanged could be saved but never loaded: say so now."""
    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    try:
        check_fit(zoo_skeleton(card).state_dict(), shapes, f"it is no {card.architecture}")
    except (BadFile, InvalidInput) as error:
        raise ModelUnsuitable(
            "the model could not be loaded again",
            why=": ".join(filter(None, (error.what, error.why))),
            remedy='name a function that makes it: factory="package.module:function"',
        ) from error
