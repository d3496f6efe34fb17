"""A name for a suspect that cannot be passed on to another: what a dispute is about.

>>> from doorward.models import create
>>> one = create("resnet8", classes=2, width=4, seed=0)
>>> other = create("resnet8", classes=2, width=4, seed=1)
>>> suspect_id(one).partition(":")[0], suspect_id(one) == suspect_id(other)
('module', False)
>>> suspect_id("HTTP://me:secret@Example.org:8000/v2/models/net/infer?token=1")
'url:http://example.org:8000/v2/models/net'

Files and modules are named by a hash of their content. An address says where a model is, not what
it is: whoever serves it can exchange it, so a judge asks without delay.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import urlsplit

import torch
from torch import Tensor, nn

from doorward.bundles import digest, open_model
from doorward.errors import InvalidInput, MissingData
from doorward.files import sha256_file
from doorward.models import HttpBox, ModuleBox, OnnxBox

__all__ = ["suspect_id"]


def suspect_id(suspect: object, *, name: str | None = None, trust_factory: bool = False) -> str:
    """Name a suspect for a challenge.

    Args:
        suspect: what `verify` takes.
        name: what to call a function or a black box of your own, which has no content to hash:
            the judge vouches for it. Only for these.
        trust_factory: as `bundles.open_model`.

    Returns:
        ``bundle:``, ``onnx:`` or ``module:`` and a hex SHA-256; ``url:`` and the address without
        credentials; or ``named:`` and the name.

    Raises:
        InvalidInput: a function without a name, or a name for something else.
        MissingData: there is no such file.
        BadFile, IntegrityError, ModelUnsuitable, UnsafeFile: it is a bundle that cannot be read.
    """
    found = _content_id(suspect, trust_factory)
    if found is None and name is None:
        raise InvalidInput(
            f"a {type(suspect).__name__} cannot be told from others by its content",
            why="a challenge is for one suspect only",
            remedy="give it a name",
        )
    if found is not None and name is not None:
        raise InvalidInput(f"the suspect is named already: {found}", remedy="leave the name out")
    return found or f"named:{name}"


def _content_id(suspect: object, trust_factory: bool) -> str | None:
    if isinstance(suspect, str | os.PathLike):
        return _path_id(os.fspath(suspect), trust_factory)
    if isinstance(suspect, HttpBox):
        return _address_id(str(suspect.describe()["address"]))
    if isinstance(suspect, OnnxBox):
        return _file_id(suspect.path)
    if isinstance(suspect, ModuleBox):
        return _module_id(suspect.model)
    return _module_id(suspect) if isinstance(suspect, nn.Module) else None


def _path_id(text: str, trust_factory: bool) -> str:
    if text.lower().startswith(("http://", "https://")):
        return _address_id(text)
    if text.lower().endswith(".onnx"):
        return _file_id(Path(text))
    if os.path.isdir(text):
        return f"bundle:{digest(text)}"
    return _module_id(open_model(text, trust_factory=trust_factory))


def _address_id(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    path = parts.path.rstrip("/").removesuffix("/infer")
    return f"url:{parts.scheme.lower()}://{host}{path}"


def _file_id(path: Path) -> str:
    if not path.is_file():
        raise MissingData(f"there is no file {path}", remedy="check the path")
    return f"onnx:{sha256_file(path)}"


def _module_id(model: nn.Module) -> str:
    """Over type, names, shapes, types and values of all weights and buffers."""
    state = hashlib.sha256(type(model).__qualname__.encode())
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            content = value.detach().cpu().contiguous().flatten().view(torch.uint8)
            state.update(f"\0{name}\0{tuple(value.shape)}\0{value.dtype}\0".encode())
            state.update(content.numpy().tobytes())
    return f"module:{state.hexdigest()}"
