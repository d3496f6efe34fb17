"""Study `watermark-piracy`: somebody writes a second mark over the first. Who is believed?

    doorward bench run watermark-piracy --tier cpu

After Adi et al. (2018) on ownership piracy: a model marked from scratch is overwritten with a
second owner's key, and copies are fine-tuned (FTAL, RTAL) to see which mark fades. The paper's
pirate trains for as many epochs as the owner at a hundredth of the rate. Ours: pirates who train
harder, an exact test in place of bar heights, and the whole settlement with time stamps and
exhibits. Victims are those of the study ``watermark-attacks``, trained once and kept on disk.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from torch import nn

from doorward.benchmarks.studies.common import recipe_of, require_data
from doorward.benchmarks.studies.victims import (
    Victim,
    key_of,
    marked_model,
    parties,
    plain_model,
)
from doorward.benchmarks.studies.watermark_functionality import scale
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, Value, study
from doorward.bundles import Identity, digest, save_model
from doorward.data import ImageData
from doorward.metrics import accuracy, binomial_tail_log2
from doorward.training import Recipe
from doorward.watermark import (
    WatermarkKey,
    count_matches,
    embed,
    make_claim,
    pretrained_recipe,
    triggers_per_batch,
)
from doorward.watermark.disputes import (
    Evidence,
    Party,
    Settlement,
    compare_survival,
    drills,
    settle,
    witness_claim,
)

__all__ = ["watermark_piracy"]

_GENTLE = "same epochs, 1/100 of the rate"
_SHORT = "1/8 of the epochs, half the rate"
_FULL = "same epochs, same rate"
_FULL_APP = "same epochs, same rate, over app"
_FULL_BLENDED = "same epochs, same rate, over blended"
_REPEATS = 5
"""How much oftener the gentlest pirate shows his triggers: at his rate they are hardly learnt."""


def _grid(tier: str) -> Grid:
    name, options, seeds, shrinks = scale(tier)
    few = tier == "quick"
    options |= {
        "court": 300 if few else 5_000 if tier == "cpu" else 10_000,
        "rates": [0.01, 0.03] if few else [0.003, 0.01, 0.03, 0.1],
        "court_epochs": 2.0 if few else 1.0 if tier == "cpu" else 5.0,
    }
    return Grid(
        methods=tuple(_PIRATES) if tier == "paper" else (_GENTLE, _SHORT, _FULL, _FULL_BLENDED),
        settings={name: options},
        seeds=seeds,
        shrinks=""
        if tier == "paper"
        else f"{shrinks} The court fine-tunes on {options['court']:,} images.",
    )


_PIRATES: dict[str, Callable[[Recipe, int, int], Recipe]] = {
    _GENTLE: lambda recipe, images, n: dataclasses.replace(
        recipe, lr=recipe.lr / 100, schedule="constant"
    ),
    _SHORT: lambda recipe, images, n: pretrained_recipe(recipe, images=images, n=n),
    _FULL: lambda recipe, images, n: recipe,
    _FULL_APP: lambda recipe, images, n: recipe,
    _FULL_BLENDED: lambda recipe, images, n: recipe,
}
_EMBEDDINGS = {_FULL_APP: "app", _FULL_BLENDED: "blended"}
"""How the owner marked the victim, where not plainly."""


@study(
    "watermark-piracy",
    version=1,
    title="Watermark: piracy",
    question="After a pirate has written his mark over the owner's, does the owner's still verify, "
    "and does the evidence say whose was first?",
    grid=_grid,
    prepare=require_data,
    notes="The pirate has the model and all the owner's images; at a hundredth of the rate he "
    "shows his triggers five times as often, or they would hardly be learnt. Model says is the "
    "fine-tuning test on copies, which names the owner, or the pirate (wrongly), or abstains. "
    "Settled is the decision with time stamps (the owner's claim is older), that test, and "
    "exhibits (the owner shows the model that the claim names, the pirate the disputed one; two "
    "unmarked models of other seeds serve as controls). Squatted is the same without the test, "
    "where the pirate had stamped a claim before the owner did: only the exhibits can help. Where "
    "the owner's mark no longer verifies, the pirate has not overwritten the mark but removed it, "
    "at the price of a whole training with all the images.",
    metrics=(
        Metric("accuracy", "Accuracy before", "percent", "higher"),
        Metric("accuracy_after", "after", "percent"),
        Metric("first_matches", "Owner's triggers", "percent", plot=True),
        Metric("second_matches", "Pirate's triggers", "percent"),
        Metric("first_log2_p", "Owner's p-value", "log2"),
        Metric("first_verified", "Owner verified", "yesno"),
        Metric("second_verified", "Pirate verified", "yesno"),
        Metric("first_survival", "Owner's after fine-tuning", "percent"),
        Metric("second_survival", "Pirate's after fine-tuning", "percent"),
        Metric("model_older", "Model says owner", "yesno"),
        Metric("model_wrong", "Model says pirate", "yesno"),
        Metric("settled", "Settled for the owner", "yesno"),
        Metric("settled_squatted", "Settled, squatted", "yesno"),
    ),
)
def watermark_piracy(cell: Cell) -> Outcome:
    """Overwrite the victim's mark by the cell's recipe; settle the dispute."""
    have, recipe = parties(cell), recipe_of(cell)
    victim = marked_model(cell, have.owner, _EMBEDDINGS.get(cell.method, "plain"))
    pirates_key = key_of(cell, have.owner, "pirate")
    disputed = copy.deepcopy(victim.model)
    overwrite = _PIRATES[cell.method](recipe, len(have.owner), pirates_key.n)
    steps = overwrite.steps(len(have.owner))
    often = triggers_per_batch(pirates_key.n, steps, overwrite.batch_size)
    per_batch = min(pirates_key.n, often * (_REPEATS if cell.method == _GENTLE else 1))
    done = embed(
        disputed, have.owner, pirates_key, overwrite, mode="pretrained", per_batch=per_batch
    )
    with tempfile.TemporaryDirectory(prefix="doorward-piracy-") as folder:
        settled, squatted = _settlements(
            cell, victim, pirates_key, disputed, have.owner, recipe, Path(folder) / "owners.model"
        )
    marks = {"first": victim.key, "second": pirates_key}
    facts: dict[str, Value] = {
        "accuracy": accuracy(victim.model, have.test),
        "accuracy_after": accuracy(disputed, have.test),
        "overwrite_seconds": done.fit.seconds,
        "per_batch": per_batch,
        "settled": settled.winner == 0,
        "settled_squatted": squatted.winner == 0,
        **_of_the_test(settled),
        **_of_exhibits(settled),
    }
    for place, (name, key) in enumerate(marks.items()):
        matches = count_matches(key, disputed)
        facts[f"{name}_matches"] = matches / key.n
        facts[f"{name}_log2_p"] = binomial_tail_log2(matches, key.n, 1 / key.classes)
        facts[f"{name}_verified"] = settled.verdicts[place].verified
    return Outcome(metrics=facts, note=settled.reason)


def _settlements(
    cell: Cell,
    victim: Victim,
    pirates_key: WatermarkKey,
    disputed: nn.Module,
    source: ImageData,
    recipe: Recipe,
    folder: Path,
) -> tuple[Settlement, Settlement]:
    """With all evidence; and with exhibits only, where the pirate's claim is the older one."""
    owner, pirate, notary = (Identity.new(name) for name in ("owner", "pirate", "notary"))
    save_model(victim.model, folder)
    first = make_claim(victim.key, owner, model_digest=digest(folder))
    second = make_claim(pirates_key, pirate)
    one = Party(claim=first, key=victim.key, public=owner.public, exhibit=str(folder))
    other = Party(claim=second, key=pirates_key, public=pirate.public, exhibit=disputed)

    def seen(first_day: int, second_day: int) -> Evidence:
        dates = [datetime(2026, 1, day, tzinfo=UTC) for day in (first_day, second_day)]
        papers = [
            witness_claim(claim, notary, seen=date)
            for claim, date in zip((first, second), dates, strict=True)
        ]
        return Evidence(papers=papers, witnesses=[notary.public])

    options = cell.options
    # Unmarked models of other seeds are what independence looks like.
    others = [
        plain_model(dataclasses.replace(cell, seed=cell.seed + 1 + i), source) for i in (0, 1)
    ]
    controls = [other.model for other in others]
    fine_tunings = drills(
        rates=options["rates"],
        epochs=options["court_epochs"],
        batch_size=recipe.batch_size,
        augment=recipe.augment,
    )
    return (
        settle(
            disputed,
            one,
            other,
            evidence=seen(1, 9),
            clean=source.sample(options["court"], seed=cell.seed),
            fine_tunings=fine_tunings,
            controls=controls,
            seed=cell.seed,
        ),
        settle(disputed, one, other, evidence=seen(9, 1), controls=controls),
    )


def _of_the_test(settled: Settlement) -> dict[str, Value]:
    """What the fine-tuning test found; nothing where a mark was gone and nobody asked."""
    found = settled.asymmetry or compare_survival((0, 0), ((), ()), ())
    facts: dict[str, Value] = {
        "first_survival": found.survival[0],
        "second_survival": found.survival[1],
        "asymmetry_p": found.p_value,
        "model_older": found.older == 0 if settled.asymmetry else None,
        "model_wrong": found.older == 1 if settled.asymmetry else None,
    }
    for one in found.rounds:
        for name, survived in zip(("first", "second"), one.survived, strict=True):
            facts[f"{one.drill}_{one.lr:g}_{name}"] = survived
    return facts


def _of_exhibits(settled: Settlement) -> dict[str, Value]:
    """How like the disputed model the owner's exhibit answers, and how like independent ones."""
    found = settled.exhibits
    shown = None if found is None else found.exhibits[0]
    return {
        "agreement_exhibit": None if shown is None else shown.agreement,
        "agreement_controls": None if found is None else max(found.controls),
    }
