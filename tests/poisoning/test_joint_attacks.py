"""Attacks that train their trigger with the victim: they work, resume exactly, and refuse nonsense.

Constants are easier than the papers', whose runs are a thousand times longer; see the slow test.
"""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from doorward.data import ImageData, load
from doorward.errors import InvalidInput, ModelUnsuitable, TrainingInterrupted
from doorward.metrics import attack_success
from doorward.poisoning import ATTACKS, InputAware, Lira, PoisonResult, WarpNoise, plant
from doorward.training import Recipe, fit
from doorward.triggers import AllToAll, AllToOne, Backdoor, LearntNoise, MaskedPattern, Warp

RECIPE = Recipe(epochs=6, batch_size=64, lr=0.05, precision="fp32", seed=1)
EASY = {
    "wanet-noise": (WarpNoise(s=8.0, cross_ratio=0.3), 0.3),
    "input-aware": (InputAware(width=4, mask_epochs=2, mask_density=0.2, cross_ratio=0.2), 0.3),
    "lira": (Lira(width=4, eps=0.2, final_eps=0.1), 1.0),
}


@pytest.fixture(scope="module")
def digits() -> tuple[ImageData, ImageData]:
    train = load("digits", size=16).sample(1000, seed=0)
    return train, load("digits", split="test", size=16)


def victim(channels: int = 1, size: int = 16) -> nn.Module:
    """Small and quick to learn."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        side = (size + 1) // 2
        return nn.Sequential(
            nn.Conv2d(channels, 12, 3, stride=2, padding=1),
            nn.BatchNorm2d(12),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(12 * side * side, 10),
        )


@pytest.fixture(scope="module")
def honest(digits) -> nn.Module:
    """The same victim, trained on clean images."""
    model = victim()
    fit(model, None, digits[0], RECIPE)
    return model


@pytest.mark.parametrize("name", EASY)
def test_the_trigger_is_planted_and_stored(digits, honest, name, tmp_path):
    train, test = digits
    attack, rate = EASY[name]
    model = victim()
    backdoor, result = plant(model, train, attack, RECIPE, target=3, rate=rate, test=test)
    assert result.accuracy > 0.85
    assert result.attack_success > 0.7
    assert result.poisoned == round(rate * len(train))
    assert result.details["parameters"] == attack.to_dict()
    assert backdoor.rule == AllToOne(3)
    assert not any(weight.requires_grad for weight in backdoor.trigger.parameters())
    assert PoisonResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    backdoor.save(tmp_path / "b")
    again = Backdoor.load(tmp_path / "b")
    assert attack_success(model, test, again) == result.attack_success
    assert attack_success(honest, test, backdoor) < result.attack_success - 0.3
    if name != "lira":
        # A trigger that must not work leaves most answers as they are.
        assert result.details["cross_accuracy"] > 1 - result.attack_success
    phases = {entry["phase"] for entry in result.details["history"]}
    assert phases == {"victim"} | {"input-aware": {"mask"}, "lira": {"noise"}}.get(name, set())


class _Stops(Exception):
    pass


@pytest.mark.parametrize(
    ("name", "phase"),
    [(name, phase) for name in EASY for phase in ("first", "victim")][1:],  # one has one phase
)
def test_a_killed_run_ends_with_the_same_weights(digits, name, phase, tmp_path, monkeypatch):
    import doorward.training.run as run

    train, test = (part.sample(160, seed=0) for part in digits)
    attack, rate = EASY[name]
    recipe = Recipe(epochs=2, batch_size=32, lr=0.05, precision="fp32")
    options = {"rate": rate, "test": test, "checkpoint_every": 2}
    whole = victim()
    expected, _ = plant(whole, train, attack, recipe, checkpoint=tmp_path / "whole", **options)

    kill_at = 3 + (10 if phase == "victim" and name == "input-aware" else 0)
    kill_at += 5 if phase == "victim" and name == "lira" else 0
    done = 0
    step = run.Run._do_step

    def stopping(self, batch):
        nonlocal done
        done += 1
        if done == kill_at + 1:
            raise _Stops
        step(self, batch)

    monkeypatch.setattr(run.Run, "_do_step", stopping)
    with pytest.raises(_Stops):
        plant(victim(), train, attack, recipe, checkpoint=tmp_path / "part", **options)
    monkeypatch.undo()
    broken = victim()
    found, result = plant(broken, train, attack, recipe, checkpoint=tmp_path / "part", **options)
    for one, two in ((whole, broken), (expected.trigger, found.trigger)):
        for key, tensor in one.state_dict().items():
            assert torch.equal(tensor, two.state_dict()[key]), key
    assert phase == "first" or result.fit.resumed_from == 2


def test_the_same_seed_the_same_attack(digits):
    train, test = (part.sample(96, seed=0) for part in digits)
    recipe = Recipe(max_steps=3, batch_size=32, precision="fp32")
    for attack, rate in EASY.values():
        triggers = [
            plant(victim(), train, attack, recipe, rate=rate, test=test, seed=seed)[0].trigger
            for seed in (0, 0, 1)
        ]
        first, second, third = (trigger(test.pixels()) for trigger in triggers)
        assert torch.equal(first, second)
        assert not torch.equal(first, third)


@pytest.mark.parametrize("shape", [(1, 9, 12), (3, 8, 8), (3, 13, 7)], ids=str)
def test_any_size_and_channels_and_all_to_all(shape):
    draw = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (48, *shape), generator=draw, dtype=torch.uint8)
    data = ImageData(pixels, torch.arange(48) % 4, tuple("abcd"))
    recipe = Recipe(epochs=1, batch_size=20, precision="fp32")  # the last batch has 8 images
    for name, (attack, _) in EASY.items():
        pooled = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4))
        model = nn.Sequential(nn.Conv2d(shape[0], 4, 3, padding=1), nn.ReLU(), *pooled)
        everywhere = type(attack).from_dict({**attack.to_dict(), "labels": "all-to-all"})
        backdoor, result = plant(model, data, everywhere, recipe, rate=0.05, test=data)
        assert backdoor.rule == AllToAll(4)
        assert backdoor.trigger(data.pixels()).shape == pixels.shape
        assert result.attack_images == 48, name


@pytest.mark.parametrize(
    ("attack", "rate", "recipe", "options", "message"),
    [
        (InputAware(), 0.6, {}, {}, "at most 0.5"),
        (WarpNoise(), 0.4, {}, {}, "at most 0.33"),
        (WarpNoise(), 0.001, {}, {}, "attacks no image of a batch of 64"),
        (InputAware(), 0.1, {}, {"devices": 2}, "trigger of its own"),
        (Lira(), 1.0, {}, {"nodes": 2}, "trigger of its own"),
        (Lira(), 1.0, {"compile": True}, {}, "compile=False"),
        (Lira(), 1.0, {}, {"target": 10}, "no class 10"),
    ],
)
def test_impossible_attacks_are_refused_before_training(
    digits, attack, rate, recipe, options, message
):
    train, test = digits
    model = victim()
    before = model[0].weight.clone()
    asked = Recipe.from_dict({**RECIPE.to_dict(), **recipe})
    with pytest.raises(InvalidInput, match=message):
        plant(model, train, attack, asked, rate=rate, test=test, **options)
    assert torch.equal(before, model[0].weight)


def test_a_victim_that_does_not_fit_is_refused_before_the_first_phase(digits, monkeypatch):
    monkeypatch.setattr("doorward.poisoning.procedures.fit", None)
    train, test = digits
    with pytest.raises(ModelUnsuitable, match="does not take images"):
        plant(victim(channels=3), train, EASY["input-aware"][0], RECIPE, rate=0.1, test=test)


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [
        (Lira, {"eps": 0.0}),
        (Lira, {"eps": 1.5}),
        (Lira, {"alpha": 1.0}),
        (Lira, {"stage_one": 0.0}),
        (InputAware, {"mask_epochs": 0}),
        (InputAware, {"mask_density": -0.1}),
        (InputAware, {"cross_ratio": -1}),
        (InputAware, {"labels": "all"}),
        (WarpNoise, {"k": 1}),
        (WarpNoise, {"s": float("inf")}),
        (WarpNoise, {"colour": 1}),
    ],
)
def test_constants_out_of_range(kind, wrong):
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        kind.from_dict(wrong)


def test_an_interrupt_says_how_to_go_on(digits, tmp_path, monkeypatch):
    import doorward.training.run as run

    train, test = digits
    monkeypatch.setattr(run, "agree", lambda fabric, flag: True)
    monkeypatch.setattr(run.Run, "_settle", lambda self: self.state.ledger.settle())
    with pytest.raises(TrainingInterrupted, match="noise"):
        plant(victim(), train, Lira(width=2), RECIPE, test=test, checkpoint=tmp_path / "c")


def test_papers_constants():
    one = InputAware()
    assert (one.mask_epochs, one.mask_density, one.norm_weight) == (25, 0.032, 100)
    assert (one.mask_lr, one.pattern_lr, one.diversity_weight, one.cross_ratio) == (
        0.01,
        0.01,
        1,
        1,
    )
    assert (WarpNoise().k, WarpNoise().s, WarpNoise().cross_ratio) == (4, 0.5, 2)
    assert (Lira().eps, Lira().alpha) == (0.1, 0.5)
    for name in EASY:
        assert isinstance(EASY[name][0], ATTACKS[name])
        assert ATTACKS[name].name == name
    assert [type(trigger) for trigger in (Warp(), MaskedPattern(width=1), LearntNoise(width=1))]


@pytest.mark.slow
def test_with_the_papers_constants(digits):
    """Ten attacked images in a hundred, crossed triggers as often; a tenth of the paper's run."""
    train, test = digits
    recipe = Recipe(epochs=60, batch_size=64, lr=0.05, precision="fp32")
    _, result = plant(victim(), train, InputAware(width=8), recipe, target=3, test=test)
    assert result.accuracy > 0.93
    assert result.attack_success > 0.6
    assert result.details["cross_accuracy"] > 0.6
