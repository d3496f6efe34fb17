"""Triggers on disk: a folder with ``trigger.json`` and ``trigger.safetensors``, no pickles.

The JSON holds the trigger's registered name, its configuration, and a digest over both files'
content, so that a damaged or edited folder is refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingData
from doorward.files import atomic_folder, canonical_json, read_json, write_bytes, write_json
from doorward.triggers.base import TRIGGERS, Trigger

SCHEMA = "doorward-trigger/1"

__all__ = ["load_trigger", "save_trigger", "trigger_from_dict", "trigger_to_dict"]


def trigger_to_dict(trigger: Trigger) -> dict[str, Any]:
    """A trigger's registered name and configuration, JSON-ready; tensors are not in it."""
    for name in TRIGGERS:
        if TRIGGERS[name] is type(trigger):
            return {"name": name, **trigger.config()}
    raise InvalidInput(
        f"{type(trigger).__name__} is not a registered trigger",
        remedy="register the class in doorward.triggers.TRIGGERS",
    )


def trigger_from_dict(content: Mapping[str, Any]) -> Trigger:
    """The trigger that `trigger_to_dict` described.

    Raises:
        InvalidInput: the name or an option is unknown.
    """
    options = dict(content)
    return TRIGGERS[str(options.pop("name", None))].from_config(options)


def save_trigger(
    trigger: Trigger, folder: str | os.PathLike[str], rule: dict[str, Any] | None = None
) -> None:
    """Write a trigger (and a label rule, for backdoors) to a folder, whole or not at all.

    Raises:
        StorageFailed: the file system refused.
        InvalidInput: the trigger's class is not registered.
    """
    tensors = {name: tensor.contiguous() for name, tensor in trigger.state_dict().items()}
    content = save_tensors({name: tensor.cpu() for name, tensor in tensors.items()})
    described = {"schema": SCHEMA, "trigger": trigger_to_dict(trigger), "rule": rule}
    with atomic_folder(folder) as temporary:
        write_bytes(temporary / "trigger.safetensors", content)
        write_json(temporary / "trigger.json", {**described, "sha256": _digest(described, content)})


def load_trigger(folder: str | os.PathLike[str]) -> tuple[Trigger, dict[str, Any] | None]:
    """Read what `save_trigger` wrote: the trigger, and the label rule where there is one.

    Raises:
        MissingData: there is no such folder or file.
        BadFile: it is not a trigger's folder.
        IntegrityError: the content was changed after it was saved.
    """
    folder = Path(folder)
    described = read_json(folder / "trigger.json")
    if not isinstance(described, dict) or described.get("schema") != SCHEMA:
        raise BadFile(
            f"{folder / 'trigger.json'} does not describe a trigger",
            why=f"its schema is not {SCHEMA}",
        )
    try:
        content = (folder / "trigger.safetensors").read_bytes()
    except FileNotFoundError:
        raise MissingData(
            f"there is no file {folder / 'trigger.safetensors'}", remedy="copy the whole folder"
        ) from None
    digest = described.pop("sha256", None)
    if digest != _digest(described, content):
        raise IntegrityError(
            f"the trigger in {folder} was changed or damaged after it was saved",
            why="its content does not fit its digest",
            remedy="copy it again from its source",
        )
    try:
        trigger = trigger_from_dict(described["trigger"])
        trigger.load_state_dict(load_tensors(content))
    except (SafetensorError, RuntimeError, TypeError, KeyError) as error:
        raise BadFile(f"the trigger in {folder} cannot be built", why=str(error)) from error
    return trigger, described.get("rule")


def _digest(described: Mapping[str, Any], content: bytes) -> str:
    return hashlib.sha256(canonical_json(described) + b"\n" + content).hexdigest()
