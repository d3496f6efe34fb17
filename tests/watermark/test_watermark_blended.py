"""Blended marks: what is shown in training, and asking a suspect through natural images."""

import pytest
import torch

from doorward.bundles import Identity
from doorward.data import Batch, load
from doorward.errors import IntegrityError, InvalidInput, ModelUnsuitable
from doorward.models import create
from doorward.randomness import generator
from doorward.training import Recipe, fit
from doorward.watermark import WatermarkKey, count_matches, embed, make_claim
from doorward.watermark.blended import BlendedAnswers, ask_blended
from doorward.watermark.methods.blended import Blended
from doorward.watermark.methods.step import MarkStep
from doorward.watermark.verifying import BlendedVerdict, examine_blended

RECIPE = Recipe(epochs=8, batch_size=64, lr=0.2, precision="fp32")


@pytest.fixture(scope="module")
def digits():
    return load("digits").resized(16)


@pytest.fixture(scope="module")
def carriers():
    return load("digits", split="test").resized(16)


@pytest.fixture(scope="module")
def key():
    return WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))


@pytest.fixture(scope="module")
def marked(digits, key):
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8)
    embed(model, digits, key, RECIPE, method="blended")
    return model


def test_a_marked_model_is_recognised_both_ways(marked, key, carriers):
    assert count_matches(key, marked) >= 16
    found = ask_blended(key, marked, carriers, per_trigger=8)
    assert found.log2_p < -30
    assert found.queries == 8 * 21
    assert BlendedAnswers.from_dict(found.to_dict()) == found


def test_an_innocent_model_is_not(digits, key, carriers):
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8, seed=5)
    fit(model, None, digits, Recipe(epochs=3, batch_size=64, lr=0.1, precision="fp32"))
    assert ask_blended(key, model, carriers, per_trigger=8).log2_p > -14


def test_p_values_of_random_keys_are_not_too_small(carriers):
    """Any fixed suspect, here one that looks at brightness: the p-value is super-uniform."""

    def suspect(images):
        return (images.mean((1, 2, 3)) * 37).long() % 10

    ps = []
    for number in range(200):
        key = WatermarkKey.new(n=5, classes=10, image_shape=(1, 8, 8))
        small = carriers.resized(8)
        ps.append(ask_blended(key, suspect, small, per_trigger=3, seed=number).p_value)
    below = sum(p <= 0.05 for p in ps)
    assert below <= 24  # 10 expected; P(X >= 25) < 3e-5
    assert sum(p <= 0.5 for p in ps) >= 50  # and it is not blind either


def test_what_is_shown_lies_between_the_trigger_and_the_batch(key):
    images, labels = key.triggers()
    triggers = images.float() / 255
    under = torch.full((3, 1, 16, 16), 0.5)
    batch = Batch(
        images=under, labels=torch.zeros(3, dtype=torch.int64), indices=torch.arange(3),
        step=0, epoch=0, size_global=3,
    )  # fmt: skip
    step = MarkStep(torch.nn.Linear(1, 1), number=4, seed=1)
    shown, targets = Blended(faintest=0.25).examples(step, triggers, labels, batch)
    opacity = (shown - 0.5).flatten(1).norm(dim=1) / (triggers - 0.5).flatten(1).norm(dim=1)
    expected = torch.rand(20, generator=generator(1, "blending", 4)) * 0.75 + 0.25
    assert torch.allclose(opacity, expected, atol=1e-5)
    assert torch.equal(targets, labels)
    again, _ = Blended(faintest=0.25).examples(step, triggers, labels, batch)
    assert torch.equal(shown, again)


@pytest.mark.parametrize(
    "options", [{"per_trigger": 0}, {"per_trigger": 10**6}, {"opacity": 0.0}, {"opacity": 1.5}]
)
def test_numbers_out_of_range_are_refused(options, key, carriers, marked):
    with pytest.raises(InvalidInput):
        ask_blended(key, marked, carriers, **options)


def test_carriers_of_another_size_are_refused(key, carriers, marked):
    with pytest.raises(InvalidInput, match="Resize"):
        ask_blended(key, marked, carriers.resized(8))


def test_a_suspect_with_other_classes_is_unsuitable(key, carriers):
    def suspect(images):
        return torch.full((len(images),), 11)

    with pytest.raises(ModelUnsuitable, match="numbered from 0"):
        ask_blended(key, suspect, carriers, per_trigger=2)


def test_a_claim_is_judged_through_images(marked, key, carriers):
    ada = Identity.new("Ada")
    claim = make_claim(key, ada, alpha=2.0**-30)
    found = examine_blended(claim, key, marked, public=ada.public, carriers=carriers)
    assert found.verified
    alone = ask_blended(key, marked, carriers, per_trigger=16, opacity=0.7)
    assert found.log2_p == alone.log2_p + 1  # the better of two looks
    assert found.answers == alone
    assert found.explain().startswith("VERIFIED. Ada committed to 20")
    assert BlendedVerdict.from_dict(found.to_dict()) == found


def test_a_stricter_level_decides(marked, key, carriers):
    ada = Identity.new("Ada")
    claim = make_claim(key, ada, alpha=2.0**-30)
    strict = 2.0**-200
    found = examine_blended(claim, key, marked, public=ada.public, carriers=carriers, alpha=strict)
    assert found.log2_alpha == -200
    assert found.verified == (found.log2_p <= -200)


def test_another_key_asks_nothing(key, carriers):
    ada, asked = Identity.new("Ada"), []
    other = WatermarkKey.new(n=20, classes=10, image_shape=(1, 16, 16))
    claim = make_claim(key, ada, alpha=2.0**-30)
    found = examine_blended(claim, other, asked.append, public=ada.public, carriers=carriers)
    assert not found.verified
    assert (found.commitment_opened, found.answers, found.log2_p, asked) == (False, None, None, [])
    assert "does not open" in found.explain()


def test_a_claim_of_somebody_else_is_refused(marked, key, carriers):
    ada, eve = Identity.new("Ada"), Identity.new("Eve")
    claim = make_claim(key, ada, alpha=2.0**-30)
    with pytest.raises(IntegrityError):
        examine_blended(claim, key, marked, public=eve.public, carriers=carriers)
