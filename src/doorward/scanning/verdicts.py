"""What a scan says: a finding per class, and the verdict on the model.

>>> Finding(target=3, statistic=7.5).attack_success is None
True
>>> FEWEST_CONTROLS, LEVEL
(19, 0.05)

`doorward.scanning.base` fills them in.
"""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record
from doorward.training.context import Labels

__all__ = ["FEWEST_CONTROLS", "LEVEL", "Finding", "ScanResult", "robust_z"]

LEVEL = 0.05
"""p-value at or below which a class is accused, where there are enough control models for it."""

FEWEST_CONTROLS = math.ceil(1 / LEVEL) - 1
"""Control models from which on a p-value can be that small."""


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

    @property
    def decision(self) -> str:
        """What decided who is accused, in a sentence: a p-value, or a fixed number."""
        if self.decided_by == "controls":
            return f"Decided by p <= {LEVEL:g} against {self.controls} clean control models."
        if self.p_values is None:
            why = f"with {FEWEST_CONTROLS} clean control models of the same kind it would be"
        else:
            least = 1 / (1 + self.controls)
            why = (
                f"with {self.controls} control models no p can be below {least:.2g}, with "
                f"{FEWEST_CONTROLS} they would decide"
            )
        return f"Decided by the scanner's fixed alarm ({self.alarm:.3g}), not by a p-value: {why}."

    def finding(self, target: int) -> Finding:
        """What was found of a class.

        Raises:
            InvalidInput: the class was not looked at.
        """
        for finding in self.findings:
            if finding.target == target:
                return finding
        raise InvalidInput(f"class {target} was not looked at")


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
