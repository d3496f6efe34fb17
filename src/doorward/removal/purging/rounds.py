"""The rounds of a purge: what is tried in which order, and what is kept.

job = Job(work=work, held=held, scanner=looker, finishes=[...], ...)
model, rounds, ended = job.run(model, rounds=3, always_finish=False)
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import nn

from doorward.data import ImageData
from doorward.errors import TrainingDiverged
from doorward.metrics import accuracy
from doorward.randomness import derive_seed, generator
from doorward.removal.base import Removal, RemovalResult
from doorward.removal.mesaunlearning import DistributionUnlearning, unlearn
from doorward.removal.purging.memory import Memory
from doorward.removal.purging.results import Ended, Round, Step
from doorward.removal.running import remove
from doorward.removal.stamping import recovered_success
from doorward.scanning import Controls, Recovered, Scanner, ScanResult, scan

__all__ = ["Job", "OnScan"]

GENTLER, HELD_TO_ANSWERS = 0.25, 1.0
"""The second attempt at unlearning: this share of the rate, and this `answer_weight`."""
SLACK = 0.02
"""By how much a finish may raise the success of recovered triggers before it is undone."""

OnScan = Callable[[ScanResult, Mapping[int, Recovered]], None]


@dataclass
class Job:
    """Everything that stays the same over the rounds of one purge.

    Args:
        work: clean images to scan and repair with.
        held: clean images that only serve to judge.
        scanner: finds and recovers.
        finishes: methods that need no trigger; the first that is acceptable counts.
        unlearning: constants for recovered triggers.
        floor: least accuracy on `held`.
        seed: of everything random.
        device: where the work is done, and where the model is.
        controls: for the scans.
        progress: draw progress bars.
        memory: where finished scans and repairs are kept.
        on_scan: told of every scan.

    Attributes:
        recovered: all triggers of accused classes so far.
    """

    work: ImageData
    held: ImageData
    scanner: Scanner
    finishes: Sequence[Removal]
    unlearning: DistributionUnlearning
    floor: float
    seed: int
    device: torch.device
    controls: Controls | None
    progress: bool
    memory: Memory
    on_scan: OnScan | None
    recovered: list[Recovered] = field(default_factory=list)

    def run(
        self, model: nn.Module, *, rounds: int, always_finish: bool
    ) -> tuple[nn.Module, list[Round], Ended]:
        """Repeat until nothing is found, nothing helps, or no round is left."""
        done: list[Round] = []
        while True:
            number = len(done)
            verdict, found = self._look(number, model)
            before = self.success(model, found.values())
            wanted = bool(verdict.accused) or (number == 0 and always_finish)
            steps: list[Step] = []
            if wanted and number < rounds:
                model, steps = self._repair(number, model, found, before)
            done.append(Round(verdict=verdict, success=before, steps=steps))
            if any(step.accepted for step in steps):
                continue
            if not verdict.accused:
                accused_once = any(entry.verdict.accused for entry in done)
                return model, done, "clean" if accused_once else "nothing found"
            return model, done, "rounds" if number == rounds else "stuck"

    def success(self, model: nn.Module, triggers: Iterable[Recovered]) -> dict[int, float]:
        """By class, the largest success of triggers on the held-out images."""
        reached: dict[int, float] = {}
        for found in triggers:
            draw = generator(self.seed, "purge", "success", found.target)
            now = recovered_success(model, self.held, found, draw)
            reached[found.target] = max(now, reached.get(found.target, 0.0))
        return reached

    def _look(self, number: int, model: nn.Module) -> tuple[ScanResult, dict[int, Recovered]]:
        """Scan; triggers of accused classes only, on the device."""
        verdict, recovered = self.memory.scanned(
            f"{number:02d}-scan",
            lambda: scan(
                model,
                self.work,
                self.scanner,
                seed=derive_seed(self.seed, "purge", number, "scan"),
                device=self.device,
                controls=self.controls,
                progress=self.progress,
            ),
        )
        if self.on_scan is not None:
            self.on_scan(verdict, recovered)
        accused = [k for k in verdict.accused if k in recovered]
        found = {k: copy.deepcopy(recovered[k]).to(self.device) for k in accused}
        self.recovered += found.values()
        return verdict, found

    def _repair(
        self,
        number: int,
        model: nn.Module,
        found: dict[int, Recovered],
        before: dict[int, float],
    ) -> tuple[nn.Module, list[Step]]:
        """Unlearn, then finish; each may come to nothing."""
        steps: list[Step] = []
        reached = before
        if found:
            for attempt, method in enumerate((self.unlearning, _gentler(self.unlearning))):
                step, candidate = self._attempt(
                    f"{number:02d}-unlearn-{attempt}", "unlearn", method, model, found, reached
                )
                steps.append(step)
                if step.accepted:
                    model, reached = candidate, step.success
                    break
        for attempt, finish in enumerate(self.finishes):
            step, candidate = self._attempt(
                f"{number:02d}-finish-{attempt}", "finish", finish, model, found, reached
            )
            steps.append(step)
            if step.accepted:
                model = candidate
                break
        return model, steps

    def _attempt(
        self,
        name: str,
        kind: Literal["unlearn", "finish"],
        method: Removal,
        model: nn.Module,
        found: dict[int, Recovered],
        before: dict[int, float],
    ) -> tuple[Step, nn.Module]:
        """Repair a copy, and judge it."""
        seed, start = derive_seed(self.seed, "purge", name), time.perf_counter()
        facts: dict[str, Any] = {
            "kind": kind,
            "method": method.name,
            "parameters": method.to_dict(),
        }

        def make() -> tuple[nn.Module, RemovalResult]:
            options: dict[str, Any] = {
                "seed": seed,
                "device": self.device,
                "progress": self.progress,
            }
            if isinstance(method, DistributionUnlearning) and kind == "unlearn":
                return unlearn(model, self.work, found, method, **options)
            return remove(model, self.work, method, **options)

        try:
            candidate, result = self.memory.repaired(name, model, make)
        except TrainingDiverged as error:
            step = Step(
                **facts,
                accuracy=None,
                success={},
                accepted=False,
                why=f"training diverged: {error.what}",
                seconds=time.perf_counter() - start,
                peak_memory_mib=0.0,
            )
            return step, model
        now, success = accuracy(candidate, self.held), self.success(candidate, found.values())
        accepted, why = self._judge(kind, now, before, success)
        step = Step(
            **facts,
            accuracy=now,
            success=success,
            accepted=accepted,
            why=why,
            seconds=result.seconds,
            peak_memory_mib=result.peak_memory_mib,
        )
        return step, candidate

    def _judge(
        self,
        kind: Literal["unlearn", "finish"],
        now: float,
        before: dict[int, float],
        after: dict[int, float],
    ) -> tuple[bool, str]:
        """Whether a repair is kept, and why."""
        if now < self.floor:
            return False, f"accuracy {now:.2%} is below what the budget allows"
        if kind == "unlearn":
            if sum(after.values()) >= sum(before.values()):
                return False, "the recovered triggers work as well as before"
            return True, "the recovered triggers work less, at an accuracy within the budget"
        raised = [target for target in after if after[target] > before[target] + SLACK]
        if raised:
            return False, f"triggers of class {raised[0]} came to work better"
        return True, "accuracy is within the budget"


def _gentler(method: DistributionUnlearning) -> DistributionUnlearning:
    return replace(
        method,
        lr=GENTLER * method.lr,
        answer_weight=max(HELD_TO_ANSWERS, method.answer_weight),
    )
