"""Study `watermark-basic`: what a keyed watermark costs, and whom it convinces.

    doorward bench run watermark-basic --tier cpu

After Adi et al. (2018), tables 1 and 2: a model without a mark, one marked from scratch, one marked
after training; the owner's key on each, a stranger's key on each, and the owner's key on a model
that was trained independently. Ours: verification by an exact p-value instead of a threshold.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Literal

from torch import nn

from doorward.benchmarks.studies.common import (
    load_pair,
    new_model,
    recipe_of,
    require_data,
    task,
)
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.bundles.identity import Identity
from doorward.data import ImageData
from doorward.metrics import accuracy
from doorward.randomness import Secret, derive_seed
from doorward.training import Recipe, fit
from doorward.watermark.claim import make_claim
from doorward.watermark.embedding import embed
from doorward.watermark.key import KeyParameters, WatermarkKey
from doorward.watermark.objective import pretrained_recipe
from doorward.watermark.verdict import Verdict
from doorward.watermark.verification import verify

__all__ = ["watermark_basic"]

Mode = Literal["from-scratch", "pretrained"]
_METHODS = ("unmarked", "from-scratch", "pretrained")


def _grid(tier: str) -> Grid:
    if tier == "quick":
        options = task("digits", "resnet8", width=16, size=16, epochs=6.0)
        return Grid(
            methods=_METHODS,
            settings={"digits 16x16, resnet8 (width 16)": {**options, "triggers": 60}},
            shrinks="Digits of 16x16 pixels, half the network's width, 6 epochs, and 60 triggers "
            "instead of 100.",
        )
    if tier == "cpu":
        options = task("cifar10", "resnet8", epochs=4.0)
        return Grid(
            methods=_METHODS,
            settings={"cifar10, resnet8, 4 epochs": {**options, "triggers": 100}},
            seeds=2,
            shrinks="ResNet-8 and 4 epochs instead of ResNet-18 and 60.",
        )
    options = task("cifar10", "resnet18", epochs=60.0)
    return Grid(
        methods=_METHODS,
        settings={"cifar10, resnet18": {**options, "triggers": 100}},
        seeds=3,
    )


@study(
    "watermark-basic",
    version=2,
    title="Watermark: cost and proof",
    question="What does marking a model cost in accuracy, and does the owner's key, and only the "
    "owner's key, open it?",
    grid=_grid,
    prepare=require_data,
    notes="Owner's key: claims are verified at p ≤ 2⁻⁶⁴. The stranger signs a claim of their own "
    "and tries their own key on the same model. The independent model was trained by the same "
    "recipe with another seed and has never seen the owner's key; for a model marked after "
    "training, it is that model before it was marked.",
    metrics=(
        Metric("accuracy", "Accuracy", "percent", "higher", plot=True),
        Metric("matches", "Triggers matched", "percent", plot=True),
        Metric("log2_p", "p-value", "log2"),
        Metric("verified", "Owner verified", "yesno"),
        Metric("stranger_verified", "Stranger verified", "yesno"),
        Metric("independent_verified", "Independent model verified", "yesno"),
        Metric("independent_matches", "Matches of independent model", "percent"),
        Metric("train_seconds", "Training (s)"),
    ),
)
def watermark_basic(cell: Cell) -> Outcome:
    """Train or mark by the cell's method; verify with the owner's and a stranger's key."""
    train, test = load_pair(cell)
    recipe = recipe_of(cell)
    owner, stranger = Identity.new("owner"), Identity.new("stranger")
    key, others = (_key(cell, name, train) for name in ("owner", "stranger"))
    claim, rival = make_claim(key, owner), make_claim(others, stranger)
    model = new_model(cell, train)
    facts: dict[str, int | float | None] = {"per_batch": None, "exposures": None}
    independent: Verdict | None = None
    if cell.method in {"unmarked", "pretrained"}:
        seconds = fit(model, None, train, recipe).seconds
    if cell.method == "pretrained":
        independent = verify(claim, key, model, public=owner.public)
        recipe = pretrained_recipe(recipe, images=len(train), n=key.n)
    if cell.method != "unmarked":
        mode: Mode = "pretrained" if cell.method == "pretrained" else "from-scratch"
        marked = embed(model, train, key, recipe, mode=mode)
        facts = {"per_batch": marked.per_batch, "exposures": marked.exposures}
        seconds = marked.fit.seconds
    if cell.method == "from-scratch":
        other = _independent(cell, train, recipe)
        independent = verify(claim, key, other, public=owner.public)
    mine = verify(claim, key, model, public=owner.public)
    theirs = verify(rival, others, model, public=stranger.public)
    return Outcome(
        metrics={
            "accuracy": accuracy(model, test),
            "matches": mine.trigger_accuracy,
            "log2_p": mine.log2_p,
            "verified": mine.verified,
            "stranger_verified": theirs.verified,
            "stranger_matches": theirs.trigger_accuracy,
            "independent_verified": None if independent is None else independent.verified,
            "independent_matches": None if independent is None else independent.trigger_accuracy,
            "train_seconds": seconds,
            **facts,
        }
    )


def _key(cell: Cell, name: str, source: ImageData) -> WatermarkKey:
    """A key that the same cell derives again. Real keys come from `WatermarkKey.new`."""
    seed = hashlib.sha256(f"watermark-basic {name} {cell.seed}".encode()).digest()
    parameters = KeyParameters(
        n=cell.options["triggers"], classes=source.num_classes, image_shape=source.image_shape
    )
    return WatermarkKey(Secret(seed), parameters)


def _independent(cell: Cell, source: ImageData, recipe: Recipe) -> nn.Module:
    seed = derive_seed(cell.seed, "independent")
    model = new_model(cell, source, seed=seed)
    fit(model, None, source, dataclasses.replace(recipe, seed=seed))
    return model
