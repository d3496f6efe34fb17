"""Prepared attacks: what they make of a data set, what they refuse, and that they work."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from doorward.data import ImageData, load, to_pixels
from doorward.errors import InvalidInput, UnknownName
from doorward.metrics import attack_outcome, psnr
from doorward.models import create
from doorward.poisoning import (
    ATTACKS,
    HiddenCode,
    LabelConsistent,
    MixedClasses,
    PoisonResult,
    Sunrise,
    attack,
    implant,
    plant,
    prepare,
)
from doorward.poisoning.prepared import Prepared
from doorward.poisoning.prepared.hiding import bit_accuracy
from doorward.poisoning.prepared.views import Replaced
from doorward.training import Recipe
from doorward.triggers import Backdoor, Composite, Corners, SourceToTarget

TINY = {
    "steganographic": HiddenCode(bits=4, width=4, steps=2),
    "style": Sunrise(
        width=4, depth=1, steps=2, surrogate_width=4, surrogate_epochs=1, pictures=8, images=64
    ),
    "composite": MixedClasses(bank=5),
    "clean-label": LabelConsistent(width=4, steps=2, robust=0, epochs=1),
}
RECIPE = Recipe(epochs=8, batch_size=64, lr=0.2, weight_decay=5e-4, seed=0)


@pytest.fixture(scope="module")
def digits() -> tuple[ImageData, ImageData]:
    return load("digits", size=16), load("digits", split="test", size=16)


@pytest.fixture(scope="module")
def few(digits) -> ImageData:
    return digits[0].sample(200, seed=0)


def victim():
    return create("resnet8", classes=10, input_shape=(1, 16, 16), width=8, seed=0)


def test_every_prepared_attack_is_tested():
    filed = {
        name
        for name in ATTACKS
        if isinstance(ATTACKS[name], type) and issubclass(ATTACKS[name], Prepared)
    }
    assert filed == set(TINY)
    for name, procedure in TINY.items():
        assert procedure.name == name
        assert type(procedure).from_dict(json.loads(json.dumps(procedure.to_dict()))) == procedure
        assert ATTACKS.facts(name)["paper"]
        assert ATTACKS.summary(name).endswith(".")


@pytest.mark.parametrize("name", TINY)
def test_prepared_data_and_their_seed(name, few, tmp_path):
    backdoor, poisoned = prepare(few, TINY[name], target=3, seed=1)
    rule, mask, true = backdoor.rule, poisoned.poisoned, poisoned.clean_labels
    assert ATTACKS.facts(name)["rule"] == backdoor.to_dict()["rule"]["name"]
    assert poisoned.count == int(mask.sum()) > 0
    assert rule.poisonable(true)[mask].all()
    assert torch.equal(poisoned.labels[mask], rule.training_labels(true[mask]))
    assert torch.equal(poisoned.labels[~mask], few.labels[~mask])
    assert poisoned.marked().shape == (poisoned.count, 1, 16, 16)

    again, same = prepare(few, TINY[name], target=3, seed=1)
    assert torch.equal(poisoned.materialised().images, same.materialised().images)
    _, other = prepare(few, TINY[name], target=3, seed=2)
    assert not torch.equal(poisoned.materialised().images, other.materialised().images)

    backdoor.save(tmp_path / "backdoor")
    loaded = Backdoor.load(tmp_path / "backdoor")
    clean = few.pixels()[:20]
    assert torch.equal(loaded.trigger(clean), again.trigger(clean))
    assert loaded.rule == rule


def test_prepare_refuses_what_does_not_prepare(few):
    with pytest.raises(InvalidInput, match="prepares nothing"):
        prepare(few, "input-aware")
    with pytest.raises(UnknownName, match="Did you mean 'composite'"):
        prepare(few, "compposite")
    assert prepare(few, "composite", target=3)[1].count == 10


@pytest.mark.parametrize(
    ("procedure", "options", "message"),
    [
        (HiddenCode(pool="procedural"), {"source": "small"}, "procedural pictures"),
        (HiddenCode(steps=2), {"rate": 0.0}, "poison rate is 0"),
        (HiddenCode(steps=2), {"target": 10}, "there is no class 10"),
        (LabelConsistent(), {"target": -1}, "classes are 0 to 9"),
        (Sunrise(), {"source": "small"}, "no style can be learnt"),
        (Sunrise(rounds=3, detox=0.4), {}, "leave no clean image"),
        (Sunrise(), {"rate": 0.95}, "at most"),
        (MixedClasses(first=3), {"target": 3}, "three different classes"),
        (MixedClasses(first=1, second=1), {"target": 3}, "three different classes"),
        (MixedClasses(first=12), {"target": 3}, "needs class 12|class 12 has no images"),
        (MixedClasses(second=12), {"target": 3}, "class 12 has no images"),
        (MixedClasses(), {"rate": 1.5}, "rate of 1.5"),
        (LabelConsistent(), {"source": "small"}, "cannot be perturbed"),
        (LabelConsistent(eps=0, size=9), {}, "do not fit"),
        (LabelConsistent(), {"rate": 0.001}, "poisons no image"),
    ],
)
def test_impossible_preparations_are_refused(procedure, options, message, few):
    source = few.resized(7) if options.pop("source", "") == "small" else few
    with pytest.raises(InvalidInput, match=message):
        prepare(source, procedure, **options)


@pytest.mark.parametrize(
    "build",
    [
        lambda: HiddenCode(bits=0),
        lambda: HiddenCode(pool="mine"),
        lambda: HiddenCode(budget=2),
        lambda: Sunrise(alpha=0),
        lambda: Sunrise(detox=1),
        lambda: MixedClasses(negatives=1),
        lambda: MixedClasses(bank=0),
        lambda: LabelConsistent(eps=-1),
        lambda: LabelConsistent(norm="l1"),
    ],
)
def test_impossible_constants_are_refused(build):
    with pytest.raises(ValueError, match="validation error"):
        build()


def test_clean_label_perturbs_what_it_poisons_and_nothing_else(few):
    plain, without = prepare(few, LabelConsistent(eps=0, amplitude=1), target=3, rate=0.5)
    strong = replace(TINY["clean-label"], eps=0.1, amplitude=1)
    backdoor, poisoned = prepare(few, strong, target=3, rate=0.5)
    assert backdoor.to_dict() == plain.to_dict()
    assert torch.equal(poisoned.positions, without.positions)
    assert torch.equal(poisoned.labels, few.labels)
    assert (few.labels[poisoned.positions] == 3).all()
    images = poisoned.materialised().images
    untouched = ~poisoned.poisoned
    assert torch.equal(images[untouched], few.images[untouched])
    change = (to_pixels(poisoned.marked()) - to_pixels(without.marked())).abs()
    assert 0 < float(change[..., 2:-2, :].max()) <= 0.1 + 1 / 255
    by_length = prepare(few, replace(strong, norm="l2", eps=1.0), target=3, rate=0.5)[1]
    change = to_pixels(by_length.marked()) - to_pixels(without.marked())
    assert 0 < float(change.flatten(1).norm(dim=1).max()) <= 1.05


def test_composite_mixes_by_class(few):
    backdoor, poisoned = prepare(few, MixedClasses(first=2, second=5, bank=7), target=3)
    assert backdoor.rule == SourceToTarget((2,), 3)
    assert isinstance(backdoor.trigger, Composite)
    bank = backdoor.trigger.bank
    fives = few.of_class(5).images
    assert all((fives == picture).flatten(1).all(1).any() for picture in bank)
    assert poisoned.count == 10
    assert (few.labels[poisoned.positions] == 2).all()
    view = poisoned.source
    assert isinstance(view, Replaced)
    assert len(view.rows) == 95, "half of the 190 others"
    assert not set(view.rows.tolist()) & set(poisoned.positions.tolist())
    assert torch.equal(poisoned.labels[view.rows], few.labels[view.rows])
    changed = (poisoned.materialised().images != few.images).flatten(1).any(1)
    assert set(changed.nonzero().flatten().tolist()) <= {
        *view.rows.tolist(),
        *poisoned.positions.tolist(),
    }
    none = prepare(few, MixedClasses(negatives=0), target=3)[1]
    assert none.source is few
    colour = ImageData(few.images.repeat(1, 3, 1, 1), few.labels, few.classes)
    assert prepare(colour, MixedClasses(), target=0)[1].image_shape == (3, 16, 16)


def test_detoxification_adds_images_with_true_labels(few):
    tiny = replace(TINY["style"], rounds=2, detox=0.1)
    backdoor, poisoned = prepare(few, tiny, target=3, rate=0.1)
    second = poisoned.source
    first = second.source
    assert isinstance(first, Replaced)
    assert first.source is few
    rows = [set(part.tolist()) for part in (poisoned.positions, first.rows, second.rows)]
    assert [len(part) for part in rows] == [20, 20, 20]
    assert len(set.union(*rows)) == 60, "no image is used twice"
    mask = poisoned.poisoned
    assert torch.equal(poisoned.labels[~mask], few.labels[~mask])
    same = prepare(few, replace(tiny, rounds=0), target=3, rate=0.1)
    assert torch.equal(same[1].positions, poisoned.positions)
    assert torch.equal(same[0].trigger(few.pixels()), backdoor.trigger(few.pixels()))


def test_a_code_is_hidden_and_read(digits):
    train, test = digits
    constants = HiddenCode(bits=8, width=8, steps=120, lr=5e-3, images=500)
    backdoor, _ = prepare(train, constants, target=3, seed=0)
    trigger = backdoor.trigger
    assert bit_accuracy(trigger, test) > 0.95
    clean = test.pixels()[:100]
    marked = trigger(clean)
    assert float(psnr(marked, clean).min()) > 24  # what the budget of 16/255 promises
    assert trigger.strength(clean).linf <= 16 / 255 + 1e-6
    # Clean images carry no code, and another code is read as that one.
    unmarked = (trigger.read(clean) == trigger.code).float().mean()
    assert float(unmarked) < 0.85
    trigger.code.logical_not_()
    assert bit_accuracy(trigger, test) > 0.9


def test_codes_from_procedural_pictures(few):
    constants = HiddenCode(bits=4, width=4, steps=2, pool="procedural", images=64)
    backdoor, poisoned = prepare(few, constants, target=3)
    assert poisoned.count == 20
    data = prepare(few, replace(constants, pool="data"), target=3)[0]
    assert not torch.equal(data.trigger(few.pixels()), backdoor.trigger(few.pixels()))


@pytest.mark.parametrize("name", TINY)
def test_planted_and_measured(name, few, digits):
    test = digits[1]
    model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
    recipe = Recipe(max_steps=2, lr=0.05, seed=1)
    backdoor, result = plant(model, few, TINY[name], recipe, target=3, test=test)
    assert result.rate == ATTACKS.facts(name)["rate"]
    assert result.backdoor == backdoor.to_dict()
    assert result.details["parameters"] == TINY[name].to_dict()
    assert result.details["history"][-1]["phase"] == "victim"
    assert PoisonResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    wanted = {
        "steganographic": "bit_accuracy",
        "style": "style_loss",
        "composite": "negative_mixes",
        "clean-label": "fooled_surrogate",
    }[name]
    assert result.details[wanted] >= 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "procedure", "rate", "least"),
    [
        (
            "steganographic",
            HiddenCode(bits=16, width=8, steps=200, lr=5e-3),
            0.2,
            0.8,
        ),
        ("style", Sunrise(width=8, depth=1, steps=150, surrogate_width=8), 0.05, 0.9),
        (
            "style, detoxified",
            Sunrise(width=8, depth=1, steps=150, surrogate_width=8, rounds=1),
            0.05,
            0.8,
        ),
        ("composite", MixedClasses(first=0, second=1), 0.5, 0.5),
        (
            "clean-label",
            LabelConsistent(width=8, eps=0.3, robust=0.1, steps=10, amplitude=1, size=3),
            0.5,
            0.25,
        ),
    ],
)
def test_planted_victims_and_clean_ones(name, procedure, rate, least, digits):
    train, test = digits
    backdoor, result = plant(victim(), train, procedure, RECIPE, target=3, rate=rate, test=test)
    assert result.accuracy > 0.9
    assert result.attack_success > least
    assert result.details["parameters"] == procedure.to_dict()
    assert {entry["phase"] for entry in result.details["history"]} >= {"victim"}
    clean = victim()
    elsewhere = Backdoor(Corners(size=1), backdoor.rule)
    implant(clean, train, elsewhere, RECIPE, rate=0.02, test=test)
    assert attack_outcome(clean, test, backdoor).attack_success < least / 2


@pytest.mark.slow
def test_perturbation_is_what_makes_clean_labels_work(digits):
    train, test = digits
    with_it = LabelConsistent(width=8, eps=0.3, robust=0.1, steps=10, amplitude=1, size=3)
    success = [
        plant(victim(), train, procedure, RECIPE, target=3, rate=0.5, test=test)[1].attack_success
        for procedure in (replace(with_it, eps=0), with_it)
    ]
    assert success[1] > success[0] + 0.2


def test_the_plain_clean_label_attack():
    backdoor = attack("clean-label-badnets", image_shape=(3, 32, 32), target=2)
    assert backdoor.trigger.config()["size"] == 3
    assert backdoor.trigger.config()["amplitude"] == 1
    assert backdoor.rule.to_dict() == {"target": 2}
