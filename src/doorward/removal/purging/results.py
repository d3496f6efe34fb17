"""What a purge tells: every scan, every step, what it cost, and why it was kept or undone.

result.verdict.accused            # after the last step
[step.why for step in result.steps if not step.accepted]
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record
from doorward.scanning import ScanResult
from doorward.training.context import Labels

__all__ = ["Ended", "PurgeResult", "Round", "Step"]

Share = Annotated[float, Field(ge=0, le=1)]
Ended = Literal["nothing found", "clean", "rounds", "stuck"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Step(Record):
    """One repair that was tried.

    Attributes:
        kind: ``"unlearn"`` (the recovered triggers) or ``"finish"`` (whatever the trigger).
        method: name of the removal method.
        parameters: of the method.
        accuracy: on the held-out clean images, of the model it made; None if training diverged.
        success: by class, of the triggers that the round's scan recovered, against that model.
        accepted: whether the purge went on with that model; if not, it is undone.
        why: in words.
        seconds: wall-clock time.
        peak_memory_mib: largest resident set (CPU) or allocation (CUDA) meanwhile.
    """

    kind: Literal["unlearn", "finish"]
    method: str
    parameters: dict[str, Any]
    accuracy: Share | None
    success: dict[int, Share]
    accepted: bool
    why: str
    seconds: float
    peak_memory_mib: float


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Round(Record):
    """One scan, and the repairs that followed it.

    Attributes:
        verdict: of the scan.
        success: by class, of the triggers it recovered, before the repairs.
        steps: in the order tried; none where nothing was found or no round was left.
    """

    verdict: ScanResult
    success: dict[int, Share]
    steps: list[Step]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PurgeResult(Record):
    """What a purge did.

    Attributes:
        ended: ``"nothing found"``: no scan accused a class; ``"clean"``: the last one does not any
            more; ``"rounds"``: it still does, and no round was left; ``"stuck"``: it does, and no
            repair was acceptable.
        budget_accuracy: points that accuracy may fall.
        accuracy_before: of the given model, on the held-out images; by its own answers (1) where
            these stand in for labels.
        accuracy_after: of the model that came back, never more than the budget below.
        success_before: by class, the largest success of any recovered triggers of that class
            against the given model, on the held-out images of other classes.
        success_after: the same against the model that came back.
        rounds: the last one is the scan of the model that came back.
        finish: names of the finishing methods, in the order they are tried.
        data: name of the set of clean images.
        images: how many of them there were.
        held_out: of these, how many only served to judge.
        labels: ``"given"``, or ``"model"`` if the model's own answers stood in for them.
        seed: of everything random.
        device: where it ran.
        seconds: wall-clock time, steps that a resumed purge did before included.
        peak_memory_mib: the largest of all scans and steps.
        environment: versions and hardware.
    """

    ended: Ended
    budget_accuracy: float
    accuracy_before: Share
    accuracy_after: Share
    success_before: dict[int, Share]
    success_after: dict[int, Share]
    rounds: list[Round]
    finish: tuple[str, ...]
    data: str
    images: int
    held_out: int
    labels: Labels
    seed: int
    device: str
    seconds: float
    peak_memory_mib: float
    environment: dict[str, Any]

    @property
    def verdict(self) -> ScanResult:
        """Of the last scan, which looked at the model that came back."""
        return self.rounds[-1].verdict

    @property
    def found(self) -> bool:
        """Whether any scan accused a class."""
        return any(entry.verdict.accused for entry in self.rounds)

    @property
    def clean(self) -> bool:
        """Whether the last scan accused nothing."""
        return not self.verdict.accused

    @property
    def steps(self) -> list[Step]:
        """All repairs that were tried, in order."""
        return [step for entry in self.rounds for step in entry.steps]

    @property
    def changed(self) -> bool:
        """Whether the model that came back is another than the given one."""
        return any(step.accepted for step in self.steps)

    def told(self) -> str:
        """The outcome in one sentence."""
        # Without labels, what is measured is how far the model agrees with itself as it was.
        kind = "accuracy" if self.labels == "given" else "agreement with the given model"
        price = (
            f"{kind} {self.accuracy_before:.2%} -> {self.accuracy_after:.2%} on "
            f"{self.held_out} held-out images"
        )
        if self.ended == "nothing found":
            done = f"it was finished all the same: {price}" if self.changed else "it is as it was"
            return f"No backdoor was found in this model; {done}."
        if self.ended == "clean":
            accused = {target for entry in self.rounds for target in entry.verdict.accused}
            classes = ", ".join(str(target) for target in sorted(accused))
            return f"The backdoor of class {classes} is no longer found: {price}."
        left = ", ".join(str(target) for target in self.verdict.accused)
        reason = (
            "no round is left"
            if self.ended == "rounds"
            else f"no further repair helps within {self.budget_accuracy:g} points of accuracy"
        )
        return f"Class {left} is still attacked, and {reason}: {price}."
