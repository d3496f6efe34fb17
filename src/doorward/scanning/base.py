"""What every scanner is: a frozen record of parameters with one hook.

A scanner of your own is the numbers it needs and `look`, which says something of every class:

>>> from pydantic.dataclasses import dataclass
>>> from doorward.data import load
>>> from doorward.models import create
>>> @dataclass(frozen=True, kw_only=True, config=STRICT)
... class Bias(Scanner):
...     "Suspects the class with the largest bias of the head."
...     alarm: float = 1.0
...     def look(self, model, clean, context):
...         biases = enumerate(model.head.bias.tolist())
...         return Look([Finding(target=k, statistic=bias) for k, bias in biases])
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> _ = torch.nn.init.zeros_(model.head.bias)
>>> model.head.bias.data[3] = 5.0
>>> result, recovered = Bias()(model, load("digits").sample(20, seed=0).resized(16))
>>> result.accused, result.suspect, recovered
([3], 3, {})

`Scanner.__call__` is the frame around every hook: it checks, copies, times, and passes judgement.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self, TypeVar, cast, final

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.records import STRICT, Record, environment, measure
from doorward.registry import Registry
from doorward.scanning.controls import Controls
from doorward.scanning.recovered import Recovered
from doorward.scanning.verdicts import LEVEL, Finding, ScanResult, robust_z
from doorward.training.context import Context, Labels, usable_images
from doorward.training.distributed import resolve_device

__all__ = ["SCANNERS", "Finding", "Look", "ScanResult", "Scanner", "file_scanner", "scanner"]


class Look(NamedTuple):
    """What `Scanner.look` gives back.

    Attributes:
        findings: one per class that was looked at.
        recovered: triggers by class, where the scanner recovers any.
    """

    findings: list[Finding]
    recovered: dict[int, Recovered] = {}  # noqa: RUF012 - never changed


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Scanner(Record, ABC):
    """A way to look for backdoors in a model. Subclasses write `look`.

    `alarm` is the statistic above which a class is accused. Each scanner says where its default
    comes from; the study `scan-detection` counts what it finds, and whom it accuses wrongly.
    """

    name: ClassVar[str] = ""
    searched: ClassVar[str] = "whatever this scanner's documentation says"
    passes: ClassVar[str] = "batch_size"
    """The field that says how many images go through the classifier at once."""

    alarm: float

    @abstractmethod
    def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
        """The method itself.

        Args:
            model: a frozen copy on ``context.device``, in evaluation mode.
            clean: clean images with the labels to use.
            context: seed, device, the training loop, and where to note what was found.

        Returns:
            A finding per class, and triggers where the method recovers any.
        """

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """Raise if this scanner cannot work on such a model or data; called before `look`."""

    def in_passes(self, images: int) -> Self:
        """This scanner with at most so many images at once in the classifier: less memory.

        Raises:
            InvalidInput: it has no such field, or the number is out of its range.
        """
        if self.passes not in self.to_dict():
            raise InvalidInput(f"{self.label} has no {self.passes}, so its memory has no bound")
        return type(self).from_dict(self.to_dict() | {self.passes: images})

    @final
    def __call__(
        self,
        model: nn.Module,
        clean: ImageData,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        labels: Labels = "given",
        controls: Controls | None = None,
        progress: bool = False,
    ) -> tuple[ScanResult, dict[int, Recovered]]:
        """Look at a model; see `doorward.scanning.scan`."""
        target = resolve_device(device)
        clean = usable_images(model, clean, labels)
        if controls is not None:
            controls.require(scanner=self.label, recipe_digest=self.digest())
        self.check(model, clean)
        context = Context(model, seed=seed, device=target, progress=progress, room="scanning")
        with measure() as meter:
            findings, recovered = self.look(context.frozen_original(), clean, context)
        findings = sorted(findings, key=lambda finding: finding.target)
        if not findings:
            raise InvalidInput(f"{self.label} looked at no class")
        statistics = [finding.statistic for finding in findings]
        p_values = None if controls is None else [controls.p_value(value) for value in statistics]
        # Few controls cannot give a small p-value: then they are shown, and the alarm decides.
        by_controls = controls is not None and controls.smallest_p <= LEVEL
        accused = [
            finding
            for finding, p in zip(findings, p_values or statistics, strict=True)
            if (p <= LEVEL if by_controls else finding.statistic > self.alarm)
        ]
        accused.sort(key=lambda finding: -finding.statistic)
        result = ScanResult(
            scanner=self.label,
            parameters=self.to_dict(),
            recipe_digest=self.digest(),
            searched=self.searched,
            data=clean.name,
            images=len(clean),
            labels=labels,
            classes=clean.classes,
            findings=findings,
            robust_z=robust_z(statistics, least=max(0.0, self.alarm / 2)),
            alarm=self.alarm,
            p_values=p_values,
            controls=0 if controls is None else len(controls.statistics),
            decided_by="controls" if by_controls else "alarm",
            accused=[finding.target for finding in accused],
            seed=seed,
            device=str(target),
            seconds=meter.seconds,
            peak_memory_mib=meter.peak_memory_mib,
            history=context.history,
            details=context.details,
            environment=environment(),
        )
        return result, {k: found.cpu().eval() for k, found in recovered.items()}

    @property
    def label(self) -> str:
        """The name in `SCANNERS`, or the class's name if it is not registered."""
        known = self.name in SCANNERS and SCANNERS[self.name] is type(self)
        return self.name if known else type(self).__name__


SCANNERS: Registry[type[Scanner]] = Registry("scanner")
"""All scanners by name; facts: ``paper``, ``finds`` and ``images`` (how many it wants)."""

C = TypeVar("C")


def file_scanner(name: str, *, paper: str, finds: str, images: str) -> Callable[[C], C]:
    """Class decorator: register a scanner and tell it its name.

    Args:
        name: for `SCANNERS` and results.
        paper: authors, year, title.
        finds: which triggers, in a few words.
        images: how many clean images it wants, in a few words.
    """

    def file(cls: C) -> C:
        cast(type[Scanner], cls).name = name
        return SCANNERS.register(name, paper=paper, finds=finds, images=images)(cls)

    return file


def scanner(name: str, **parameters: Any) -> Scanner:
    """A scanner by name, with these parameters and its defaults for all others.

    Raises:
        UnknownName: there is no such scanner; the message lists those that exist.
        InvalidInput: a parameter is unknown or out of range; the message names it.
    """
    return SCANNERS[name].from_dict(parameters)
