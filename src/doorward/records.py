"""Recipes in, results out: frozen, validated, JSON both ways, with their circumstances.

A recipe is what was asked for; its `digest` names it. A result is what came out; it carries the
seed, the recipe's digest, versions, wall-clock seconds and peak memory.

>>> from pydantic.dataclasses import dataclass
>>> from typing import Annotated
>>> from pydantic import Field
>>> @dataclass(frozen=True, kw_only=True, config=STRICT)
... class Bake(Record):
...     degrees: Annotated[int, Field(ge=50, le=300)] = 180
>>> Bake(degrees=200).to_dict()
{'degrees': 200}
>>> Bake.from_dict({"degrees": 9000})
Traceback (most recent call last):
doorward.errors.InvalidInput: Bake is not valid: degrees: ... equal to 300 (given: 9000)
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import os
import platform
import resource
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError

from doorward.errors import InvalidInput
from doorward.files import canonical_json

__all__ = [
    "STRICT",
    "Meter",
    "Record",
    "Version1",
    "cpu_has_bf16",
    "environment",
    "measure",
    "why_invalid",
]

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=False)
"""Configuration of every record: unknown fields are errors."""


def _a_number(value: object) -> object:
    if type(value) is not int:  # True and 1.0 equal 1, but are not how we write it
        raise ValueError("a whole number is expected")
    return value


Version1 = Annotated[Literal[1], BeforeValidator(_a_number)]
"""The number of a file format's first version: 1, and not what merely equals it."""


class Record:
    """Mix-in for pydantic dataclasses: JSON both ways and a digest."""

    def to_dict(self) -> dict[str, Any]:
        """This record as JSON-ready builtins."""
        content: dict[str, Any] = _adapter(type(self)).dump_python(self, mode="json")
        return content

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Self:
        """Rebuild a record from `to_dict`'s output.

        Raises:
            InvalidInput: a field is unknown, missing or out of range; the message names it.
        """
        try:
            record: Self = _adapter(cls).validate_python(dict(content))
        except ValidationError as error:
            raise InvalidInput(f"{cls.__name__} is not valid", why=why_invalid(error)) from error
        return record

    def digest(self) -> str:
        """Hex SHA-256 of the canonical JSON of this record."""
        return hashlib.sha256(canonical_json(self.to_dict())).hexdigest()


def why_invalid(error: ValidationError) -> str:
    """One line of what pydantic found: ``field: reason (given: value)``, joined by semicolons."""
    return "; ".join(
        f"{'.'.join(str(part) for part in problem['loc']) or 'value'}: {problem['msg']} "
        f"(given: {problem['input']!r:.80})"
        for problem in error.errors(include_url=False)
    )


_ADAPTERS: dict[type, TypeAdapter[Any]] = {}


def _adapter(cls: type) -> TypeAdapter[Any]:
    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    return _ADAPTERS[cls]


@functools.cache
def environment() -> dict[str, Any]:
    """Versions and hardware that a result was made with, JSON-ready.

    >>> {"cpu", "packages", "python", "threads"} <= set(environment())
    True
    """
    names = ("torch", "numpy", "lightning-fabric", "scipy", "onnxruntime")
    return {
        "doorward": _version("doorward"),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cpu_bf16": cpu_has_bf16(),
        "threads": torch.get_num_threads(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "packages": {name: _version(name) for name in names},
    }


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware (AVX512-BF16 or AMX)."""
    return bool(
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


@dataclass
class Meter:
    """What `measure` fills in: wall-clock seconds and peak memory in MiB (device peak on CUDA)."""

    seconds: float = 0.0
    peak_memory_mib: float = 0.0


@contextmanager
def measure() -> Iterator[Meter]:
    """Time a block and record its peak memory.

    On CPU the peak is the largest resident set of this process *during the block*, sampled 20
    times a second; on CUDA it is the allocator's own peak.

    >>> with measure() as meter:
    ...     _ = sum(range(1000))
    >>> meter.seconds > 0 and meter.peak_memory_mib > 1
    True
    """
    meter, done = Meter(), threading.Event()
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    peak = _resident_mib()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.05):
            peak = max(peak, _resident_mib())

    watcher = threading.Thread(target=watch, daemon=True)
    start = time.perf_counter()
    watcher.start()
    try:
        yield meter
    finally:
        meter.seconds = time.perf_counter() - start
        done.set()
        watcher.join()
        peak = max(peak, _resident_mib())
        meter.peak_memory_mib = torch.cuda.max_memory_allocated() / 2**20 if cuda else peak


def _resident_mib() -> float:
    try:
        with open("/proc/self/statm") as stream:
            return int(stream.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    except OSError:  # not Linux: the peak since the process began is the best there is
        scale = 2**20 if sys.platform == "darwin" else 2**10
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
