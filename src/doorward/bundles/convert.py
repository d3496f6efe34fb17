"""Foreign PyTorch checkpoints, turned into model folders without running their code.

>>> import tempfile, pathlib, torch
>>> from doorward.models import create
>>> folder = pathlib.Path(tempfile.mkdtemp())
>>> foreign = create("resnet8", classes=2, width=4)
>>> torch.save({"epoch": 3, "state_dict": foreign.state_dict()}, folder / "model.pt")
>>> convert(folder / "model.pt", folder / "bundle", architecture="resnet8", classes=["a", "b"],
...         options={"width": 4}).architecture
'resnet8'

Only ``torch.load(weights_only=True)`` is used: it builds tensors and containers and nothing else.
A checkpoint that needs more (a whole pickled module, or malice) is refused.
"""

from __future__ import annotations

import os
import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from doorward.bundles.card import ModelCard
from doorward.bundles.saving import save_model
from doorward.bundles.weights import is_pickle, mismatches, read_weights
from doorward.errors import BadFile, InvalidInput, MissingData, ModelUnsuitable, UnsafeFile
from doorward.models import create, load_factory

__all__ = ["convert", "read_checkpoint"]

_ENTRIES = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.")
_HEADS = ("fc.", "linear.", "classifier.", "output.", "head.")


def convert(
    checkpoint: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    classes: int | Sequence[str],
    architecture: str | None = None,
    factory: str | None = None,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    options: Mapping[str, Any] | None = None,
    entry: str | None = None,
    licence: str | None = None,
) -> ModelCard:
    """Turn a PyTorch checkpoint (or a bare safetensors file) into a model folder.

    Args:
        checkpoint: a state dict, or a dictionary that holds one (see `read_checkpoint`).
        folder: where the bundle shall be.
        classes: how many classes, or their names, in the order of the logits.
        architecture: a name of the zoo. Or:
        factory: ``package.module:function`` that makes the module; it is imported and called.
        input_shape: (C, H, W).
        mean: what the model was trained to have subtracted from pixels in [0, 1] (zoo only).
        std: what the model was trained to have pixels divided by (zoo only).
        options: of the architecture, or what the factory is called with.
        entry: which entry of the checkpoint holds the state dict, where it is not an obvious one.
        licence: SPDX identifier or a sentence.

    Returns:
        The card of the new folder.

    Raises:
        MissingData: there is no such file.
        UnsafeFile: reading the checkpoint would run code.
        BadFile: it is damaged, or no state dict is found in it.
        ModelUnsuitable: names or shapes do not fit the model (all differences are listed), or NaN.
        InvalidInput: neither or both of architecture and factory.
    """
    if (architecture is None) == (factory is None):
        raise InvalidInput(
            "give either an architecture or a factory",
            remedy='architecture="resnet18", or factory="my_package.nets:make_net"',
        )
    found = read_checkpoint(checkpoint, entry=entry)
    model: nn.Module
    if architecture is not None:
        model = create(
            architecture,
            classes=classes,
            input_shape=input_shape,
            mean=mean,
            std=std,
            **dict(options or {}),
        )
    else:
        model = load_factory(str(factory), **dict(options or {}))
        if mean is not None or std is not None:
            raise InvalidInput(
                "mean and std were given with a factory",
                why="a foreign module normalises its input itself",
                remedy="do it in the module that the factory makes",
            )
    _fill(model, found, Path(checkpoint), architecture or str(factory))
    names = [str(i) for i in range(classes)] if isinstance(classes, int) else list(classes)
    return save_model(
        model,
        folder,
        licence=licence,
        factory=factory,
        options=options if factory else None,
        classes=names,
        input_shape=input_shape,
    )


def read_checkpoint(path: str | os.PathLike[str], *, entry: str | None = None) -> dict[str, Tensor]:
    """Read the state dict in a checkpoint, with nothing but tensors and containers allowed.

    Args:
        path: ``.safetensors``, or anything ``torch.load`` reads: a state dict, or a dictionary
            with one under ``state_dict``, ``model``, ``net``, ... .
        entry: the entry that holds the state dict.

    Raises:
        MissingData: there is no such file.
        UnsafeFile: it needs code to be read.
        BadFile: it is damaged, or holds no state dict.
    """
    path = Path(path)
    if not os.path.isfile(path):
        raise MissingData(f"there is no file {path}", remedy="check the path")
    if path.suffix.lower() == ".safetensors" and not is_pickle(path):
        return read_weights(path)
    return _find_state(_load(path), path, entry)


def _load(path: Path) -> Any:
    try:
        # A stream, not a path: torch.load would choose another reader by the file's name.
        with path.open("rb") as stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch.load about its own older formats
            return torch.load(stream, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        text = str(error)
        names = re.findall(r"GLOBAL ([\w.]+)", text)
        if names or "Unsupported" in text:
            raise UnsafeFile(
                f"{path} cannot be read without running code",
                why=f"it refers to {names[0]}" if names else "it holds more than tensors",
                remedy="where you trust it, save the bare weights in the project that made it: "
                'torch.save(model.state_dict(), "weights.pt"), and convert that file',
            ) from error
        raise _damaged(path, error) from error
    except Exception as error:
        # The reader meets arbitrary bytes here; whatever it stumbles over, the file is damaged.
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> BadFile:
    reason = (str(error).splitlines() or [""])[0][:200]
    return BadFile(
        f"{path} is not a PyTorch checkpoint that can be read",
        why=f"{type(error).__name__}: {reason}",
        remedy="it may be truncated: get it again",
    )


def _find_state(content: Any, path: Path, entry: str | None) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise BadFile(f"{path} holds no state dict", why=f"it holds a {type(content).__name__}")
    if entry is not None:
        candidates = [content.get(entry)]
    else:
        candidates = [content, *(content.get(name) for name in _ENTRIES)]
    for candidate in candidates:
        if isinstance(candidate, Mapping) and candidate:
            state = {str(name): value for name, value in candidate.items()}
            if all(isinstance(value, Tensor) for value in state.values()):
                return state
    listed = ", ".join(str(name)[:40] for name in list(content)[:12])
    raise BadFile(
        f"{path} holds no state dict" + (f" under {entry!r}" if entry else ""),
        why=f"its entries are: {listed or 'none'}",
        remedy="name the one that holds it with entry=... (--entry)",
    )


def _fill(model: nn.Module, found: dict[str, Tensor], path: Path, name: str) -> None:
    """Load `found` into `model` under the renaming that fits, or say what does not."""
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    best: list[str] = []
    fewest = float("inf")
    for state in _renamings(found):
        # PyTorch before 0.4.1 did not count batches; without momentum=None the count has no use.
        for key in expected.keys() - state.keys():
            if key.endswith(".num_batches_tracked"):
                state[key] = torch.zeros((), dtype=torch.int64)
        shapes = {key: tuple(value.shape) for key, value in state.items()}
        if shapes == expected:
            model.load_state_dict(state)
            return
        wrong = sum(shapes.get(key) != shape for key, shape in expected.items())
        wrong += len(shapes.keys() - expected.keys())
        if wrong < fewest:
            fewest, best = wrong, mismatches(expected, shapes)
    raise ModelUnsuitable(
        f"{path} does not fit {name}",
        why="; ".join(best),
        remedy="choose another architecture or options, or give the project's own "
        "package.module:function as factory",
    )


def _renamings(found: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The state dict as it is, without wrappers' prefixes, and in the zoo's body/head naming."""
    state = dict(found)
    while True:
        yield dict(state)
        yield {_zoo_name(key): value for key, value in state.items()}
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in state)), None)
        if prefix is None:
            return
        state = {key.removeprefix(prefix): value for key, value in state.items()}


def _zoo_name(key: str) -> str:
    head = next((name for name in _HEADS if key.startswith(name)), None)
    return f"head.{key.removeprefix(head)}" if head else f"body.{key}"
