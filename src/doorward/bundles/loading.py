"""Models read from their folder: nothing is believed before it has been checked.

>>> import tempfile, pathlib
>>> from doorward.bundles.saving import save_model
>>> from doorward.models import create
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "first.model"
>>> card = save_model(create("resnet8", classes=2, width=4), folder, evidence={"a": b"1"})
>>> load_model(folder).architecture, digest(folder) == card.digest(), read_evidence(folder, "a")
('resnet8', True, b'1')
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import torch
from torch import nn

from doorward.bundles.card import EVIDENCE, WEIGHTS, ModelCard, read_card
from doorward.bundles.documents import read_limited
from doorward.bundles.skeletons import check_fit, foreign_module, zoo_skeleton
from doorward.bundles.weights import check_finite, read_shapes, read_weights
from doorward.errors import IntegrityError, MissingData, ModelUnsuitable
from doorward.files import sha256_file
from doorward.models import Classifier

__all__ = ["digest", "load_model", "load_module", "read_evidence"]

_AGAIN = "get the bundle again from its source"


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
    check_fit(model.state_dict(), shapes, f"{folder / WEIGHTS} does not fit its card")
    if verify:
        _check_weights(folder, card)
    expected = model.state_dict()
    # Mapped pages would change, or vanish, with the file: the model gets its own copy.
    copied = {
        name: value.to(device=device, dtype=expected[name].dtype, copy=True)
        for name, value in read_weights(folder / WEIGHTS).items()
    }
    check_finite(copied, str(folder))
    # A skeleton of the zoo has no memory to copy into; a foreign module has, and may have tied
    # weights, which an assignment would part.
    model.load_state_dict(copied, assign=card.architecture is not None)
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


def _check_weights(folder: Path, card: ModelCard) -> None:
    path = folder / WEIGHTS
    read_shapes(path)
    if path.stat().st_size != card.weights_bytes or sha256_file(path) != card.weights_sha256:
        raise IntegrityError(
            f"{path} is not the file that its card describes",
            why="its SHA-256 differs from weights_sha256",
            remedy=_AGAIN,
        )
