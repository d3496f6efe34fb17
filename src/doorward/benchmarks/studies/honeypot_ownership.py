"""Study `honeypot-ownership`: whom the owner's test accuses, after whatever the thief did to hide.

doorward bench run honeypot-ownership --tier cpu
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from typing import Any

from torch import nn

from doorward.benchmarks.studies.common import require_data
from doorward.benchmarks.studies.honeypots import (
    LEVEL,
    copy_of,
    guard,
    independent,
    key_of_lean,
    options_of,
    success,
)
from doorward.benchmarks.studies.victims import Parties, kept, parties, plain_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.bundles import Identity
from doorward.data import ImageData
from doorward.files import canonical_json
from doorward.honeypot import Menu, examine, make_claim
from doorward.honeypot.proof import LeanClaim
from doorward.honeypot.proof.counting import count_again
from doorward.honeypot.proof.verification import Examination
from doorward.metrics import accuracy
from doorward.models import Classifier
from doorward.removal import FineTuning, MagnitudePruning, remove

__all__ = ["HIDING", "METHODS", "honeypot_ownership"]

METHODS = ("lean", "undefended")
HIDING = ("as stolen", "labels alone", "fine-tuned", "pruned 50 %", "second hop", "cutout")


def _grid(tier: str) -> Grid:
    options, name, shrinks = options_of(tier)
    options |= {"alpha": 1e-3, "controls": 4, "wrong": 200}
    if tier == "quick":
        options |= {"alpha": 0.05, "controls": 1, "wrong": 20}
    chosen = ("as stolen", "fine-tuned") if tier == "quick" else HIDING
    return Grid(
        methods=METHODS,
        settings={f"{hiding}; {name}": {**options, "hiding": hiding} for hiding in chosen},
        seeds=1 if tier == "quick" else 3,
        shrinks=shrinks,
    )


@study(
    "honeypot-ownership",
    version=1,
    title="Honeypot: whom the owner's test accuses",
    question="Is every copy of a leaning model proven, and nothing else, however the thief hides?",
    grid=_grid,
    prepare=require_data,
    notes="The exact test of the keyed lean, from labels alone, sequential, against independent "
    "models as controls. `lean` rows are to be proven, `undefended` rows (copies of the victim "
    "without a lean, by the same seeds) are not. Wrong keys: the share of other keys of the same "
    "menu by which the same suspect would have been accused; for honest owners of those keys that "
    "would be false accusations. Fine-tuning is on a tenth of the thief's images with true labels; "
    "the second hop is a copy of the copy, by its soft answers; with labels alone the lean may "
    "change labels within the bounds.",
    metrics=(
        Metric("verified", "Proven", "yesno"),
        Metric("log2_p", "p", "log2", plot=True),
        Metric("success", "Success", "percent"),
        Metric("control_success", "Best control", "percent", "lower"),
        Metric("wrong_keys", "Wrong keys accused", "percent", "lower"),
        Metric("queries", "Questions", "number", "lower"),
        Metric("images", "Images", "number", "lower"),
        Metric("accuracy", "Suspect's accuracy", "percent"),
        Metric("agreement", "Labels kept", "percent", "higher"),
    ),
)
def honeypot_ownership(cell: Cell) -> Outcome:
    """Steal, hide, and be examined."""
    who = parties(cell)
    half = len(who.test) // 2
    mine, test = who.test.split(half, len(who.test) - half, seed=0)
    victim = plain_model(cell, who.owner).model
    guarded = guard(cell, victim, mine, who.owner, cell.method)
    suspect = _hidden(cell, _stolen(cell, guarded.model, who), who)
    levels = [16 / 255, 32 / 255, LEVEL / 255]
    owner = Identity.new("Owner")
    claim = make_claim(
        guarded.key, guarded.menu, owner, alpha=cell.options["alpha"], amplitudes=levels
    )
    controls = independent(cell, who.owner, cell.options["controls"])
    found = examine(claim, guarded.key, suspect, test, controls, public=owner.public)
    verdict = found.verdict
    metrics: dict[str, Any] = {
        "verified": verdict.verified,
        "log2_p": verdict.log2_p,
        "success": success(suspect, test, guarded.triggers),
        "control_success": max(verdict.control_success),
        "wrong_keys": _wrong(cell, claim, guarded.menu, found),
        "queries": verdict.queries,
        "images": verdict.images,
        "accuracy": accuracy(suspect, test),
        "agreement": guarded.cost.agreement,
        "victim_accuracy_drop": 100 * guarded.cost.accuracy_drop,
    }
    return Outcome(metrics=metrics)


def _stolen(cell: Cell, served: nn.Module, who: Parties) -> Classifier:
    """The copy as it was stolen; several settings begin with the same one."""
    hiding = cell.options["hiding"]
    answers = "label" if hiding == "labels alone" else "soft"
    cutout = who.thief.image_shape[1] // 2 if hiding == "cutout" else 0
    facts = {
        "study": "honeypot-ownership 1",
        "options": {name: value for name, value in cell.options.items() if name != "hiding"},
        "data": [who.owner.digest(), who.thief.digest()],
        "method": cell.method,
        "answers": answers,
        "cutout": cutout,
        "seed": cell.seed,
    }

    def train() -> tuple[Classifier, dict[str, Any]]:
        return copy_of(cell, served, who.thief, answers=answers, cutout=cutout), {}

    return kept(hashlib.sha256(canonical_json(facts)).hexdigest(), train)[0]


def _hidden(cell: Cell, copy: Classifier, who: Parties) -> nn.Module:
    """What the thief makes of the copy afterwards."""
    hiding = cell.options["hiding"]
    if hiding == "second hop":
        return copy_of(cell, copy, who.thief, seed=3000)
    treatment: Any = None
    if hiding == "fine-tuned":
        treatment = FineTuning(epochs=5.0, lr=1e-2)
    elif hiding == "pruned 50 %":
        treatment = MagnitudePruning(share=0.5)
    if treatment is None:
        return copy
    some: ImageData = who.thief.sample(max(len(who.thief) // 10, 50), seed=cell.seed)
    return remove(copy, some, treatment, seed=cell.seed)[0]


def _wrong(cell: Cell, claim: LeanClaim, menu: Menu, found: Examination) -> float:
    """Share of other keys by which the same answers would have been an accusation."""
    if found.told is None:
        return 0.0
    level = math.log2(cell.options["alpha"])
    accused = tried = 0
    mine = set(key_of_lean(cell).choose(menu))
    for number in range(cell.options["wrong"]):
        other = key_of_lean(dataclasses.replace(cell, seed=number), "wrong")
        if mine & set(other.choose(menu)):
            continue  # shares a secret with the owner's
        tried += 1
        verdict = count_again(claim, other, found.told, found.truth, found.controls, level)
        accused += verdict.verified
    return accused / max(tried, 1)
