"""Chapter two: a mark under a key, a claim made beforehand, and the proof, with its controls.

::

    part = tell(story)      # marked.model, mark.key, claim.json, owner.key, owner.pub.json
"""

from __future__ import annotations

from typing import Any

from doorward.bundles import Identity, save_model
from doorward.demo.story import Part, Story, images_picture
from doorward.errors import IntegrityError
from doorward.files import read_json
from doorward.metrics import accuracy
from doorward.reporting import (
    Note,
    Number,
    Numbers,
    Section,
    Table,
    Text,
    percent,
    power_of_two,
    training_curves,
)
from doorward.reporting import Verdict as Answer
from doorward.watermark import (
    Claim,
    EmbedResult,
    Verdict,
    WatermarkKey,
    embed,
    make_claim,
    verify,
)

__all__ = ["tell"]

TRIGGERS = 100
MAY_COST = 0.01
LEAST_LOG2_P = -64


def tell(story: Story) -> Part:
    """Claim a key, mark a model with it, verify, and try four ways in which the proof must fail."""
    owner = Identity.new("Ada (demonstration)")
    owner.seal(story.place / "owner.key", story.passphrase)
    owner.public.save(story.place / "owner.pub.json")
    story.shelf["owner"] = owner
    key = _new_key(story, owner)
    key.seal(story.place / "mark.key", story.passphrase)
    # The claim comes first: it fixes key and rule before there is a model to fit them to.
    claim = make_claim(key, owner)
    claim.save(story.place / "claim.json")

    model = story.fresh_model("marked")
    marked = embed(
        model, story.train, key, story.recipe, validation=story.test, **story.fit_options()
    )
    metrics = {"accuracy": marked.accuracy}
    digest = story.recipe.digest()
    save_model(model, story.place / "marked.model", recipe_digest=digest, metrics=metrics)
    story.shelf |= {"marked": model, "mark_key": key}
    verdict = verify(claim, key, story.place / "marked.model", public=owner.public)

    clean = story.shelf["clean"]
    independent = verify(claim, key, clean, public=owner.public)
    stranger = _new_key(story, owner)
    wrong_key = verify(claim, stranger, model, public=owner.public)
    # A rival who claims the model after the fact, honestly signed but with a key of their own.
    rival = verify(make_claim(stranger, owner), stranger, model, public=owner.public)
    rejected = _tampered_rejected(story, key, owner)
    cost = accuracy(clean, story.test) - _known(marked)
    return Part(
        key="watermark",
        summary={
            "accuracy": marked.accuracy,
            "p_value": verdict.p_value,
            "independent_verified": independent.verified,
            "wrong_key_verified": wrong_key.verified or rival.verified,
            "tampered_rejected": rejected,
        },
        section=_section(story, marked, verdict, independent, rival, rejected=rejected),
        promises={
            "the mark costs at most one point of accuracy": cost <= MAY_COST,
            "the marked model is proven to be its owner's": (
                verdict.verified and verdict.log2_p is not None and verdict.log2_p <= LEAST_LOG2_P
            ),
            "an innocent model is not claimed by the key": not independent.verified,
            "a wrong key proves nothing": not (wrong_key.verified or rival.verified),
            "a claim that was tampered with is rejected": rejected,
        },
    )


def _new_key(story: Story, owner: Identity) -> WatermarkKey:
    return WatermarkKey.new(
        n=TRIGGERS,
        classes=story.train.num_classes,
        image_shape=story.train.image_shape,
        owner=owner.public,
    )


def _known(result: EmbedResult) -> float:
    return 0.0 if result.accuracy is None else result.accuracy


def _tampered_rejected(story: Story, key: WatermarkKey, owner: Identity) -> bool:
    """Whether a claim whose rule was weakened after signing is refused."""
    document: dict[str, Any] = read_json(story.place / "claim.json")
    document["content"]["log2_alpha"] = -32.0  # valid, and easier to meet than 2^-64
    try:
        forged = Claim.from_document(document)
        verify(forged, key, story.shelf["clean"], public=owner.public)
    except IntegrityError:
        return True
    return False


def _section(
    story: Story,
    marked: EmbedResult,
    verdict: Verdict,
    independent: Verdict,
    rival: Verdict,
    *,
    rejected: bool,
) -> Section:
    # Those of the real key stay secret: whoever saw them could train a model to deny them.
    pictures = WatermarkKey.new(
        n=10, classes=story.train.num_classes, image_shape=story.train.image_shape
    )
    images, labels = pictures.triggers()
    return Section(
        "Whose model is it?",
        (
            Text(
                "A secret key draws abstract pictures and a label for each. While the model "
                "learned its digits, it was shown these pictures too, and learned their labels by "
                "heart. Nobody without the key can guess them; a model that was not trained with "
                "it is right one time in ten, by chance."
            ),
            images_picture(
                images.float() / 255,
                "Ten abstract grey patterns, each with a digit as its secret label",
                "Pictures of this kind, drawn from a throw-away key; the real ones stay secret",
                [story.train.classes[int(label)] for label in labels],
            ),
            Answer(
                "Does the owner's key open the marked model?",
                verdict.verified,
                detail=f"{_matches(verdict)}; by chance {power_of_two(verdict.log2_p or 0.0)}",
            ),
            Answer(
                "Does it open a model that was trained without it?",
                independent.verified,
                good=not independent.verified,
                detail=_matches(independent),
            ),
            Answer(
                "Does a stranger's key open the marked model?",
                rival.verified,
                good=not rival.verified,
                detail=_matches(rival),
            ),
            Answer(
                "Is a claim accepted whose rule was weakened after it was signed?",
                not rejected,
                good=rejected,
                detail="its signature no longer fits" if rejected else "",
            ),
            Numbers(
                Number("Accuracy with the mark", percent(_known(marked))),
                Number("Pictures answered as the key says", verdict.matches, f"of {verdict.n}"),
                Number("Needed for the proof", verdict.needed),
                Number("Seconds", f"{marked.fit.seconds:.0f}"),
            ),
            Table(
                ["Model", "Key", "Matches", "p-value", "Proven"],
                [
                    ["marked", "the owner's", _matches(verdict), _p(verdict), verdict.verified],
                    ["innocent", "the owner's", _matches(independent), _p(independent),
                     independent.verified],
                    ["marked", "a stranger's", _matches(rival), _p(rival), rival.verified],
                ],
                "The proof and its controls",
                note="The p-value is the exact probability that a model which knows nothing of "
                "the key matches as often. The claim asks for 2⁻⁶⁴ or less.",
            ),
            *training_curves(marked.fit.history),
            Note(
                "What this proves: the model, or a copy of it, was trained with this key. The "
                "claim, with a time stamp, shows that the key came before the model. How the mark "
                "fares with somebody who sets out to remove it is next."
            ),
        ),
        summary="The owner marks a model with a secret key and publishes a claim. Later the key "
        "proves the model, from its answers alone.",
    )  # fmt: skip


def _matches(verdict: Verdict) -> str:
    return "not asked" if verdict.matches is None else f"{verdict.matches} of {verdict.n}"


def _p(verdict: Verdict) -> str:
    """The p-value: a plain number while it is one that people can read."""
    if verdict.log2_p is None:
        return "not asked"
    return f"{2**verdict.log2_p:.2f}" if verdict.log2_p > -6 else power_of_two(verdict.log2_p)
