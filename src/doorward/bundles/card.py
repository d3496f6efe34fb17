"""The card of a model folder, ``model.json``: what the weights are, and what they came with.

>>> card = ModelCard(
...     architecture="resnet8", classes=("cat", "dog"), input_shape=(3, 32, 32),
...     mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25), weights_sha256="0" * 64, weights_bytes=8)
>>> ModelCard.from_dict(card.to_dict()) == card
True
>>> len(card.digest())
64

The card names the SHA-256 of the weights and of every evidence file, so its own digest names the
whole folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic.dataclasses import dataclass

from doorward.bundles.documents import canonical, read_object
from doorward.bundles.weights import refuse_pickle
from doorward.errors import BadFile, InvalidInput, MissingData
from doorward.records import STRICT, Record, Version1

__all__ = ["CARD", "EVIDENCE", "WEIGHTS", "ModelCard", "evidence_bytes", "read_card"]

CARD, WEIGHTS, EVIDENCE = "model.json", "model.safetensors", "evidence"
"""Names within a model folder."""

_EVIDENCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,119}")
_FACTORY = r"^[^:\n]+:[A-Za-z_][\w.]*$"


def _names(classes: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(classes)) < len(classes) or not all(classes):
        raise ValueError("class names must be distinct and not empty")
    return classes


def _evidence(evidence: dict[str, str]) -> dict[str, str]:
    for name in evidence:
        if not _EVIDENCE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a plain file name (letters, digits, . _ -)")
    if len({name.lower() for name in evidence}) < len(evidence):
        raise ValueError("two names differ in case only")
    return evidence


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Number = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=1000)]
Small = Annotated[int, Field(ge=-(2**31), lt=2**31, strict=True)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ModelCard(Record):
    """What stands in ``model.json``.

    Attributes:
        architecture: a name of the zoo; None for a foreign module.
        factory: ``package.module:function`` (or ``file.py:function``) that makes a foreign module;
            None for the zoo's.
        options: what architecture or factory are called with.
        classes: names, in the order of the logits.
        input_shape: (C, H, W) of the images.
        mean: subtracted from pixels inside the model, per channel; None for a foreign module.
        std: divided by inside the model, per channel; None for a foreign module.
        recipe_digest: digest of the recipe it was trained with, if known.
        licence: SPDX identifier or a sentence, if given.
        metrics: whatever was measured ({"accuracy": 0.98}).
        weights_sha256: of ``model.safetensors``.
        weights_bytes: size of ``model.safetensors``.
        evidence: file name in ``evidence/`` -> SHA-256.
    """

    format: Literal["doorward-model"] = "doorward-model"
    version: Version1 = 1
    architecture: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    factory: Annotated[str, Field(pattern=_FACTORY, max_length=500)] | None = None
    options: Annotated[
        dict[str, Small | bool | Number | Text | list[Small | Number | Text] | None],
        Field(max_length=100),
    ] = Field(default_factory=dict)
    classes: Annotated[
        tuple[Text, ...], Field(min_length=2, max_length=100_000), AfterValidator(_names)
    ]
    input_shape: tuple[
        Annotated[int, Field(ge=1, le=64, strict=True)],
        Annotated[int, Field(ge=1, le=8192, strict=True)],
        Annotated[int, Field(ge=1, le=8192, strict=True)],
    ]
    mean: tuple[Number, ...] | None = None
    std: tuple[Annotated[Number, Field(gt=0)], ...] | None = None
    recipe_digest: Sha256 | None = None
    licence: Annotated[str, Field(min_length=1, max_length=10_000)] | None = None
    metrics: Annotated[dict[str, int | Number | bool | Text | None], Field(max_length=1000)] = (
        Field(default_factory=dict)
    )
    weights_sha256: Sha256
    weights_bytes: Annotated[int, Field(ge=8, strict=True)]
    evidence: Annotated[dict[str, Sha256], Field(max_length=1000), AfterValidator(_evidence)] = (
        Field(default_factory=dict)
    )

    @model_validator(mode="after")
    def _one_origin(self) -> ModelCard:
        if (self.architecture is None) == (self.factory is None):
            raise ValueError("give either an architecture or a factory")
        for values in (self.mean, self.std):
            if values is not None and len(values) != self.input_shape[0]:
                raise ValueError("mean and std need one value for each channel")
        return self

    def digest(self) -> str:
        """Hex SHA-256 that names card, weights and evidence together."""
        content = canonical(self.to_dict(), "the card")
        return hashlib.sha256(b"doorward model\0" + content).hexdigest()


def read_card(folder: str | os.PathLike[str]) -> ModelCard:
    """Read and validate the card of a model folder; the weights are not touched.

    Raises:
        MissingData: there is no such folder, or no card in it.
        UnsafeFile: it is a pickle, not a folder; the message holds the command that converts it.
        BadFile: the card is damaged, or of a later version of Doorward.
    """
    folder = Path(folder)
    refuse_pickle(folder)
    path = folder / CARD
    if not os.path.isfile(path):  # unlike Path.is_file, never fails itself
        raise MissingData(
            f"{folder} is not a model bundle",
            why=f"there is no {path}" if os.path.exists(folder) else "there is no such folder",
            remedy="give a folder that save_model or a doorward command wrote",
        )
    content = read_object(path)
    if content.get("format") == "doorward-model" and content.get("version") != 1:
        raise BadFile(
            f"{path} is of version {content.get('version')!s:.20}",
            why="this Doorward reads version 1",
            remedy="upgrade: pip install -U doorward",
        )
    try:
        return ModelCard.from_dict(content)
    except InvalidInput as error:
        raise BadFile(
            f"{path} is not a model card", why=error.why, remedy="get the bundle again"
        ) from error


def evidence_bytes(evidence: Mapping[str, bytes | Mapping[str, Any]] | None) -> dict[str, bytes]:
    """Evidence as file contents: bytes as they are, mappings as indented JSON.

    Raises:
        InvalidInput: a name is no plain file name, or a mapping has no JSON form.
    """
    contents: dict[str, bytes] = {}
    for name, content in (evidence or {}).items():
        if isinstance(content, bytes | bytearray):
            contents[name] = bytes(content)
        else:
            travelled = json.loads(canonical(content, f"evidence {name!r}"))
            contents[name] = json.dumps(travelled, indent=2, ensure_ascii=False).encode()
    try:
        _evidence(dict.fromkeys(contents, ""))
    except ValueError as error:
        raise InvalidInput("evidence has a bad name", why=str(error)) from error
    return contents
