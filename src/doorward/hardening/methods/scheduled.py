"""A warm-up over all targets, then pairs by their growth: the course of MOTH and of DECK-R.

class Mine(ScheduledObjective):
    arms = ("patch",)
    def make(self, arm, rows):
        return Patches(rows, self.image_shape)
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.hardening.aims import Aims
from doorward.hardening.methods.inverting import Found
from doorward.hardening.methods.periods import Period, PeriodicObjective
from doorward.hardening.methods.scheduling import PairSchedule
from doorward.hardening.searching import led
from doorward.hardening.transforms import Change
from doorward.hardening.transforms.base import folded
from doorward.models.modes import evaluating
from doorward.training.context import Context

if TYPE_CHECKING:
    from doorward.hardening.methods.pairhardening import ScheduledHardening

__all__ = ["ScheduledObjective"]

WARM_UP = "warm-up"
_JUDGED = 64  # images of each row by which the warm-up is judged
_MOST_KEPT = 256  # changes kept for warm starts
_FADE, _LEAST = 0.7, 0.1  # of the running success of an arm, and its least chance


class ScheduledObjective(PeriodicObjective):
    """Targets first, then symmetric pairs; each arm is a kind of change with a schedule of its own.

    A period's arm is drawn in proportion to how often it still leads astray. Pairs go both ways in
    one search. A change is kept for a warm start if it is larger than the one kept before, as in
    MOTH; the latest 256 are.

    Args:
        method: the numbers.
        work: images to draw from.
        context: seeds, device, the given model.
        arms: names of the kinds of change; the first one serves the warm-up.
    """

    def __init__(
        self,
        method: ScheduledHardening,
        work: ImageData,
        context: Context,
        *,
        arms: tuple[str, ...],
    ) -> None:
        super().__init__(method, work, context)
        self.course, self.arms = method, arms
        self.schedules = {
            arm: PairSchedule(
                self.images.present,
                self.classes,
                explore=method.explore,
                blend_steps=method.blend_steps,
            )
            for arm in arms
        }
        self.success = torch.ones(len(arms))
        self.waiting = self.images.present.tolist() if method.warm_steps else []
        self.kept: dict[str, tuple[float, list[Tensor]]] = {}

    @abstractmethod
    def make(self, arm: str, rows: int) -> Change:
        """A change of a kind, on the CPU."""

    def next(self) -> Period:
        """Universal changes of the targets that wait, or pairs."""
        course = self.course
        if self.waiting:
            targets = self.waiting[: course.targets_at_once]
            aims = Aims.of([(None, target) for target in targets], self.classes)
            return self.new_period(
                aims,
                self._started(self.arms[0], aims),
                first_steps=course.warm_steps,
                length=course.warm_period,
                family=WARM_UP,
            )
        draw = self.draw("pairs")
        chances = self.success.clamp_min(_LEAST)
        arm = self.arms[int(torch.multinomial(chances, 1, generator=draw))]
        pairs = self.schedules[arm].next(course.pairs_at_once, step=self.steps, draw=draw)
        both = [way for s, t in pairs for way in ((s, t), (t, s))]
        aims = Aims.of(both, self.classes)
        return self.new_period(
            aims,
            self._started(arm, aims),
            first_steps=course.first_steps,
            length=course.period,
            family=arm,
        )

    def searched(self, model: nn.Module, period: Period, found: Found) -> None:
        """Remember how easy targets are, or how often the arm succeeds."""
        if period.family != WARM_UP:
            place = self.arms.index(period.family)
            now = float(found.success.mean())
            self.success[place] = _FADE * self.success[place] + (1 - _FADE) * now
            return
        eased = self._eased(model, period)
        for row, target in enumerate(period.aims.targets.tolist()):
            self.waiting.remove(target)
            for schedule in self.schedules.values():
                schedule.warmed(target, size=float(found.size[row]), eased=eased[row])
        if not self.waiting:
            for schedule in self.schedules.values():
                schedule.settled()

    def ended(self, period: Period) -> None:
        """Note sizes, keep the changes of pairs."""
        if period.family == WARM_UP:
            return
        schedule, sizes = self.schedules[period.family], period.size().tolist()
        trained = [parameter.detach().cpu() for parameter in period.search.change.trained()]
        for row, ((s, t), size) in enumerate(zip(period.aims.pairs, sizes, strict=True)):
            if s is None or t is None or size == float("inf"):
                continue
            schedule.note(s, t, size)
            name = _name(period.family, s, t)
            before = self.kept.pop(name, None)
            now = (size, [tensor[row].clone() for tensor in trained])
            self.kept[name] = now if before is None or size > before[0] else before
        while len(self.kept) > _MOST_KEPT:
            del self.kept[next(iter(self.kept))]

    def state_dict(self) -> dict[str, Any]:
        """Schedules, arms, targets that wait, kept changes."""
        return {
            **super().state_dict(),
            "schedules": {arm: schedule.state_dict() for arm, schedule in self.schedules.items()},
            "success": self.success.clone(),
            "waiting": list(self.waiting),
            # A list, because the order decides what is dropped first.
            "kept": [[name, size, *tensors] for name, (size, tensors) in self.kept.items()],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` gave."""
        super().load_state_dict(state)
        for arm, schedule in self.schedules.items():
            schedule.load_state_dict(state["schedules"][arm])
        self.success.copy_(state["success"])
        self.waiting = list(state["waiting"])
        self.kept = {name: (size, tensors) for name, size, *tensors in state["kept"]}

    @torch.no_grad()
    def _started(self, arm: str, aims: Aims) -> Change:
        """Changes of an arm for rows: as they were kept, or a little away from none."""
        change = self.make(arm, len(aims)).cpu()
        change.start([self.draw("start", str(pair)) for pair in aims.pairs])
        for row, (s, t) in enumerate(aims.pairs):
            kept = self.kept.get(_name(arm, s, t))
            if kept is not None:
                for parameter, tensor in zip(change.trained(), kept[1], strict=True):
                    parameter[row] = tensor
        return change

    @torch.no_grad()
    def _eased(self, model: nn.Module, period: Period) -> Tensor:
        """For each row and class, by how much of itself the loss fell: (R, K)."""
        images, labels = self.images.draw(period.aims, _JUDGED, self.draw("judge"))
        targets = period.aims.targets.to(self.device)
        losses = []
        with evaluating(model):
            for shown in (images, period.search.change(images)):
                logits = folded(model(shown.flatten(0, 1)).float(), *shown.shape[:2])
                losses.append(led(logits, labels, targets).loss)
        fell = ((losses[0] - losses[1]) / losses[0].clamp_min(1e-6)).clamp(-1, 1)
        total = torch.zeros(len(labels), self.classes, device=self.device)
        count = total.scatter_add(1, labels, torch.ones_like(fell))
        return (total.scatter_add(1, labels, fell) / count.clamp_min(1)).cpu()


def _name(arm: str, source: int | None, target: int | None) -> str:
    return f"{arm} {source} {target}"
