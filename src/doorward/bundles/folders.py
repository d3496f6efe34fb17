"""Model folders: a model with its card and evidence, whole or absent, checked when read.

>>> import tempfile, pathlib
>>> from doorward.models import create
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "first.model"
>>> card = save_model(create("resnet8", classes=2, width=4), folder, metrics={"accuracy": 0.5})
>>> sorted(path.name for path in folder.iterdir())
['model.json', 'model.safetensors']
>>> load_model(folder).architecture, digest(folder) == card.digest()
('resnet8', True)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from doorward.bundles.card import (
    CARD,
    EVIDENCE,
    WEIGHTS,
    ModelCard,
    evidence_bytes,
    read_card,
)
from doorward.bundles.documents import read_limited
from doorward.bundles.skeletons import foreign_module, zoo_skeleton
from doorward.bundles.weights import (
    check_finite,
    mismatches,
    module_weights,
    read_shapes,
    read_weights,
    write_weights,
)
from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingData, ModelUnsuitable
from doorward.files import atomic_folder, sha256_file, write_json
from doorward.models import Classifier

__all__ = ["digest", "load_model", "load_module", "read_evidence", "save_model"]

_AGAIN = "get the bundle again from its source"


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


def load_model(
    folder: str | os.PathLike[str], *, verify: bool = True, device: torch.device | str = "cpu"
) -> Classifier:
    """Read a model of the zoo from its folder.

    Args:
        folder: what `save_model` wrote.
        verify: hash the weights and compare with the card. Without, a changed file is noticed only
            where it no longer fits (names, shapes, types, NaN).
        device: where the model shall be.

    Returns:
        The model in evaluation mode.

    Raises:
        MissingData: folder or file is missing.
        UnsafeFile: a pickle; the message holds the command that converts it.
        BadFile: card or weights are damaged, or do not fit each other.
        IntegrityError: the weights are not those the card was written for.
        UnknownName: the architecture is not in this version's zoo.
        ModelUnsuitable: NaN weights, or a foreign module (see `load_module`).
    """
    card = read_card(folder)
    if card.architecture is None:
        raise ModelUnsuitable(
            f"{folder} holds a foreign module",
            why=f"it is made by {card.factory}, which would be imported and run",
            remedy="if you trust that package: open_model(folder, trust_factory=True)",
        )
    model = load_module(folder, verify=verify, device=device)
    assert isinstance(model, Classifier)  # noqa: S101 - the branch above leaves nothing else
    return model


def load_module(
    folder: str | os.PathLike[str],
    *,
    verify: bool = True,
    trust_factory: bool = False,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Read any model folder, also one with a foreign module (arguments and errors: `load_model`).

    Args:
        folder: what `save_model` wrote.
        verify: hash the weights and compare with the card.
        trust_factory: allow the import of the package that the card names, which runs its code.
        device: where the model shall be.

    Raises:
        UnsafeFile: the module is foreign and `trust_factory` was not given.
    """
    folder = Path(folder)
    card = read_card(folder)
    shapes = read_shapes(folder / WEIGHTS)
    model = (
        zoo_skeleton(card)
        if card.architecture is not None
        else foreign_module(card, folder, trusted=trust_factory)
    )
    _check_fit(model.state_dict(), shapes, f"{folder / WEIGHTS} does not fit its card")
    if verify:
        _check_weights(folder, card)
    weights = read_weights(folder / WEIGHTS)
    check_finite(weights, str(folder))
    expected = model.state_dict()
    # Mapped pages would change, or vanish, with the file: the model gets its own copy.
    copied = {
        name: value.to(device=device, dtype=expected[name].dtype, copy=True)
        for name, value in weights.items()
    }
    model.load_state_dict(copied, assign=True)
    return model.to(device).eval()


def digest(folder: str | os.PathLike[str]) -> str:
    """Hash a model folder and name its content.

    Returns:
        Hex SHA-256 over card, weights and evidence, the same wherever the folder lies. A signature
        (``model.sig``) or a README beside them does not count.

    Raises:
        MissingData, BadFile: as `load_model`.
        IntegrityError: weights or evidence are not what the card says.
    """
    folder = Path(folder)
    card = read_card(folder)
    _check_weights(folder, card)
    for name in card.evidence:
        read_evidence(folder, name)
    extra = folder / EVIDENCE
    unknown = (
        sorted({path.name for path in extra.iterdir()} - set(card.evidence))
        if extra.is_dir()
        else []
    )
    if unknown:
        raise IntegrityError(
            f"{extra} holds files that the card does not know",
            why=", ".join(unknown[:8]),
            remedy=_AGAIN,
        )
    return card.digest()


def read_evidence(folder: str | os.PathLike[str], name: str) -> bytes:
    """Read one evidence file and check it against the card.

    Raises:
        MissingData: the card names no such evidence, or the file is missing.
        IntegrityError: it was changed.
    """
    card, path = read_card(folder), Path(folder, EVIDENCE, name)
    if name not in card.evidence:  # names on the card are plain: no path can leave the folder
        raise MissingData(
            f"{folder} has no evidence called {name!r}",
            remedy=f"it has: {', '.join(card.evidence) or 'none'}",
        )
    content = read_limited(path, 2**30)
    if hashlib.sha256(content).hexdigest() != card.evidence[name]:
        raise IntegrityError(f"{path} was changed", why="it differs from its digest", remedy=_AGAIN)
    return content


def _check_place(folder: Path) -> None:
    occupied = folder.is_file() or (
        folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file()
    )
    if occupied:
        raise InvalidInput(
            f"{folder} exists and is not a model bundle",
            why="saving would replace it",
            remedy="choose another name",
        )


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
        _check_fit(zoo_skeleton(card).state_dict(), shapes, f"it is no {card.architecture}")
    except (BadFile, InvalidInput) as error:
        raise ModelUnsuitable(
            "the model could not be loaded again",
            why=": ".join(filter(None, (error.what, error.why))),
            remedy='name a function that makes it: factory="package.module:function"',
        ) from error


def _check_fit(
    expected: Mapping[str, Tensor], found: Mapping[str, tuple[int, ...]], what: str
) -> None:
    differences = mismatches({name: tuple(value.shape) for name, value in expected.items()}, found)
    if differences:
        raise BadFile(what, why="; ".join(differences), remedy=_AGAIN)


def _check_weights(folder: Path, card: ModelCard) -> None:
    path = folder / WEIGHTS
    read_shapes(path)
    if path.stat().st_size != card.weights_bytes or sha256_file(path) != card.weights_sha256:
        raise IntegrityError(
            f"{path} is not the file that its card describes",
            why="its SHA-256 differs from weights_sha256",
            remedy=_AGAIN,
        )
