"""One word for any model: a bundle, a factory, an ONNX file, an endpoint.

>>> import tempfile, pathlib
>>> from doorward.bundles.saving import save_model
>>> from doorward.models import create
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "first.model"
>>> _ = save_model(create("resnet8", classes=2, width=4), folder)
>>> open_model(folder).num_classes, open_black_box(folder).num_classes
(2, 2)

`open_model` gives a module with weights and gradients; `open_black_box` something that only
answers, which is all that ownership tests need.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from torch import nn

from doorward.bundles.loading import load_module
from doorward.bundles.weights import (
    check_finite,
    mismatches,
    read_shapes,
    read_weights,
    refuse_pickle,
)
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.models import BlackBox, HttpBox, OnnxBox, as_black_box, load_factory

__all__ = ["open_black_box", "open_model"]

_FACTORY = re.compile(r"(?P<factory>[^:]+:[A-Za-z_][\w.]*)(=(?P<weights>.+))?")
_FORMS = "a bundle folder, or package.module:factory[=weights.safetensors]"


def open_model(
    target: str | os.PathLike[str],
    *,
    trust_factory: bool = False,
    verify: bool = True,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Open a model with its weights.

    Args:
        target: a bundle folder; or ``package.module:factory`` (or ``file.py:factory``), which is
            imported and called without arguments; or either with ``=weights.safetensors``.
        trust_factory: allow a *bundle* that names a factory to have it imported. (Who types the
            factory's name has decided already.)
        verify: hash a bundle's weights and compare them with its card.
        device: where the model shall be.

    Returns:
        The module in evaluation mode.

    Raises:
        MissingData: there is nothing at `target`.
        UnsafeFile: a pickle (the message holds the command that converts it), or a bundle with a
            foreign factory that is not trusted.
        BadFile, IntegrityError, ModelUnsuitable: as `load_model`.
        InvalidInput: `target` only answers (ONNX, http), or is no form known.

    """
    text = os.fspath(target)
    if _is_url(text) or text.lower().endswith(".onnx"):
        raise InvalidInput(
            f"{text} only answers: its weights cannot be changed or differentiated here",
            remedy=f"give {_FORMS}",
        )
    named = None if os.path.exists(text) else _FACTORY.fullmatch(text)
    if named is None:
        _refuse_bare_weights(text)
        return load_module(text, trust_factory=trust_factory, verify=verify, device=device)
    model = load_factory(named["factory"])
    if named["weights"]:
        _load_into(model, Path(named["weights"]), named["factory"])
    return model.to(device).eval()


def open_black_box(
    target: str | os.PathLike[str] | object,
    *,
    trust_factory: bool = False,
    verify: bool = True,
    device: torch.device | str = "cpu",
) -> BlackBox:
    """Open anything that answers with labels.

    Args:
        target: what `open_model` takes; or an ``.onnx`` file; or the ``http(s)://`` address of an
            Open Inference Protocol server; or a module or callable itself.
        trust_factory: as `open_model`.
        verify: as `open_model`.
        device: where a module shall run.

    Raises:
        MissingData, UnsafeFile, BadFile, IntegrityError, ModelUnsuitable, InvalidInput: as
            `open_model`.
        EndpointFailed: the server does not answer.
    """
    if not isinstance(target, str | os.PathLike):
        return as_black_box(target)
    text = os.fspath(target)
    if _is_url(text):
        return HttpBox(text)
    if text.lower().endswith(".onnx"):
        return OnnxBox(text)
    return as_black_box(open_model(text, trust_factory=trust_factory, verify=verify, device=device))


def _is_url(text: str) -> bool:
    return text.lower().startswith(("http://", "https://"))


def _refuse_bare_weights(text: str) -> None:
    refuse_pickle(Path(text))
    if text.lower().endswith(".safetensors"):
        raise InvalidInput(
            f"{text} holds weights only",
            why="what they are the weights of is not in the file",
            remedy=f"give package.module:factory={text}, or make a bundle with doorward convert",
        )


def _load_into(model: nn.Module, path: Path, factory: str) -> None:
    refuse_pickle(path)
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    differences = mismatches(expected, read_shapes(path))
    if differences:
        raise ModelUnsuitable(
            f"{path} does not fit the module that {factory} makes",
            why="; ".join(differences),
            remedy="give the weights of this very module",
        )
    weights = read_weights(path)
    check_finite(weights, str(path))
    model.load_state_dict(weights)
