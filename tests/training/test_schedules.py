import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from doorward.data import Augment
from doorward.errors import InvalidInput
from doorward.training import Recipe
from doorward.training.presets import recipe_for
from doorward.training.schedules import FIRST, learning_rate

SCHEDULES = ["onecycle", "cosine", "step", "constant"]


def rates(steps, **fields):
    rate = learning_rate(Recipe(lr=1.0, **fields), steps)
    return [rate(step) for step in range(steps)]


def test_onecycle_is_a_triangle():
    expected = [FIRST + (1 - FIRST) * k / 2 for k in (1, 2)] + [
        1,
        5 / 6,
        4 / 6,
        3 / 6,
        2 / 6,
        1 / 6,
    ]
    assert rates(8, schedule="onecycle") == pytest.approx(expected)


def test_cosine_starts_at_the_top_and_is_halfway_in_the_middle():
    values = rates(10, schedule="cosine")
    assert values[0] == pytest.approx(1.0)
    assert values[5] == pytest.approx(0.5)
    assert values[9] == pytest.approx((1 - math.cos(math.pi / 10)) / 2)


def test_step_multiplies_by_gamma_at_each_milestone():
    values = rates(8, schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    assert values == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])


def test_constant_with_warmup():
    values = rates(4, schedule="constant", warmup=0.5)
    assert values == pytest.approx([FIRST + (1 - FIRST) / 2, 1, 1, 1])


@given(
    schedule=st.sampled_from(SCHEDULES),
    warmup=st.none() | st.floats(0, 0.99),
    steps=st.integers(1, 200),
)
def test_every_step_has_a_rate_between_zero_and_lr_that_rises_then_falls(schedule, warmup, steps):
    values = rates(steps, schedule=schedule, warmup=warmup)
    assert all(0 < value <= 1 + 1e-12 for value in values)
    top = values.index(max(values))
    assert values[: top + 1] == sorted(values[: top + 1])
    assert values[top:] == sorted(values[top:], reverse=True)


@pytest.mark.parametrize(
    "fields",
    [
        {"lr": 0}, {"lr": float("nan")}, {"epochs": 0}, {"batch_size": 0}, {"max_steps": 0},
        {"ema": 1.0}, {"warmup": 1.0}, {"optimizer": "lion"}, {"milestones": (0.5, 1.5)},
        {"clip_norm": 0.0}, {"momentum": 1.0}, {"learning_rate": 0.1}, {"divergence": 1.0},
    ],
)  # fmt: skip
def test_recipes_out_of_range_are_refused(fields):
    with pytest.raises(ValidationError):
        Recipe(**fields)
    with pytest.raises(InvalidInput, match=next(iter(fields))):
        Recipe.from_dict(fields)


def test_recipe_survives_json_and_its_digest_sees_every_change():
    recipe = Recipe(lr=0.3, ema=0.99, milestones=(0.2,), augment=Augment(flip=True))
    again = Recipe.from_dict(recipe.to_dict())
    assert again == recipe
    assert again.digest() == recipe.digest()
    assert Recipe(lr=0.3, ema=0.99, milestones=(0.2,)).digest() != recipe.digest()


@pytest.mark.parametrize(
    ("fields", "images", "steps"),
    [
        ({"epochs": 2, "batch_size": 10}, 25, 6),
        ({"epochs": 2, "batch_size": 10, "drop_last": True}, 25, 4),
        ({"epochs": 0.5, "batch_size": 10}, 40, 2),
        ({"epochs": 5, "batch_size": 10, "max_steps": 7}, 40, 7),
    ],
)
def test_number_of_steps(fields, images, steps):
    assert Recipe(**fields).steps(images) == steps


@pytest.mark.parametrize(
    ("fields", "images"), [({}, 0), ({"epochs": 0.1}, 256), ({"drop_last": True}, 255)]
)
def test_no_step_at_all_is_an_error(fields, images):
    with pytest.raises(InvalidInput, match="no training step"):
        Recipe(**fields).steps(images)


@pytest.mark.parametrize("dataset", ["digits", "cifar10", "some-folder"])
@pytest.mark.parametrize("architecture", ["resnet8", "resnet18", "vit", "mine"])
def test_presets_are_valid_and_quick_ones_shorter(dataset, architecture):
    whole = recipe_for(dataset, architecture)
    quick = recipe_for(dataset, architecture, quick=True)
    assert quick.epochs < whole.epochs
    assert Recipe.from_dict(whole.to_dict()) == whole


def test_the_cifar_preset_is_the_documented_one():
    recipe = recipe_for("cifar10", "resnet8")
    assert recipe.augment == Augment(pad_crop=4, flip=True)
    assert recipe.optimizer == "sgd"
    assert recipe.nesterov
