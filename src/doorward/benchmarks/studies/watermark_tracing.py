"""Study `watermark-tracing`: does a leaked copy name its buyer, and never anybody else?

    doorward bench run watermark-tracing --tier cpu

One model, 65,536 buyers, a mark of its own for each copy. Copies are made for buyers drawn at
random, and attacked: fine-tuned (Adi et al. 2018, FTAL), rounded, pruned, and put together by
colluding buyers.
"""

from __future__ import annotations

import copy as copying
import dataclasses
import statistics
import time
from collections import Counter
from typing import Any

import torch
from torch import nn

from doorward.benchmarks.studies.common import recipe_of, require_data, task
from doorward.benchmarks.studies.victims import Parties, key_of, parties, plain_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.randomness import generator, numpy_generator
from doorward.removal import FineTuning, MagnitudePruning, Quantisation, Removal, remove
from doorward.watermark import WatermarkKey
from doorward.watermark.tracing import (
    Copy,
    Register,
    Sale,
    TraceResult,
    TracingCode,
    ask,
    copy_recipe,
    mark_copies,
    trace,
    trace_answers,
)

__all__ = ["watermark_tracing"]

_BITS = 16
_HARDER = 5  # times the rate of the fine-tuning; tried on every third copy


def _grid(tier: str) -> Grid:
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=10.0)
        options |= {"owner": 1000, "thief": 437, "triggers": 60}
        attack = {"copies": 5, "checks": 15, "images": 437, "epochs": 2.0, "test": 300}
        name, seeds, shrinks = "digits 16x16, resnet8 (width 8)", 1, (
            "Digits of 16x16 pixels, a quarter of the network's width, 60 triggers, 5 leaks; "
            "fine-tuning for 2 epochs instead of 20."
        )  # fmt: skip
    elif tier == "cpu":
        options = task("cifar10", "resnet8", width=16, epochs=6.0)
        options |= {"owner": 30_000, "thief": 20_000, "triggers": 64}
        attack = {"copies": 34, "checks": 34, "images": 2560, "epochs": 2.0, "test": 2000}
        name, seeds, shrinks = "cifar10, resnet8 (width 16), 6 epochs", 3, (
            "ResNet-8 of half its width and 6 epochs instead of ResNet-18 and 60; 64 triggers, "
            "as so small a network pays for each; fine-tuning with 2,560 images for 2 epochs "
            "instead of 20,000 for 20; accuracy on 2,000 test images."
        )  # fmt: skip
    else:
        options = task("cifar10", "resnet18", epochs=60.0)
        options |= {"owner": 30_000, "thief": 20_000, "triggers": 100}
        attack = {"copies": 34, "checks": 34, "images": 20_000, "epochs": 20.0, "test": 10_000}
        name, seeds, shrinks = "cifar10, resnet18", 3, ""
    settings = {f"{name}, {attack['copies']} leaks of 65,536 buyers": {**options, **attack}}
    return Grid(methods=("plain",), settings=settings, seeds=seeds, shrinks=shrinks)


@study(
    "watermark-tracing",
    version=1,
    title="Watermark: whose copy leaked",
    question="Does a leaked and attacked copy name its buyer among 65,536, and does no other model "
    "name anybody?",
    grid=_grid,
    prepare=require_data,
    notes="Shares are of the leaks of the row. A leak is traced if the buyer of the copy, and "
    "nobody else, is named at a p-value of 2⁻²⁰, which pays for all 65,536 payloads. Fine-tuning "
    "is of all layers at a hundredth of the training's largest rate, which is the rate that the "
    "paper's training ends with; harder is five times that, on every third copy. Colluders "
    "average the weights of two copies, or answer each question like one of two (three) at "
    "random. Unrelated models: the unmarked model and copies sold under other keys.",
    metrics=(
        Metric("accuracy", "Accuracy unmarked", "percent"),
        Metric("cost", "Cost of a copy (points)", "number", "lower"),
        Metric("matches", "Triggers matched", "percent", "higher"),
        Metric("traced", "Traced untouched", "percent", "higher"),
        Metric("traced_fine_tuned", "Traced after fine-tuning", "percent", "higher", plot=True),
        Metric("exact_fine_tuned", "Payload exact then", "percent", "higher"),
        Metric("traced_harder", "After harder fine-tuning", "percent", "higher", plot=True),
        Metric("traced_int8", "After rounding to 8 bits", "percent", "higher", plot=True),
        Metric("traced_pruned", "After pruning half", "percent", "higher", plot=True),
        Metric("averaged_any", "Two averaged: one named", "percent", "higher"),
        Metric("answering_two_all", "Two answering: both named", "percent", "higher"),
        Metric("answering_three_any", "Three answering: one named", "percent", "higher"),
        Metric("innocents_named", "Other buyers named", "number", "lower"),
        Metric("false_accusations", "Named by unrelated models", "number", "lower"),
        Metric("checks", "Unrelated models asked"),
        Metric("seconds_per_copy", "Marking a copy (s)", "number", "lower"),
        Metric("seconds_per_trace", "Tracing a leak (s)", "number", "lower"),
    ),
)
def watermark_tracing(cell: Cell) -> Outcome:
    """Sell copies, attack each in every way, and trace them all."""
    who = parties(cell)
    base = plain_model(cell, who.owner).model
    key = key_of(cell, who.owner, "tracing")
    register = _sold_out(cell, key)
    draw = numpy_generator(cell.seed, "leaks")
    leaked = draw.choice(len(register), cell.options["copies"], replace=False)
    recipe = copy_recipe(recipe_of(cell))
    payloads = [register.sales[i].payload for i in leaked.tolist()]
    test = who.test.sample(cell.options["test"], seed=0)
    copies = mark_copies(base, who.owner, register.code(key), payloads, recipe, validation=test)
    tally = _Tally(cell, who, register, key)
    for number, made in enumerate(copies):
        tally.add(number, made)
    checks = [_innocent(cell, who, tally, base, number) for number in range(cell.options["checks"])]
    return Outcome(
        metrics={
            **tally.metrics(),
            "false_accusations": sum(checks),
            "checks": len(checks),
        }
    )


class _Tally:
    """What becomes of the copies, one by one."""

    def __init__(self, cell: Cell, who: Parties, register: Register, key: WatermarkKey) -> None:
        self.cell, self.register, self.key = cell, register, key
        self.thief = who.thief.sample(cell.options["images"], seed=cell.seed)
        self.attacks = _attacks(cell)
        self.right: Counter[str] = Counter()
        self.tried: Counter[str] = Counter()
        self.matches: Counter[str] = Counter()
        self.innocents = 0
        self.copies: list[Copy] = []
        self.answers: list[torch.Tensor] = []
        self.seconds: list[float] = []

    def add(self, number: int, made: Copy) -> None:
        """Attack a copy; let it collude with the one or two before it."""
        self.copies.append(made)
        self.answers.append(ask(self.key, made.model))
        guilty = {self._buyer(made)}
        self._note("untouched", guilty, self._trace(made.model), made.mark.payload)
        for name, attack in self.attacks.items():
            if name != "harder" or number % 3 == 0:
                attacked, _ = remove(made.model, self.thief, attack, seed=self.cell.seed)
                self._note(name, guilty, self._trace(attacked), made.mark.payload)
        if number % 2 == 1:
            pair = self.copies[-2:]
            self._note("averaged", {self._buyer(c) for c in pair}, self._trace(_mean(pair)))
            self._answering("answering_two", 2)
        if number % 3 == 2:
            self._answering("answering_three", 3)

    def metrics(self) -> dict[str, Any]:
        """All numbers of the copies."""
        made = [copy.result for copy in self.copies]
        before = made[0].embedding.accuracy_before or 0.0
        costs = [100 * (before - (one.embedding.accuracy or 0.0)) for one in made]
        n, shares = self.key.n, {k: self.right[k] / self.tried[k] for k in self.tried}
        return {
            "accuracy": before,
            "cost": statistics.mean(costs),
            "cost_worst": max(costs),
            "matches": statistics.mean(one.matches for one in made) / n,
            "matches_least": min(one.matches for one in made) / n,
            "traced": shares["untouched"],
            "traced_fine_tuned": shares["fine_tuned"],
            "exact_fine_tuned": shares["fine_tuned exact"],
            "traced_harder": shares["harder"],
            "traced_int8": shares["int8"],
            "traced_pruned": shares["pruned"],
            **{
                f"matches_{name}": self.matches[name] / self.tried[name] / n
                for name in ("fine_tuned", "harder", "int8", "pruned")
            },
            "averaged_any": shares.get("averaged any"),
            "averaged_all": shares.get("averaged"),
            "answering_two_all": shares.get("answering_two"),
            "answering_two_any": shares.get("answering_two any"),
            "answering_three_all": shares.get("answering_three"),
            "answering_three_any": shares.get("answering_three any"),
            "innocents_named": self.innocents,
            "seconds_per_copy": statistics.median(one.embedding.fit.seconds for one in made),
            "seconds_per_trace": statistics.median(self.seconds),
        }

    def _buyer(self, made: Copy) -> str:
        return str(self.register.buyer_of(made.mark.payload))

    def _trace(self, suspect: nn.Module) -> TraceResult:
        begun = time.perf_counter()
        found = trace(suspect, self.key, self.register)
        self.seconds.append(time.perf_counter() - begun)
        return found

    def _answering(self, name: str, size: int) -> None:
        """Colluders who answer each question like one of them, drawn at random."""
        draw = generator(self.cell.seed, name, len(self.copies))
        who = torch.randint(size, (self.key.n,), generator=draw)
        mixed = torch.stack(self.answers[-size:])[who, torch.arange(self.key.n)]
        found = trace_answers(mixed, self.register.code(self.key), self.register)
        self._note(name, {self._buyer(copy) for copy in self.copies[-size:]}, found)

    def _note(
        self, name: str, guilty: set[str], found: TraceResult, payload: int | None = None
    ) -> None:
        named = set(found.buyers)
        for kind, right in [
            (name, named == guilty),
            (f"{name} any", bool(named & guilty)),
            (f"{name} exact", found.best.payload == payload),
        ]:
            self.tried[kind] += 1
            self.right[kind] += right
        self.matches[name] += found.best.matches
        self.innocents += len(named - guilty)


def _attacks(cell: Cell) -> dict[str, Removal]:
    recipe, epochs = recipe_of(cell), cell.options["epochs"]
    fine_tuning = FineTuning(epochs=epochs, lr=recipe.lr / 100, augment=recipe.augment)
    return {
        "fine_tuned": fine_tuning,
        "harder": dataclasses.replace(fine_tuning, lr=_HARDER * fine_tuning.lr),
        "int8": Quantisation(),
        "pruned": MagnitudePruning(share=0.5),
    }


def _sold_out(cell: Cell, key: WatermarkKey) -> Register:
    """A register in which every payload is sold."""
    order = numpy_generator(cell.seed, "payloads").permutation(1 << _BITS).tolist()
    sales = tuple(
        Sale(buyer=f"buyer {i}", payload=p, sold="2026-01-01T00:00:00Z", salt=f"{i:064x}")
        for i, p in enumerate(order)
    )
    return dataclasses.replace(Register.of(key, _BITS), sales=sales)


def _innocent(cell: Cell, who: Parties, tally: _Tally, base: nn.Module, number: int) -> bool:
    """Whether a model is traced to anybody under a key that it has nothing to do with."""
    other = key_of(cell, who.owner, f"unrelated {number}")
    suspect = base if number % 2 == 0 else tally.copies[number % len(tally.copies)].model
    # With every payload sold, a payload that is found is a buyer that is accused.
    return trace_answers(ask(other, suspect), TracingCode(other, _BITS)).traced


def _mean(copies: list[Copy]) -> nn.Module:
    """A model whose weights are the mean of the copies' weights."""
    states = [copy.model.state_dict() for copy in copies]
    mean = copying.deepcopy(copies[0].model)
    mean.load_state_dict(
        {
            name: torch.stack([state[name] for state in states]).mean(0)
            if first.is_floating_point()
            else first
            for name, first in states[0].items()
        }
    )
    return mean
