"""Anyone's model, from the name of a function that builds it.

>>> model = load_factory("torch.nn:Linear", in_features=4, out_features=2)
>>> model
Linear(in_features=4, out_features=2, bias=True)

A name is ``package.module:factory`` for what is installed or on ``PYTHONPATH``, or
``folder/file.py:factory`` for a file. Importing runs the module's code: name only code you trust.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from doorward.errors import InvalidInput, MissingData, ModelUnsuitable, UnknownName

__all__ = ["load_factory"]


def load_factory(name: str, **arguments: Any) -> nn.Module:
    """Build a model by calling ``package.module:factory`` or ``file.py:factory``.

    Args:
        name: the module (or file), a colon, and the callable in it (may be dotted).
        arguments: keyword arguments for the callable.

    Returns:
        What the callable returned, or the module itself if the name is that of an `nn.Module`
        instance and no arguments are given.

    Raises:
        InvalidInput: the name has another form, or the call failed.
        MissingData: there is no such module or file.
        UnknownName: the module has no such attribute; the message lists its callables.
        ModelUnsuitable: what came back is no `nn.Module`.

    >>> load_factory("torch.nn.Linear")
    Traceback (most recent call last):
    doorward.errors.InvalidInput: 'torch.nn.Linear' names no factory: the form is ...
    """
    place, _, attribute = name.rpartition(":")
    if not place or not all(part.isidentifier() for part in attribute.split(".")):
        raise InvalidInput(
            f"{name!r} names no factory",
            why="the form is package.module:factory or folder/file.py:factory",
            remedy="put a colon between the module and the function that returns the model",
        )
    factory: Any = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    for part in attribute.split("."):
        if not hasattr(factory, part):
            callables = [key for key, value in vars(factory).items() if callable(value)]
            shown = [key for key in callables if not key.startswith("_")]
            raise UnknownName.of(f"callable of {place}", part, shown)
        factory = getattr(factory, part)
    if isinstance(factory, nn.Module) and not arguments:
        return factory
    return _call(name, factory, arguments)


def _call(name: str, factory: Any, arguments: dict[str, Any]) -> nn.Module:
    if not callable(factory):
        raise InvalidInput(f"{name} is {factory!r:.60}", why="a callable is needed")
    try:
        model = factory(**arguments)
    except Exception as error:  # foreign code may raise anything
        given = ", ".join(f"{key}={value!r:.40}" for key, value in arguments.items())
        raise InvalidInput(
            f"calling {name}({given}) failed",
            why=f"{type(error).__name__}: {error}",
            remedy="give it the arguments it needs, or wrap it in a function that does",
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelUnsuitable(
            f"{name} returned a {type(model).__name__}",
            why="a torch.nn.Module is needed",
            remedy="return the model itself",
        )
    return model


def _import_module(name: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise InvalidInput(
            f"{name!r} is no module name", remedy="write package.module, or a path ending in .py"
        )
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        itself = error.name is not None and f"{name}.".startswith(f"{error.name}.")
        what = f"there is no module {name}" if itself else f"{name} imports what is not there"
        raise MissingData(
            what,
            why=str(error),
            remedy="install it, add its folder to PYTHONPATH, or give the path of a .py file",
        ) from error
    except Exception as error:  # foreign code may raise anything
        raise _import_failed(name, error) from error


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise MissingData(f"there is no file {path}", remedy="check the path")
    # A name of its own keeps the file from hiding, or being hidden by, an installed module.
    name = f"doorward_factory_{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # foreign code may raise anything
        del sys.modules[name]
        raise _import_failed(str(path), error) from error
    return module


def _import_failed(name: str, error: Exception) -> InvalidInput:
    return InvalidInput(f"importing {name} failed", why=f"{type(error).__name__}: {error}")
