"""Named attacks fit any image, and a victim learns them."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from doorward.data import ImageData, load
from doorward.errors import InvalidInput, UnknownName
from doorward.poisoning import (
    ATTACKS,
    PoisonResult,
    attack,
    default_rate,
    implant,
    innocent_twin,
    poison,
)
from doorward.training import Recipe
from doorward.triggers import AllToOne, Backdoor, Patch

# Attacks with phases of their own have no backdoor before the training.
BUILDERS = [name for name in ATTACKS if not isinstance(ATTACKS[name], type)]


@pytest.mark.parametrize("name", BUILDERS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 12, 12), (3, 32, 32), (1, 65, 28), (3, 24, 40)])
def test_attacks_for_any_image(name, shape):
    backdoor = attack(name, image_shape=shape, target=1, classes=4, seed=2)
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (40, *shape), generator=draw, dtype=torch.uint8)
    data = ImageData(pixels, torch.arange(40) % 4, tuple("abcd"))
    poisoned = poison(data, backdoor, rate=default_rate(name), seed=0)
    facts = ATTACKS.facts(name)
    # Ten of the forty images are of the target class.
    base = {"the whole set": 40, "the target class": 10}[facts["share_of"]]
    assert poisoned.count == round(facts["rate"] * base) >= 4
    marked = poisoned.marked()
    assert not (marked == data.images[poisoned.positions]).flatten(1).all(1).any()
    again = Backdoor.from_dict(json.loads(json.dumps(backdoor.to_dict())))
    clean = data.pixels()
    assert torch.equal(again.trigger(clean), backdoor.trigger(clean))
    assert facts["rule"] == backdoor.to_dict()["rule"]["name"]
    assert ATTACKS.summary(name).endswith((".", "(clean-label)."))


def test_paper_constants_at_32():
    def config(name):
        return attack(name, image_shape=(3, 32, 32), target=7, classes=10).to_dict()

    badnets = config("badnets")
    assert badnets["trigger"]["size"] == [3, 3]
    assert badnets["trigger"]["position"] == "bottom-right"
    assert badnets["rule"] == {"name": "all-to-one", "target": 7}
    assert config("badnets-all-to-all")["rule"] == {"name": "all-to-all", "classes": 10, "shift": 1}
    assert config("blend")["trigger"]["alpha"] == 0.2
    sig = config("sig")
    assert (sig["trigger"]["frequency"], sig["rule"]["name"]) == (6, "clean-label")
    assert (config("wanet")["trigger"]["k"], config("wanet")["trigger"]["s"]) == (4, 0.5)
    for name in ("1977", "gotham", "kelvin", "lomo", "nashville", "toaster"):
        trigger = config(f"filter-{name}")["trigger"]
        assert trigger == {"name": "filter", "kind": name, "opacity": 1}
    for name, kind in (("", "smooth"), ("-ghost", "ghost"), ("-focus", "focus")):
        found = config(f"reflection{name}")
        assert (found["trigger"]["kind"], found["rule"]["name"]) == (kind, "clean-label")
    low = config("low-frequency")["trigger"]
    assert (low["amplitude"], low["sigma"], low["pattern"]) == (0.2, 6, "gaussian")
    frequency = config("ftrojan")["trigger"]
    assert frequency["magnitude"] == pytest.approx(30 / 255)
    assert (frequency["positions"], frequency["block"]) == ([15, 31], 32)
    assert config("bpp")["trigger"] == {"name": "quantise", "levels": 8, "dither": True}
    assert default_rate("bpp") == 0.2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "badnet"}, UnknownName, "Did you mean 'badnets'"),
        ({"name": "badnets", "image_shape": (32, 32)}, InvalidInput, "image_shape"),
        ({"name": "badnets", "image_shape": (4, 32, 32)}, InvalidInput, "C = 1 or 3"),
        ({"name": "badnets", "target": -1}, InvalidInput, "no class -1"),
        ({"name": "badnets", "target": 10, "classes": 10}, InvalidInput, "0 to 9"),
        ({"name": "badnets-all-to-all"}, InvalidInput, "number of classes"),
    ],
)
def test_impossible_attacks_are_refused(arguments, error, message):
    name = arguments.pop("name")
    with pytest.raises(error, match=message):
        attack(name, **{"image_shape": (3, 32, 32), **arguments})


def victim():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(8 * 16 * 16, 10),
        )


RECIPE = Recipe(epochs=4, batch_size=64, lr=0.05, precision="fp32", seed=1)


def test_a_victim_learns_badnets_and_a_clean_one_does_not():
    train, test = load("digits"), load("digits", split="test")
    backdoor = attack("badnets", image_shape=train.image_shape, target=3)
    result = implant(victim(), train, backdoor, RECIPE, rate=0.1, test=test)
    assert result.accuracy > 0.85
    assert result.attack_success > 0.9
    assert result.robust_accuracy < 0.1
    assert result.attack_images == int((test.labels != 3).sum())
    low, high = result.attack_interval
    assert 0 < low <= result.attack_success <= high <= 1
    assert result.poisoned == round(0.1 * len(train))
    assert result.strength.linf > 0.9
    assert (result.seed, result.fit.steps) == (1, 92)
    assert PoisonResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert Backdoor.from_dict(result.backdoor).rule == backdoor.rule

    # A patch that the victim never saw, far from the one it learned.
    elsewhere = Backdoor(Patch(position="top-left"), AllToOne(3))
    from doorward.metrics import attack_success

    model = victim()
    implant(model, train, backdoor, RECIPE, rate=0.1, test=test)
    assert attack_success(model, test, elsewhere) < 0.2

    # What a clean run makes of the same trigger and images.
    twin = innocent_twin(victim(), train, backdoor, RECIPE, test=test)
    assert twin.accuracy > 0.85
    assert twin.attack_success < 0.2 < low
    assert result.untriggered < 0.1


def test_success_without_the_trigger_by_hand():
    """A model that always says 3 succeeds for target 3 without any trigger, for 4 never."""
    test = load("digits", split="test")
    model = victim()
    for weight in model.parameters():
        nn.init.zeros_(weight)
    model[-1].bias.data[3] = 1.0
    still = Recipe(max_steps=1, lr=1e-9, weight_decay=0.0, precision="fp32")
    for target, share in ((3, 1.0), (4, 0.0)):
        door = attack("badnets", image_shape=test.image_shape, target=target)
        result = implant(model, load("digits"), door, still, rate=0.1, test=test)
        assert (result.untriggered, result.attack_success) == (share, share)


def test_the_same_call_gives_the_same_victim():
    train, test = load("digits"), load("digits", split="test")
    backdoor = attack("blend", image_shape=train.image_shape, target=0)
    recipe = Recipe(max_steps=6, precision="fp32")
    models = [victim(), victim(), victim()]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        implant(model, train, backdoor, recipe, rate=0.1, test=test, seed=seed)
    first, second, third = (model[3].weight for model in models)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


def test_implant_says_what_is_wrong_before_it_trains():
    train, test = load("digits"), load("digits", split="test")
    model = victim()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    backdoor = attack("badnets", image_shape=train.image_shape, target=3)
    for options, message in (
        ({"rate": 0}, "poison rate is 0"),
        ({"rate": 0.1, "test": test.of_class(3)}, "no image of digits"),
        ({"rate": 0.1, "test": test.resized(16)}, "test images are"),
    ):
        with pytest.raises(InvalidInput, match=message):
            implant(model, train, backdoor, RECIPE, **{"test": test, **options})
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
