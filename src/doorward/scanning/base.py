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
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, cast, final

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.records import STRICT, Record, environment, measure
from doorward.registry import Registry
from doorward.scanning.controls import Controls
from doorward.scanning.recovered import Recovered
from doorward.training.context import Context, Labels, usable_images
from doorward.training.distributed import resolve_device

__all__ = ["SCANNERS", "Finding", "Look", "ScanResult", "Scanner", "file_scanner", "scanner"]

LEVEL = 0.05
"""p-value at or below which a class is accused, where there are enough control models for it."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Finding(Record):
    """What a scanner says of one class.

    Attributes:
        target: the class.
        statistic: the larger, the more suspicious; comparable between models of as many classes.
        attack_success: share of the clean images of other classes, held out from the search, that
            the recovered triggers send to this class; None where none were recovered.
        details: sizes, entropies, curves: whatever the scanner wants to show.
    """

    target: Annotated[int, Field(ge=0)]
    statistic: float
    attack_success: Annotated[float, Field(ge=0, le=1)] | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class Look(NamedTuple):
    """What `Scanner.look` gives back.

    Attributes:
        findings: one per class that was looked at.
        recovered: triggers by class, where the scanner recovers any.
    """

    findings: list[Finding]
    recovered: dict[int, Recovered] = {}  # noqa: RUF012 - never changed


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ScanResult(Record):
    """A verdict on one model.

    Attributes:
        scanner: its name in `SCANNERS`; of one that is not registered, the name of its class.
        parameters: all of its parameters.
        recipe_digest: names exactly these parameters.
        searched: in words, which triggers this scan could have found.
        data: name of the set of clean images.
        images: how many of them there were.
        labels: ``"given"``, or ``"model"`` if the model's own answers stood in for them.
        classes: names of the model's classes.
        findings: of every class that was looked at, in the order of the classes.
        robust_z: of each finding, how many robust deviations its statistic lies above the median
            of the classes; Neural Cleanse calls a class attacked above 2. A deviation counts as
            half the alarm at least, lest the classes' agreement make an outlier of a trifle.
        alarm: statistic above which a class is accused where controls cannot decide.
        p_values: of each finding, against the largest statistic of each clean control model;
            None without controls.
        controls: how many control models there were.
        decided_by: ``"controls"`` or ``"alarm"``.
        accused: classes called attacked, most suspicious first; none is an answer, too.
        seed: of everything random.
        device: where it ran.
        seconds: wall-clock time.
        peak_memory_mib: largest resident set (CPU) or allocation (CUDA) meanwhile.
        history: entries of the search's training phases.
        details: what the scanner noted.
        environment: versions and hardware.
    """

    scanner: str
    parameters: dict[str, Any]
    recipe_digest: str
    searched: str
    data: str
    images: int
    labels: Labels
    classes: tuple[str, ...]
    findings: list[Finding]
    robust_z: list[float]
    alarm: float
    p_values: list[float] | None
    controls: int
    decided_by: str
    accused: list[int]
    seed: int
    device: str
    seconds: float
    peak_memory_mib: float
    history: list[dict[str, Any]]
    details: dict[str, Any]
    environment: dict[str, Any]

    @property
    def found(self) -> bool:
        """Whether some class is accused."""
        return bool(self.accused)

    @property
    def suspect(self) -> int:
        """The class with the largest statistic, accused or not."""
        return max(self.findings, key=lambda finding: finding.statistic).target

    def finding(self, target: int) -> Finding:
        """What was found of a class.

        Raises:
            InvalidInput: the class was not looked at.
        """
        for finding in self.findings:
            if finding.target == target:
                return finding
        raise InvalidInput(f"class {target} was not looked at")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Scanner(Record, ABC):
    """A way to look for backdoors in a model. Subclasses write `look`.

    `alarm` is the statistic above which a class is accused. Each scanner says where its default
    comes from; the study `scan-detection` counts what it finds, and whom it accuses wrongly.
    """

    name: ClassVar[str] = ""
    searched: ClassVar[str] = "whatever this scanner's documentation says"

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


def robust_z(values: list[float], *, least: float = 0.0) -> list[float]:
    """Robust deviations above the median: ``(v - median) / (1.4826 * median |v - median|)``.

    Args:
        values: one per class.
        least: what a deviation counts as at least. Where most values are equal, the median
            deviation is 0 and any other value would lie infinitely far away.

    >>> [round(z, 2) for z in robust_z([1.0, 2.0, 3.0, 4.0, 30.0])]
    [-1.35, -0.67, 0.0, 0.67, 18.21]
    >>> robust_z([0.0, 0.0, 0.0, 0.5, 4.0], least=2.0)
    [0.0, 0.0, 0.0, 0.25, 2.0]
    """
    column = torch.tensor(values, dtype=torch.float64)
    centre = column.quantile(0.5)
    spread = 1.4826 * (column - centre).abs().quantile(0.5)
    floor = max(least, 1e-12)
    scores: list[float] = ((column - centre) / spread.clamp_min(floor)).clamp(-1e6, 1e6).tolist()
    return scores
