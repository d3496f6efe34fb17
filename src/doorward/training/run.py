"""A training run in progress: its steps, its epochs, and its state on disk.

`doorward.training.fit` is the way in; a `Run` is one call of it after the arguments were checked:

    run = Run(fabric, model, objective, batches, recipe, storage)
    run.resume() or run.train(validation)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from doorward.data import Batch, Batches, ImageSource
from doorward.errors import InvalidInput
from doorward.metrics import accuracy
from doorward.randomness import derive_seed
from doorward.training.batchnorm import train_mode
from doorward.training.checkpoints import (
    fingerprint_data,
    fingerprint_model,
    has_checkpoint,
    read_checkpoint,
    require_same,
    write_checkpoint,
)
from doorward.training.checks import bad_weight
from doorward.training.distributed import agree, sum_over_processes
from doorward.training.ema import Ema
from doorward.training.interruption import Interruption
from doorward.training.ledger import Ledger
from doorward.training.objectives import Objective
from doorward.training.optimizers import load_optimizer, make_optimizer, optimizer_state
from doorward.training.progress import Show, progress_bar
from doorward.training.recipe import FitResult, Recipe
from doorward.training.schedules import learning_rate
from doorward.training.stepping import Parcel, StepModule, diverged_at, interrupted_at

__all__ = ["Run", "Storage"]

SETTLE_SECONDS = 0.25  # how often one process reads its losses ...
SETTLE_STEPS = 16  # ... and several do, who must agree without looking at a clock
AT_MOST_PENDING = 64


class Storage(NamedTuple):
    """Where and how often checkpoints are written, and whether an existing one is taken up."""

    folder: Path | None
    every: int
    resume: bool


class Run:
    """The state of a run, and what changes it.

    Args:
        fabric: launched; its device is where the model goes.
        model: trained in place.
        objective: called once per step.
        batches: this process's share of the data, on the device.
        recipe: how to train.
        storage: of checkpoints.
    """

    def __init__(
        self,
        fabric: Any,
        model: nn.Module,
        objective: Objective,
        batches: Batches,
        recipe: Recipe,
        storage: Storage,
    ) -> None:
        self.fabric, self.model, self.objective = fabric, model, objective
        self.batches, self.recipe, self.storage = batches, recipe, storage
        self.steps = recipe.steps(len(batches.source))
        self.step, self.resumed_from = 0, 0
        self.history: list[dict[str, Any]] = []
        self.times = dict.fromkeys(
            ("before", "steps", "network", "data", "validation", "save"), 0.0
        )
        self.begun = perf_counter()
        self.facts: dict[str, Any] = {
            "recipe": recipe.to_dict(),
            "model": fingerprint_model(model),
            "data": fingerprint_data(batches.source),
            "objective": type(objective).__qualname__,
        }
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model.to(fabric.device, memory_format=layout)  # type: ignore[call-overload]
        if isinstance(objective, nn.Module):
            objective.to(fabric.device)
        self.optimizer = make_optimizer(model, recipe)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.rate = learning_rate(recipe, self.steps)
        self.ema = Ema(model, recipe.ema) if recipe.ema is not None else None
        self.ledger = Ledger(recipe.divergence)
        self._module: Any = None

    def resume(self) -> dict[str, Any] | None:
        """Take up the folder's checkpoint if there is one; the stored result of a finished run."""
        folder = self.storage.folder
        if folder is None or not self.storage.resume or not has_checkpoint(folder):
            return None
        header, state = read_checkpoint(folder)
        require_same(folder, header, self.facts)
        own = self.model.state_dict()
        with torch.no_grad():
            for name, tensor in state["model"].items():
                own[name].copy_(tensor)  # into place, so that the memory format stays
        if "objective" in state:
            self.objective.load_state_dict(state["objective"])  # type: ignore[attr-defined]
        if header["finished"]:
            result: dict[str, Any] = header["result"]
            return result
        load_optimizer(self.optimizer, state["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(state["ema"])
        self.ledger.load_state_dict(header["ledger"])
        if self.fabric.global_rank == 0:  # the sums are those of all processes together
            self.ledger.reset(header["sums"])
        self.step = self.resumed_from = header["step"]
        self.history, self.times = header["history"], header["times"]
        return None

    def train(
        self,
        validation: ImageSource | None,
        *,
        every_epoch: bool,
        progress: bool,
        on_epoch: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        """Do the steps that are left."""
        callee = torch.compile(self.model) if self.recipe.compile else self.model
        module = StepModule(self.model, callee, self.objective)
        self._module, self._stepper = self.fabric.setup(
            module, self.optimizer, move_to_device=False
        )
        bar = progress_bar(
            enabled=progress and self.fabric.global_rank == 0, steps=self.steps, done=self.step
        )
        with bar as show, Interruption() as stop:
            while self.step < self.steps:
                self._epoch(show, stop)
                measured = validation if every_epoch or self.step == self.steps else None
                entry = self._close_epoch(measured)
                if self.step < self.steps:
                    self._save()
                if on_epoch is not None and self.fabric.global_rank == 0:
                    on_epoch(entry)
        if self.ema is not None:
            self.ema.apply()

    def figures(self, seconds: float) -> dict[str, Any]:
        """The fields of `FitResult` that the run knows."""
        steps = max(self.times["steps"], 1e-9)
        whole, part = divmod(self.step, len(self.batches))
        images = whole * self._images(len(self.batches)) + self._images(part)
        return {
            "seconds": self.times["before"] + seconds,
            "network_seconds": self.times["network"],
            "data_seconds": self.times["data"],
            "validation_seconds": self.times["validation"],
            "checkpoint_seconds": self.times["save"],
            "overhead": 1 - self.times["network"] / steps,
            "steps": self.step,
            "epochs": self.step / len(self.batches),
            "samples_per_second": images / steps,
            "history": self.history,
            "final": self.history[-1],
            "resumed_from": self.resumed_from,
        }

    def _images(self, steps: int) -> int:
        # Only the last batch of an epoch may be smaller.
        return min(steps * self.recipe.batch_size, len(self.batches.source))

    def finish(self, result: FitResult) -> None:
        """Write the last checkpoint: the final weights and the result."""
        self._write(
            finished=True, state={"model": self.model.state_dict()}, result=result.to_dict()
        )

    def _epoch(self, show: Show, stop: Interruption) -> None:
        train_mode(self.model, self.recipe.batchnorm)
        number, start = divmod(self.step, len(self.batches))
        end = min((number + 1) * len(self.batches), self.steps)
        batches = self.batches.epoch(number, start=start)
        settled = begun = perf_counter()
        phase = f"epoch {number + 1}/{-(-self.steps // len(self.batches))}"
        while self.step < end:
            batch = next(batches)
            fetched = perf_counter()
            self.times["data"] += fetched - begun
            self._do_step(batch)
            self.step += 1
            now = perf_counter()
            if self._is_due(stop, now - settled):
                self._settle(stop)
                show(self.step, phase, self.ledger.live)
                settled = now = perf_counter()
            self.times["steps"] += now - begun
            if self.step % self.storage.every == 0 and self.step < end:
                self._settle(stop)
                self._save()
                now = perf_counter()
            begun = now
        self._settle(stop)
        show(self.step, phase, self.ledger.live)

    def _is_due(self, stop: Interruption, elapsed: float) -> bool:
        if self.fabric.world_size > 1:
            return self.step % SETTLE_STEPS == 0
        return stop.requested or elapsed > SETTLE_SECONDS or len(self.ledger) >= AT_MOST_PENDING

    def _do_step(self, batch: Batch) -> None:
        # Dropout and the like depend on the step alone, not on what was drawn before it.
        torch.manual_seed(derive_seed(self.recipe.seed, "step", self.step, self.fabric.global_rank))
        rate = self.rate(self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if self.recipe.channels_last:
            images = batch.images.contiguous(memory_format=torch.channels_last)
            batch = dataclasses.replace(batch, images=images)
        begun = perf_counter()
        loss, scalars = self._module(Parcel(batch))
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise InvalidInput(
                f"the objective {type(self.objective).__name__} gave no loss to differentiate",
                why="a scalar tensor that depends on the model's trainable parameters is needed",
            )
        # Processes average their gradients; one with more rows than the others counts more.
        share = len(batch) * self.fabric.world_size / batch.size_global
        self.fabric.backward(loss if share == 1 else loss * share)
        if self.recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, self.recipe.clip_norm)
        self._stepper.step()
        self._stepper.zero_grad()
        self.times["network"] += perf_counter() - begun
        if self.ema is not None:
            self.ema.update(self.step)
        self.ledger.add(self.step, len(batch), loss.detach(), scalars)

    def _settle(self, stop: Interruption) -> None:
        self.ledger.settle()
        diverged, stopped = agree(self.fabric, self.ledger.fault is not None, stop.requested)
        if diverged:
            fault = self.ledger.fault
            step = fault.step if fault else self.step - 1
            raise diverged_at(step, self.steps, self.rate(step), self.recipe, fault)
        if stopped and self.step < self.steps:
            self._save()
            raise interrupted_at(self.step, self.steps, self.storage.folder)

    def _close_epoch(self, validation: ImageSource | None) -> dict[str, Any]:
        self.ledger.reset(sum_over_processes(self.fabric, self.ledger.sums()))
        self._require_finite()
        entry: dict[str, Any] = {
            "epoch": -(-self.step // len(self.batches)),
            "step": self.step,
            **self.ledger.means(),
            "lr": self.rate(self.step - 1),
        }
        if validation is not None:
            begun = perf_counter()
            entry["validation_accuracy"] = self._accuracy(validation)
            self.times["validation"] += perf_counter() - begun
        entry["seconds"] = self.times["before"] + perf_counter() - self.begun
        self.history.append(entry)
        self.ledger.reset()
        return entry

    def _accuracy(self, validation: ImageSource) -> float:
        value = 0.0
        if self.fabric.global_rank == 0:
            if self.ema is None:
                value = accuracy(self.model, validation)
            else:
                with self.ema.applied():
                    value = accuracy(self.model, validation)
        return float(self.fabric.broadcast(value))

    def _require_finite(self) -> None:
        if bad_weight(self.model) is not None:
            step = self.step - 1
            raise diverged_at(step, self.steps, self.rate(step), self.recipe, None)

    def _save(self) -> None:
        if self.storage.folder is None:
            return
        begun = perf_counter()
        self._require_finite()
        state: dict[str, Any] = {
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
        }
        if self.ema is not None:
            state["ema"] = self.ema.state_dict()
        self._write(finished=False, state=state)
        self.times["save"] += perf_counter() - begun

    def _write(self, *, finished: bool, state: dict[str, Any], **more: Any) -> None:
        sums = sum_over_processes(self.fabric, self.ledger.sums())
        if self.storage.folder is None or self.fabric.global_rank != 0:
            return
        if hasattr(self.objective, "state_dict"):
            state = {**state, "objective": self.objective.state_dict()}
        times = {**self.times, "before": self.times["before"] + perf_counter() - self.begun}
        header = {
            **self.facts,
            "step": self.step,
            "steps": self.steps,
            "finished": finished,
            "history": self.history,
            "ledger": self.ledger.state_dict(),
            "sums": sums,
            "times": times,
            **more,
        }
        write_checkpoint(self.storage.folder, header, state)
