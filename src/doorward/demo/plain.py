"""Chapter one: a plain model, trained on scikit-learn's handwritten digits.

::

    part = tell(story)      # leaves story.shelf["clean"], and clean.model in the folder
"""

from __future__ import annotations

from doorward.bundles import save_model
from doorward.demo.story import Part, Story, images_picture
from doorward.metrics import clopper_pearson
from doorward.reporting import Number, Numbers, Section, percent, training_curves
from doorward.training import fit

__all__ = ["tell"]

LEAST_ACCURACY = 0.98


def tell(story: Story) -> Part:
    """Train the plain model and store it."""
    model = story.fresh_model("clean")
    recipe = story.recipe
    result = fit(model, None, story.train, recipe, validation=story.test, **story.fit_options())
    accuracy = float(result.final["validation_accuracy"])
    save_model(
        model,
        story.place / "clean.model",
        recipe_digest=recipe.digest(),
        metrics={"accuracy": accuracy},
    )
    story.shelf.update(clean=model, clean_accuracy=accuracy)
    images = len(story.test)
    low, high = clopper_pearson(round(accuracy * images), images)
    sample = story.test.sample(10, seed=story.seed)
    section = Section(
        "A plain model",
        (
            images_picture(
                sample.pixels(),
                "Ten small grey pictures of handwritten digits",
                "Test images and their labels",
                [story.test.classes[int(label)] for label in sample.labels],
            ),
            Numbers(
                Number("Test accuracy", percent(accuracy), f"{low:.1%} to {high:.1%}"),
                Number("Training images", len(story.train)),
                Number("Test images", images, "never trained on"),
                Number("Seconds", f"{result.seconds:.0f}"),
            ),
            *training_curves(result.history),
        ),
        summary="A neural network learns to read handwritten digits. It has no mark and no "
        "backdoor; below it serves as the innocent model.",
    )
    return Part(
        key="train",
        summary={"accuracy": accuracy},
        section=section,
        promises={f"the model reads at least {LEAST_ACCURACY:.0%} of the digits": (
            accuracy >= LEAST_ACCURACY
        )},
    )  # fmt: skip
