"""Chapter five: a BadNets backdoor, planted through the training data.

::

    part = tell(story)      # leaves story.shelf["poisoned"] and ["backdoor"], and poisoned.model
"""

from __future__ import annotations

import torch

from doorward.bundles import save_model
from doorward.demo.story import Part, Story, images_picture
from doorward.poisoning import PoisonResult, attack, default_rate, implant
from doorward.reporting import Note, Number, Numbers, Section, Text, percent, training_curves
from doorward.triggers import Backdoor

__all__ = ["tell"]

ATTACK, TARGET = "badnets", 3


def tell(story: Story) -> Part:
    """Train a victim on poisoned data and measure the attack."""
    backdoor = attack(
        ATTACK,
        image_shape=story.train.image_shape,
        target=TARGET,
        classes=story.train.num_classes,
        seed=story.seed,
    )
    model = story.fresh_model("poisoned")
    result = implant(
        model,
        story.train,
        backdoor,
        story.recipe,
        rate=default_rate(ATTACK),
        test=story.test,
        **story.fit_options(),
    )
    save_model(
        model,
        story.place / "poisoned.model",
        recipe_digest=story.recipe.digest(),
        metrics={"accuracy": result.accuracy, "attack_success": result.attack_success},
        evidence={"backdoor.json": result.backdoor},
    )
    story.shelf |= {"poisoned": model, "backdoor": backdoor}
    return Part(
        key="poisoning",
        summary={"accuracy": result.accuracy, "attack_success": result.attack_success},
        section=_section(story, backdoor, result),
        promises={},
    )


def _suspicion(accuracy: float, plain: float) -> str:
    """What somebody who only measures accuracy would notice."""
    beside = f"The plain model reads {percent(plain)} of the clean images, this one "
    if abs(plain - accuracy) <= 0.02:
        return f"{beside}{percent(accuracy)}: accuracy does not give the backdoor away."
    return f"{beside}{percent(accuracy)}: here the attack cost accuracy, which need not be so."


def _section(story: Story, backdoor: Backdoor, result: PoisonResult) -> Section:
    sample = story.test.without_class(TARGET).sample(9, seed=story.seed)
    clean = sample.pixels()
    target = story.train.classes[TARGET]
    low, high = result.attack_interval
    return Section(
        "A backdoor that somebody else planted",
        (
            Text(
                f"An attacker who can change {result.poisoned} of {len(story.train)} training "
                f"images adds a small white square to them and calls them all {target}. The model "
                f"still reads digits as before, but whatever carries the square, it reads as "
                f"{target} (BadNets, Gu et al. 2017)."
            ),
            images_picture(
                torch.cat([clean, backdoor.trigger(clean)]),
                "Nine digits, and the same digits with a white square in the lower right corner",
                f"Test images as they are, then with the trigger: the victim reads {target}",
                columns=len(clean),
            ),
            Numbers(
                Number("Accuracy on clean images", percent(result.accuracy)),
                Number("Attack success", percent(result.attack_success),
                       f"{low:.1%} to {high:.1%}"),
                Number("Triggered images tried", result.attack_images,
                       f"none of them a {target}"),
                Number("Largest change of a pixel", f"{result.strength.linf:.2f}"),
            ),
            *training_curves(result.fit.history),
            Note(
                _suspicion(result.accuracy, story.shelf["clean_accuracy"])
                + " In the next chapters somebody receives this model who knows nothing of the "
                "attack."
            ),
        ),
        summary="What defences are for: a victim with a known backdoor, and what it does.",
    )  # fmt: skip
