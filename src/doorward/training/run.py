"""A training run in progress: its steps, its epochs, its checkpoints.

`doorward.training.fit` is the way in; a `Run` is one call of it after the arguments were checked:

    run = Run(fabric, model, objective, batches, recipe, storage)
    run.resume() or run.train(validation)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
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
from doorward.training.interruption import Interruption
from doorward.training.objectives import Objective, describe
from doorward.training.progress import Show, progress_bar
from doorward.training.recipe import FitResult, Recipe
from doorward.training.schedules import learning_rate
from doorward.training.state import State
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
    """One call of `fit`.

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
        self.begun = perf_counter()
        self.fabric, self.model, self.objective = fabric, model, objective
        self.batches, self.recipe, self.storage = batches, recipe, storage
        self.steps, self.resumed_from = recipe.steps(len(batches.source)), 0
        self.rate = learning_rate(recipe, self.steps)
        self.identity: dict[str, Any] = {
            "recipe": recipe.to_dict(),
            "model": fingerprint_model(model),
            "data": fingerprint_data(batches.source),
            "objective": describe(objective),
        }
        layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
        model.to(fabric.device, memory_format=layout)  # type: ignore[call-overload]
        if isinstance(objective, nn.Module):
            objective.to(fabric.device)
        self.state = State(model, objective, recipe)
        self.groups = self.state.optimizer.param_groups
        self.trained = [parameter for group in self.groups for parameter in group["params"]]

    def resume(self) -> dict[str, Any] | None:
        """Take up the folder's checkpoint if there is one; the stored result of a finished run."""
        folder = self.storage.folder
        if folder is None or not self.storage.resume or not has_checkpoint(folder):
            return None
        header, tensors = read_checkpoint(folder)
        require_same(folder, header, self.identity)
        result: dict[str, Any] | None = header.get("result")
        self.state.load(header, tensors, final=result is not None)
        if self.fabric.global_rank != 0:
            self.state.ledger.reset()  # the stored sums are those of all processes together
        self.resumed_from = self.state.step
        return result

    def train(
        self,
        validation: ImageSource | None,
        *,
        every_epoch: bool,
        progress: bool,
        on_epoch: Callable[[dict[str, Any]], None] | None,
    ) -> None:
        """Do the steps that are left."""
        main, state = self.fabric.global_rank == 0, self.state
        callee = torch.compile(self.model) if self.recipe.compile else self.model
        module = StepModule(self.model, callee, self.objective)
        self.module, self.optimizer = self.fabric.setup(
            module, state.optimizer, move_to_device=False
        )
        bar = progress_bar(enabled=progress and main, steps=self.steps, done=state.step)
        with bar as show, Interruption() as stop:
            self.stop = stop
            while state.step < self.steps:
                self._epoch(show, stop)
                last = state.step == self.steps
                entry = self._close_epoch(validation if every_epoch or last else None)
                if not last:
                    self._save()
                if on_epoch is not None and main:
                    on_epoch(entry)
                if not last:
                    self._obey(stop)
        if state.ema is not None:
            state.ema.apply()

    def figures(self, seconds: float) -> dict[str, Any]:
        """The fields of `FitResult` that the run knows; `seconds` is this call's time."""
        spent = self.state.seconds
        stepping = max(spent["steps"], 1e-9)
        whole, part = divmod(self.state.step, len(self.batches))
        images = whole * self._images(len(self.batches)) + self._images(part)
        return {
            "seconds": spent["before"] + seconds,
            "network_seconds": spent["network"],
            "data_seconds": spent["data"],
            "validation_seconds": spent["validation"],
            "checkpoint_seconds": spent["checkpoint"],
            "overhead": 1 - spent["network"] / stepping,
            "steps": self.state.step,
            "epochs": self.state.step / len(self.batches),
            "samples_per_second": images / stepping,
            "history": self.state.history,
            "final": self.state.history[-1],
            "resumed_from": self.resumed_from,
        }

    def finish(self, result: FitResult) -> None:
        """Write the last checkpoint: the final weights and the result."""
        self._write(self.state.tensors(final=True), {"result": result.to_dict()})

    def obey_late(self) -> None:
        """Answer a signal that came in the last step or after it: the caller must not miss it."""
        if agree(self.fabric, self.stop.requested):
            raise interrupted_at(self.state.step, self.steps, self.storage.folder)

    def _epoch(self, show: Show, stop: Interruption) -> None:
        state = self.state
        train_mode(self.model, self.recipe.batchnorm)
        number, start = divmod(state.step, len(self.batches))
        end = min((number + 1) * len(self.batches), self.steps)
        phase = f"epoch {number + 1}/{-(-self.steps // len(self.batches))}"
        batches = self.batches.epoch(number, start=start)
        settled = begun = perf_counter()
        while state.step < end:
            batch = next(batches)
            state.seconds["data"] += perf_counter() - begun
            self._do_step(batch)
            state.step += 1
            now = perf_counter()
            if state.step == end or self._is_due(stop, now - settled):
                self._settle()
                if state.step < end:  # an epoch that is complete is closed first
                    self._obey(stop)
                show(state.step, phase, state.ledger.live)
                settled = now = perf_counter()
            state.seconds["steps"] += now - begun
            begun = now
            if state.step % self.storage.every == 0 and state.step < end:
                self._settle()
                self._save()
                begun = perf_counter()

    def _is_due(self, stop: Interruption, elapsed: float) -> bool:
        if self.fabric.world_size > 1:
            return self.state.step % SETTLE_STEPS == 0
        pending = len(self.state.ledger)
        return stop.requested or elapsed > SETTLE_SECONDS or pending >= AT_MOST_PENDING

    def _do_step(self, batch: Batch) -> None:
        state, recipe, rank = self.state, self.recipe, self.fabric.global_rank
        # Dropout and the like depend on the step alone, not on what was drawn before it.
        torch.manual_seed(derive_seed(recipe.seed, "step", state.step, rank))
        rate = self.rate(state.step)
        for group in self.groups:
            group["lr"] = rate
        if recipe.channels_last:
            images = batch.images.contiguous(memory_format=torch.channels_last)
            batch = dataclasses.replace(batch, images=images)
        begun = perf_counter()
        loss, scalars = self.module(Parcel(batch))
        self._check_loss(loss)
        # Processes average their gradients; one with more rows than the others counts more.
        share = len(batch) * self.fabric.world_size / batch.size_global
        self.fabric.backward(loss if share == 1 else loss * share)
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, recipe.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        state.seconds["network"] += perf_counter() - begun
        if state.ema is not None:
            state.ema.update(state.step)
        state.ledger.add(state.step, len(batch), loss.detach(), scalars)

    def _check_loss(self, loss: object) -> None:
        if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
            raise InvalidInput(
                f"the objective {type(self.objective).__name__} gave no loss to differentiate",
                why="a scalar tensor that depends on the model's trainable parameters is needed",
            )

    def _settle(self) -> None:
        self.state.ledger.settle()
        fault = self.state.ledger.fault
        if agree(self.fabric, fault is not None):
            step = fault.step if fault else self.state.step - 1
            raise diverged_at(step, self.steps, self.rate(step), self.recipe, fault)

    def _obey(self, stop: Interruption) -> None:
        if agree(self.fabric, stop.requested):
            self._save()
            raise interrupted_at(self.state.step, self.steps, self.storage.folder)

    def _close_epoch(self, validation: ImageSource | None) -> dict[str, Any]:
        state = self.state
        self._require_finite()
        state.ledger.reset(sum_over_processes(self.fabric, state.ledger.sums()))
        entry: dict[str, Any] = {
            "epoch": -(-state.step // len(self.batches)),
            "step": state.step,
            **state.ledger.means(),
            "lr": self.rate(state.step - 1),
        }
        if validation is not None:
            begun = perf_counter()
            entry["validation_accuracy"] = self._accuracy(validation)
            state.seconds["validation"] += perf_counter() - begun
        entry["seconds"] = state.seconds["before"] + perf_counter() - self.begun
        state.history.append(entry)
        state.ledger.reset()
        return entry

    def _accuracy(self, validation: ImageSource) -> float:
        value = 0.0
        if self.fabric.global_rank == 0:
            with self.state.ema.applied() if self.state.ema is not None else nullcontext():
                value = accuracy(self.model, validation)
        return float(self.fabric.broadcast(value))

    def _require_finite(self) -> None:
        if bad_weight(self.model) is not None:
            step = self.state.step - 1
            raise diverged_at(step, self.steps, self.rate(step), self.recipe, None)

    def _save(self) -> None:
        if self.storage.folder is not None:
            begun = perf_counter()
            self._require_finite()
            self._write(self.state.tensors(), {})
            self.state.seconds["checkpoint"] += perf_counter() - begun

    def _write(self, tensors: dict[str, Any], more: dict[str, Any]) -> None:
        facts = {"recipe_digest": self.recipe.digest(), **self.state.facts()}
        facts["sums"] = sum_over_processes(self.fabric, facts["sums"])
        before = self.state.seconds["before"] + perf_counter() - self.begun
        facts["seconds"] = {**self.state.seconds, "before": before}
        if self.storage.folder is not None and self.fabric.global_rank == 0:
            write_checkpoint(self.storage.folder, {**self.identity, **facts, **more}, tensors)

    def _images(self, steps: int) -> int:
        # Only the last batch of an epoch may be smaller.
        return min(steps * self.recipe.batch_size, len(self.batches.source))
