"""What the methods are for: each teaches the mark, and APP's stands more than the plain one."""

import copy

import pytest
import torch
from torch import nn

from doorward.data import load
from doorward.metrics import accuracy
from doorward.models import create
from doorward.randomness import Secret
from doorward.training import Recipe, fit
from doorward.watermark import EMBEDDINGS, KeyParameters, WatermarkKey, certify, count_matches
from doorward.watermark.embedding import embed
from doorward.watermark.methods import MarkStep, matches_under_noise
from doorward.watermark.methods.app import adversarial_shift
from doorward.watermark.methods.margin import sign_ascent

SHAPE = (1, 16, 16)
RECIPE = Recipe(epochs=10, batch_size=64, lr=0.1, weight_decay=5e-4, precision="fp32")

STRONG = {"eps": 0.02, "warmup": 0.0}  # the paper's; digits are easy enough for it


@pytest.fixture(scope="module")
def key():
    return WatermarkKey(Secret(b"k" * 32), KeyParameters(n=20, image_shape=SHAPE))


@pytest.fixture(scope="module")
def digits():
    return load("digits").sample(400, seed=0).resized(16), load("digits", split="test").resized(16)


@pytest.fixture(scope="module")
def marked(key, digits):
    """A model per method, trained once, when it is first asked for."""
    known = {}

    def train(name):
        if name not in known:
            model = create("resnet8", classes=10, input_shape=SHAPE, width=8)
            options = STRONG if name == "app" else {}
            known[name] = model, embed(model, digits[0], key, RECIPE, method=name, **options)
        return known[name]

    return train


METHODS = [
    pytest.param(name, marks=() if name == "app" else pytest.mark.slow) for name in EMBEDDINGS
]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_teaches_the_mark_and_the_task(marked, digits, name):
    model, result = marked(name)
    assert result.trigger_matches >= 19
    assert accuracy(model, digits[1]) > 0.9


def worst(model, key, eps):
    """A copy whose weights are moved by eps of their length to where the triggers do worst."""
    changed = copy.deepcopy(model).eval()
    images, labels = key.triggers()
    slope = MarkStep(changed, number=0, seed=0).slope(images.float() / 255, labels)
    weights = list(changed.parameters())
    with torch.no_grad():
        for weight, shift in zip(
            weights, adversarial_shift(weights, slope.gradient, eps), strict=True
        ):
            weight.add_(shift)
    return changed


def test_app_stands_more_noise_and_worse_weights_than_plain(marked, key):
    """Known answer, seeded: APP flattens the triggers' loss around the weights."""
    plain, app = marked("plain")[0], marked("app")[0]
    assert count_matches(key, plain) == count_matches(key, app) == 20
    noise = [
        float(matches_under_noise(model, key, sigma=0.05, samples=20).float().mean())
        for model in (plain, app)
    ]
    assert noise[1] > noise[0] + 3
    adversary = [count_matches(key, worst(model, key, 0.02)) for model in (plain, app)]
    assert adversary[1] > adversary[0] + 3


@pytest.mark.slow
def test_app_survives_fine_tuning_that_washes_out_the_plain_mark(marked, key):
    attacker = load("digits").sample(600, seed=7).resized(16)
    recipe = Recipe(
        epochs=6, batch_size=64, lr=0.1, schedule="constant", weight_decay=5e-4, precision="fp32"
    )
    left = {}
    for name in ("plain", "app"):
        stolen = copy.deepcopy(marked(name)[0])
        fit(stolen, None, attacker, recipe)
        left[name] = count_matches(key, stolen)
    assert left["app"] >= 15
    assert left["app"] > left["plain"]


@pytest.mark.slow
def test_certified_marks_have_a_larger_radius(marked, key):
    radii = {
        name: certify(marked(name)[0], key, sigma=0.04, samples=100).radius(14)
        for name in ("plain", "certified")
    }
    assert radii["certified"] > radii["plain"]
    assert radii["certified"] > 0.04


@pytest.mark.slow
def test_margins_are_larger(marked, key):
    """More triggers keep their label when each is moved against it, one grey level per step."""
    images, labels = key.triggers()
    kept = {}
    for name in ("plain", "margin"):
        model: nn.Module = marked(name)[0]
        step, moved = MarkStep(model, number=0, seed=0), images.float() / 255
        moved = sign_ascent(step, moved, labels, steps=8, step_size=1 / 255)
        kept[name] = int((model(moved).argmax(1) == labels).sum())
    assert kept["margin"] > kept["plain"] + 5
