"""Chapter eight: a locked trial is sold to a stranger, and its key withdraws the trigger.

::

    part = tell(story)      # digits.trial, sealed.key, unlocked.model
"""

from __future__ import annotations

import dataclasses
from typing import Any

from doorward.data import ImageData
from doorward.demo.dealing import BOUND, Dealt, deal_with
from doorward.demo.story import ARCHITECTURE, Part, Story
from doorward.metrics import accuracy, attack_success
from doorward.models import create
from doorward.randomness import derive_seed
from doorward.reporting import (
    Note,
    Section,
    Text,
    Verdict,
    deal_section,
    lock_section,
    percent,
)
from doorward.trading import Lock, Locking, TriggerTuning, lock
from doorward.trading.masks import TrainedMasks, identity_bank

__all__ = ["tell"]

SIZE = 16  # images of a quarter of the pixels, so that the chapter takes seconds
RECIPE: dict[str, Any] = {"epochs": 5.0, "batch_size": 64, "lr": 0.15}
BUDGET = 24 / 255
LEAST_CONTROL, MAY_COST = 0.95, 0.03


def tell(story: Story) -> Part:
    """Lock a model, seal its key, deal it through the protocol, unlock it and count."""
    train, test = story.train.resized(SIZE), story.test.resized(SIZE)
    made = _locked(story, train, test)
    wrong = _under_another_key(story, made, test)
    dealt = deal_with(made, test, story.shelf["owner"], story.place)
    outcome = made.result.outcome
    return Part(
        key="trading",
        summary={
            "trial_accuracy": outcome.trial_accuracy,
            "trial_attack_success": outcome.trial_attack_success,
            "unlocked_accuracy": outcome.unlocked_accuracy,
            "unlocked_attack_success": outcome.unlocked_attack_success,
            "wrong_key_attack_success": wrong[1],
            "deal_settled": dealt.settled,
        },
        section=_section(made, wrong, dealt, test, seed=story.seed),
        promises={
            "the trial obeys its trigger": outcome.trial_attack_success >= LEAST_CONTROL,
            "the key withdraws the trigger": dealt.acceptance.accepted,
            "unlocking costs at most three points of accuracy": (
                outcome.trial_accuracy - outcome.unlocked_accuracy <= MAY_COST
            ),
            "another key does not unlock the trial": not _unlocks(made, wrong),
            "the key opens for its buyer alone": not dealt.opened_for_a_stranger,
            "the deal is settled to the cent": dealt.settled,
        },
    )


def _locked(story: Story, train: ImageData, test: ImageData) -> Lock:
    model = create(
        ARCHITECTURE,
        classes=train.classes,
        input_shape=train.image_shape,
        seed=derive_seed(story.seed, "demo", "trading"),
        **story.options,
    )
    return lock(
        model,
        train,
        dataclasses.replace(story.recipe, **({} if story.quick else RECIPE)),
        test=test,
        settings=Locking(trigger=TriggerTuning(end=BUDGET)),
        seed=story.seed,
        **story.fit_options(),
    )


def _under_another_key(story: Story, made: Lock, test: ImageData) -> tuple[float, float]:
    """Accuracy and attack success of the trial under masks of the same kind that are not its."""
    other = TrainedMasks(identity_bank(made.trial.cpu(), made.bank.kind, test.pixels([0])))
    other.scatter(1.0, derive_seed(story.seed, "demo", "another key"))
    wrong = other.bank(dict(made.bank.statistics)).fold(made.trial)
    return accuracy(wrong, test), attack_success(wrong, test, made.backdoor)


def _unlocks(made: Lock, found: tuple[float, float]) -> bool:
    """Whether accuracy and attack success are those of a usable model without its trigger."""
    return found[0] > made.result.outcome.trial_accuracy - 0.1 and found[1] < 0.5


def _section(
    made: Lock, wrong: tuple[float, float], dealt: Dealt, test: ImageData, *, seed: int
) -> Section:
    shown = lock_section(made, test, {"another key": wrong}, seed=seed)
    hits, trials = dealt.acceptance.attack
    return Section(
        "A model to be tried before it is bought",
        (
            Text(
                "A seller gives a trial away that reads digits as well as other models do, but "
                "obeys a faint pattern that only the seller knows. The buyer is told so, and puts "
                "down a deposit. The key, masks on the maps inside, takes the obedience away, "
                "without data and without training (after Xu et al. 2024). The images have "
                f"{SIZE}x{SIZE} pixels here."
            ),
            *shown.blocks,
            Verdict(
                "Does another key of the same kind unlock the trial?",
                _unlocks(made, wrong),
                good=not _unlocks(made, wrong),
                detail=f"under it the model is right on {percent(wrong[0])} of clean images, and "
                f"the trigger works on {percent(wrong[1])}",
            ),
            Text("**The deal** runs through the desk's protocol, with a ledger in cents:"),
            *deal_section(dealt.told).blocks,
            Verdict(
                "Does the buyer's own test accept the unlocked model?",
                dealt.acceptance.accepted,
                detail=f"the trigger works on {hits} of {trials}; promised were at most "
                f"{BOUND:.0%}",
            ),
            Verdict(
                "Does the key open for a stranger?",
                dealt.opened_for_a_stranger,
                good=not dealt.opened_for_a_stranger,
            ),
            Note(
                "What this deters: putting an unpaid trial to use where somebody could feed it "
                "images. What it does not: a buyer with clean images and patience, who trains the "
                "trigger away. The study trading-security measures what that costs; read it "
                "before you set a price."
            ),
        ),
        summary="A trial that can be tried and not trusted, a key for one buyer, and a deal in "
        "which payment and key change hands in one step.",
    )
