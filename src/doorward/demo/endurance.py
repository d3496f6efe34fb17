"""Chapter three: attacks on the mark, and a leaked copy that names its buyer.

::

    part = tell(story)      # needs story.shelf["marked"] and ["mark_key"]
"""

from __future__ import annotations

import dataclasses
from typing import Any

from doorward.demo.story import Part, Story
from doorward.metrics import accuracy
from doorward.removal import FineTuning, Quantisation, remove
from doorward.reporting import Note, Number, Numbers, Section, Table, Text, percent, power_of_two
from doorward.reporting import Verdict as Answer
from doorward.reporting.watermark import attack_section
from doorward.watermark import WatermarkKey
from doorward.watermark.suite import Attack, AttackTable, Thief, attack_table, standard_attacks
from doorward.watermark.tracing.copies import copy_recipe, mark_copies
from doorward.watermark.tracing.register import Register
from doorward.watermark.tracing.result import TraceResult
from doorward.watermark.tracing.tracing import trace

__all__ = ["tell"]

_BUYERS = ("Babbage", "De Morgan")
_LEAK = 1
_LEAST_LOG2_P = -30
_TUNING = "FTAL 0.01"


def tell(story: Story) -> Part:
    """Attack the marked model; mark copies for two buyers, and trace one that leaked."""
    table = _attacks(story)
    tuned = next(row for row in table.rows if row.attack.label == _TUNING)
    found, innocent, copies = _leak(story)
    correct = found.buyer == _BUYERS[_LEAK]
    attacked = attack_section(table.to_dict(), log2_alpha=_LEAST_LOG2_P)
    return Part(
        key="watermark",
        summary={
            "after_fine_tuning_p_value": tuned.p_value,
            "traced_buyer_correct": correct,
        },
        section=Section(
            "Does the mark last, and who leaked it?",
            (*attacked.blocks, *_leaked(found, innocent, copies)),
            summary="Copies of the marked model are fine-tuned, pruned and rounded. Then two "
            "buyers get a copy each, one of them leaks, and the leak says whose it was.",
        ),
        promises={
            "the mark is still proven after fine-tuning": tuned.log2_p <= _LEAST_LOG2_P,
            "a leaked copy names its buyer": correct,
            "an innocent model names nobody": not innocent.traced,
        },
    )


def _attacks(story: Story) -> AttackTable:
    """A short form of the table; the long one is the study `watermark-attacks`."""
    recipe = dataclasses.replace(story.recipe, seed=story.seed)
    epochs = min(4.0, recipe.epochs)
    attacks: list[Attack] = [
        attack
        for attack in standard_attacks(
            families=("fine-tuning", "pruning", "quantisation"),
            epochs=epochs,
            rates=(1e-3, 1e-2),
            augment=recipe.augment,
        )
        if attack.label.startswith(("FTAL", "pruning 50", "pruning 70", "int8"))
    ]
    return attack_table(
        story.shelf["marked"],
        story.shelf["mark_key"],
        Thief(data=story.train, recipe=recipe, seed=story.seed, device=story.device),
        story.test,
        attacks,
        carriers=story.test,
        on_row=lambda row: story.say(f"      {row.attack.label}: {row.matches} of {row.n} left"),
    )


def _leak(story: Story) -> tuple[TraceResult, TraceResult, list[float]]:
    """Sell two copies, blur one by fine-tuning and rounding, and trace it."""
    key = WatermarkKey.new(
        n=100, classes=story.train.num_classes, image_shape=story.train.image_shape
    )
    register = Register.of(key, bits=16)
    for buyer in _BUYERS:
        register = register.sell(buyer)
    # Digits are learnt faster than what `copy_recipe` has in mind.
    steps = min(60, story.recipe.steps(len(story.train)))
    recipe = dataclasses.replace(copy_recipe(story.recipe), max_steps=steps, batch_size=64)
    copies = list(
        mark_copies(
            story.shelf["marked"],
            story.train,
            register.code(key),
            [sale.payload for sale in register.sales],
            recipe,
            per_batch=48,
            keep=[story.shelf["mark_key"]],
            device=story.device,
        )
    )
    thief = story.train.sample(len(story.train) // 4, seed=story.seed)
    blur = FineTuning(epochs=1.0, lr=1e-3)
    leaked, _ = remove(copies[_LEAK].model, thief, blur, seed=story.seed, device=story.device)
    leaked, _ = remove(leaked, thief, Quantisation(), seed=story.seed, device=story.device)
    right = [accuracy(copy.model, story.test) for copy in copies]
    return trace(leaked, key, register), trace(story.shelf["clean"], key, register), right


def _leaked(found: TraceResult, innocent: TraceResult, copies: list[float]) -> list[Any]:
    return [
        Text(
            "The owner sells two copies. Each gets a mark of its own, out of 65,536 possible "
            "ones: the same secret pictures, but other labels. One copy turns up somewhere else, "
            "fine-tuned a little and rounded to eight bits."
        ),
        Answer(
            f"Does the leaked copy name its buyer, {_BUYERS[_LEAK]}?",
            found.buyer == _BUYERS[_LEAK],
            detail=f"{found.best.matches} of {found.n} answers are those of this copy; that any "
            f"of all marks gets so many by chance: {power_of_two(found.best.log2_p)}",
        ),
        Answer(
            "Does a model that was never sold name anybody?",
            innocent.traced,
            good=not innocent.traced,
            detail=f"the best of all marks matches {innocent.best.matches} of {innocent.n}",
        ),
        Table(
            ["Copy of", "Accuracy"],
            [[buyer, percent(right)] for buyer, right in zip(_BUYERS, copies, strict=True)],
            "The two copies",
        ),
        Numbers(
            Number("Answers that speak for the buyer", found.best.matches, f"of {found.n}"),
            Number("For the next best mark", found.best.runner_up, f"of {found.n}"),
        ),
        Note(
            "A trace convinces the seller. A judge needs the register of sales, committed and "
            "signed before the leak, because the seller knows all marks."
        ),
    ]
