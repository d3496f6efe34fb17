"""One call for every attack: what it does for builders and procedures, and what it refuses."""

from __future__ import annotations

import json

import pytest
import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData, load
from doorward.errors import InvalidInput, UnknownName
from doorward.poisoning import ATTACKS, Planted, PoisonResult, Procedure, attack, implant, plant
from doorward.records import STRICT
from doorward.registry import Registry
from doorward.training import Recipe
from doorward.triggers import AllToOne, Backdoor, Patch

RECIPE = Recipe(max_steps=4, batch_size=32, lr=0.05, precision="fp32", seed=1)


@pytest.fixture(scope="module")
def digits() -> tuple[ImageData, ImageData]:
    return (
        load("digits", size=16).sample(200, seed=0),
        load("digits", split="test", size=16).sample(100, seed=0),
    )


def victim() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(256, 10))


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TwoPhases(Procedure):
    """A surrogate first, then poisoned data."""

    size: int = 3

    def check(self, model, job):
        if job.rate > 0.5:
            raise InvalidInput("that is too much")

    def carry_out(self, model, job):
        surrogate = victim()
        job.fit("surrogate", surrogate, None, job.source, Recipe(epochs=1))
        job.note(weight=float(surrogate[1].weight.detach().norm()))
        return job.fit_poisoned(model, Backdoor(Patch(size=self.size), self.rule(job)))

    def measure(self, model, test, backdoor):
        return {"images": float(len(test))}


def test_a_builder_is_implanted(digits):
    train, test = digits
    one, other = victim(), victim()
    backdoor, result = plant(one, train, "badnets", RECIPE, target=3, rate=0.2, test=test)
    same = attack("badnets", image_shape=(1, 16, 16), target=3)
    expected = implant(other, train, same, RECIPE, rate=0.2, test=test)
    assert backdoor.to_dict() == same.to_dict()
    assert (result.poisoned, result.seed, result.details) == (40, 1, {})
    assert result.attack_success == expected.attack_success
    assert torch.equal(one[1].weight, other[1].weight)


def test_a_procedure_is_carried_out_and_measured(digits, tmp_path):
    train, test = digits
    models, epochs = [victim(), victim()], []
    for model in models:
        backdoor, result = plant(
            model,
            train,
            TwoPhases(size=4),
            RECIPE,
            target=2,
            rate=0.1,
            test=test,
            validation=test,
            checkpoint=tmp_path / "c",
            on_epoch=epochs.append,
        )
    assert torch.equal(models[0][1].weight, models[1][1].weight)  # the second from the checkpoint
    assert {path.name for path in (tmp_path / "c").iterdir()} == {"surrogate", "victim"}
    assert backdoor.rule == AllToOne(2)
    assert (result.poisoned, result.rate, result.fit.steps) == (20, 0.1, 4)
    assert result.details["parameters"] == {"size": 4}
    assert result.details["images"] == 100
    assert result.details["weight"] > 0
    assert [entry["phase"] for entry in result.details["history"]] == ["surrogate", "victim"]
    assert len(epochs) == 1, "only the victim's epochs are announced"
    assert PoisonResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result


def test_seeds_part_jobs(digits):
    train, test = digits
    seen = []

    @dataclass(frozen=True, kw_only=True, config=STRICT)
    class Draws(Procedure):
        def carry_out(self, model, job):
            seen.append((job.seed_of("a"), float(torch.rand(1, generator=job.generator("a")))))
            return Planted(Backdoor(Patch(), self.rule(job)), 0, job.fit_victim(model, None, train))

    for seed in (0, 0, 1, None):
        plant(victim(), train, Draws(), RECIPE, rate=0.1, test=test, seed=seed)
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_a_registered_procedure_goes_by_its_name(digits, monkeypatch):
    from doorward.poisoning import planting

    train, test = digits
    attacks: Registry = Registry("attack")
    monkeypatch.setattr(planting, "ATTACKS", attacks)
    monkeypatch.setattr("doorward.poisoning.attacks.ATTACKS", attacks)
    planting.file_procedure("two", paper="nobody", rule="all-to-one", rate=0.25)(TwoPhases)
    monkeypatch.setattr(TwoPhases, "name", "two")
    assert attacks.facts("two")["share_of"] == "the whole set"
    _, result = plant(victim(), train, "two", RECIPE, test=test)
    assert (result.rate, result.poisoned) == (0.25, 50)
    with pytest.raises(InvalidInput, match="does not exist before the training"):
        attack("two", image_shape=(1, 16, 16))


@pytest.mark.parametrize(
    ("name", "changes", "error", "message"),
    [
        ("badnet", {}, UnknownName, "Did you mean 'badnets'"),
        ("badnets", {"target": 10}, InvalidInput, "no class 10"),
        (TwoPhases(), {"target": 10}, InvalidInput, "no class 10"),
        (TwoPhases(), {"target": -1}, InvalidInput, "no class -1"),
        (TwoPhases(), {"rate": None}, InvalidInput, "no usual poison rate"),
        (TwoPhases(), {"rate": 0.0}, InvalidInput, "clean control"),
        (TwoPhases(), {"rate": 1.5}, InvalidInput, "poison rate is 1.5"),
        (TwoPhases(), {"rate": 0.6}, InvalidInput, "too much"),
        (TwoPhases(), {"test": "resized"}, InvalidInput, "test images are"),
        (TwoPhases(), {"test": "target only"}, InvalidInput, "can show this attack"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(digits, name, changes, error, message):
    train, test = digits
    tests = {"resized": test.resized(8), "target only": test.of_class(0)}
    model = victim()
    before = model[1].weight.clone()
    options = {"rate": 0.1, "test": test, **changes}
    options["test"] = tests.get(options["test"], test) if "test" in changes else test
    with pytest.raises(error, match=message):
        plant(model, train, name, RECIPE, **options)
    assert torch.equal(before, model[1].weight)


def test_every_attack_says_what_it_is():
    from doorward.triggers import RULES

    for name in ATTACKS:
        facts = ATTACKS.facts(name)
        assert facts["paper"]
        assert facts["rule"] in RULES
        assert 0 < facts["rate"] <= 1
        assert facts["share_of"]
        assert ATTACKS.summary(name).endswith((".", "(clean-label)."))
