"""Chapter seven: the backdoor is taken out, and the attacker's own trigger says whether it is gone.

::

    part = tell(story)      # needs story.shelf["poisoned"] and ["backdoor"]; purged.model
"""

from __future__ import annotations

from doorward.bundles import save_model
from doorward.demo.scanning import demo_scanner, received
from doorward.demo.story import Part, Story
from doorward.metrics import AttackOutcome, accuracy, attack_outcome
from doorward.removal import DistributionUnlearning, PurgeResult, purge, removal
from doorward.reporting import Section, Table, Text, Verdict, percent
from doorward.reporting.removal import purge_section

__all__ = ["tell"]

BUDGET = 1.0
# A few hundred images make few batches: small ones and a larger rate, or there are too few steps.
UNLEARNING = DistributionUnlearning(
    epochs=4.0, batch_size=32, lr=0.02, stamped_share=0.3, held_out=0.0
)
FINISH = removal("ft-sam", epochs=2.0, batch_size=32)
MOST_SUCCESS = 0.05
MAY_COST = 0.02
"""Accuracy is promised on test images that the purge has not seen; its budget is on its own."""


def tell(story: Story) -> Part:
    """Purge the victim; measure accuracy and the attacker's trigger before and after."""
    victim, backdoor = story.shelf["poisoned"], story.shelf["backdoor"]
    purged, result = purge(
        victim,
        received(story),
        budget_accuracy=BUDGET,
        scanner=demo_scanner(story),
        unlearning=UNLEARNING,
        finish=FINISH,
        seed=story.seed,
        device=story.device,
    )
    story.say(f"      {result.told()}")
    attack = [attack_outcome(model, story.test, backdoor) for model in (victim, purged)]
    right = [accuracy(model, story.test) for model in (victim, purged)]
    summary = {
        "accuracy_before": right[0],
        "accuracy_after": right[1],
        "attack_success_before": attack[0].attack_success,
        "attack_success_after": attack[1].attack_success,
    }
    save_model(
        purged,
        story.place / "purged.model",
        metrics={"accuracy": right[1], "attack_success": attack[1].attack_success},
        evidence={"purge.json": result.to_dict()},
    )
    gone = attack[1].attack_success <= MOST_SUCCESS
    return Part(
        key="removal",
        summary=summary,
        section=_section(result, right, attack, gone=gone),
        promises={
            "the purge takes the backdoor out": gone,
            "the purge costs at most two points of accuracy": right[0] - right[1] <= MAY_COST,
        },
    )


def _section(
    result: PurgeResult, right: list[float], attack: list[AttackOutcome], *, gone: bool
) -> Section:
    shown = purge_section(result)
    return Section(
        "Can it be taken out?",
        (
            Text(
                "The purge trains the recovered triggers away: the model sees them on clean "
                "images, under the images' true labels. It finishes with a method that needs to "
                "know no trigger, and scans again. It never sees the attacker's square. Because "
                "this is a demonstration, we have it, and can ask what nobody else can: does it "
                "still work?"
            ),
            Verdict(
                "Does the attacker's own trigger still work?",
                not gone,
                good=gone,
                detail=f"on {percent(attack[1].attack_success)} of {attack[1].images} images; "
                f"before on {percent(attack[0].attack_success)}",
            ),
            Table(
                ["Test images", "Before", "After"],
                [
                    ["clean, read correctly", *map(percent, right)],
                    ["with the square, read as the attacker wants",
                     *(percent(outcome.attack_success) for outcome in attack)],
                    ["with the square, read correctly",
                     *(percent(outcome.robust_accuracy) for outcome in attack)],
                ],
                "The victim, before and after",
            ),
            Text("**What the purge itself could see**, without the attacker's trigger:"),
            *shown.blocks,
        ),
        summary=shown.summary,
    )  # fmt: skip
