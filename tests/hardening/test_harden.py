"""Every hardening method: keeps to its budget, undoes what costs more, goes on where it was."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import doorward.hardening.methods.guarding as guarding
from doorward.data import ImageData
from doorward.errors import BadFile, InvalidInput, UnknownName
from doorward.hardening import (
    HARDENINGS,
    HardeningResult,
    class_distances,
    enlargement,
    harden,
    hardening,
    measuring,
)
from doorward.metrics import accuracy
from doorward.removal import REMOVALS, removal, remove

COMMON: dict[str, Any] = {"steps": 8, "checks": 2, "batch_size": 32, "budget_accuracy": 100.0}
SEARCH: dict[str, Any] = {"first_steps": 4, "next_steps": 2, "useful": 0.0}
QUICK: dict[str, dict[str, Any]] = {
    "deck": {**COMMON, **SEARCH, "warm_steps": 3, "families": ("flow", "additive")},
    "moth": {**COMMON, **SEARCH, "warm_steps": 3, "pairs_at_once": 2},
    "nc-pairwise": {**COMMON, **SEARCH},
    "nc-universal": {**COMMON, **SEARCH},
    "pgd": {**COMMON, "ascent_steps": 2},
    "universal": COMMON,
}


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_every_method_is_in_this_table() -> None:
    assert sorted(QUICK) == HARDENINGS.names()


@pytest.mark.parametrize("name", HARDENINGS)
def test_every_method_keeps_the_promises(
    name: str, trained: nn.Module, small_digits: ImageData
) -> None:
    given, clean = copy.deepcopy(trained).train(), small_digits.sample(120, seed=0)
    before = weights(given)
    next(given.parameters()).requires_grad_(False)
    method = hardening(name, **QUICK[name])
    hardened, result = harden(given, clean, method, seed=1)
    again, _ = harden(given, clean, method, seed=1)
    other, _ = harden(given, clean, method, seed=2)
    assert same(before, weights(given))
    assert hardened.training
    assert not next(hardened.parameters()).requires_grad
    assert all(bool(tensor.isfinite().all()) for tensor in weights(hardened).values())
    assert not same(before, weights(hardened))
    assert same(weights(hardened), weights(again))
    assert not same(weights(hardened), weights(other))
    assert (result.method, result.seed, result.ended, result.kept_steps) == (name, 1, "steps", 8)
    assert (result.images, result.held_out, [c.steps for c in result.checks]) == (120, 24, [4, 8])
    assert HardeningResult.from_dict(json.loads(json.dumps(result.to_dict()))) == result
    assert hardening(name, **result.parameters).digest() == result.recipe_digest
    assert {entry["phase"] for entry in result.history} == {"harden"}
    assert result.history[0]["hard_images"] > 0


@pytest.mark.parametrize("name", ["deck", "moth"])
def test_it_is_a_removal_method_too(name: str, trained: nn.Module, small_digits: ImageData) -> None:
    assert REMOVALS[name] is HARDENINGS[name]
    clean = small_digits.sample(60, seed=0)
    repaired, result = remove(trained, clean, removal(name, **QUICK[name]), seed=1)
    assert result.method == name
    assert (result.details["held_out"], result.details["ended"]) == (12, "steps")
    assert not same(weights(trained), weights(repaired))


def test_what_costs_more_than_the_budget_is_undone(
    trained: nn.Module, small_digits: ImageData, unseen_digits: ImageData
) -> None:
    wild = hardening("deck", **{**QUICK["deck"], "lr": 50.0, "clip_norm": None, "patience": 1})
    hardened, result = harden(
        trained, small_digits, wild, budget_accuracy=0.5, validation=unseen_digits
    )
    assert same(weights(trained), weights(hardened))
    assert (result.ended, result.kept_steps, result.own_validation) == ("budget", 0, True)
    assert [check.kept for check in result.checks] == [False, False]
    assert result.accuracy_after == result.accuracy_before == accuracy(trained, unseen_digits)
    assert "as it was" in result.told()
    # The rate is halved after each setback, on top of its fall.
    assert result.checks[1].lr == pytest.approx(50.0 * 0.5 * 0.5)


@pytest.mark.parametrize("name", ["deck", "universal", "nc-pairwise"])
def test_a_killed_hardening_goes_on_and_ends_the_same(
    name: str,
    trained: nn.Module,
    small_digits: ImageData,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clean = small_digits.sample(120, seed=0)
    method = hardening(name, **{**QUICK[name], "steps": 12, "checks": 3})
    whole, told = harden(trained, clean, method, seed=3)
    known: Callable[..., float] = guarding.accuracy
    looks = 0

    def killed(model: nn.Module, source: ImageData) -> float:
        nonlocal looks
        looks += 1
        if looks == 3:  # before the training, after the first part, after the second
            raise KeyboardInterrupt
        return known(model, source)

    folder = tmp_path / "parts"
    with monkeypatch.context() as patch:
        patch.setattr(guarding, "accuracy", killed)
        with pytest.raises(KeyboardInterrupt):
            harden(trained, clean, method, seed=3, checkpoint=folder)
    resumed, result = harden(trained, clean, method, seed=3, checkpoint=folder)
    assert same(weights(whole), weights(resumed))
    assert [c.accuracy for c in result.checks] == [c.accuracy for c in told.checks]
    finished, _ = harden(trained, clean, method, seed=3, checkpoint=folder)
    assert same(weights(whole), weights(finished))
    with pytest.raises(InvalidInput, match="another hardening"):
        harden(trained, clean, method, seed=4, checkpoint=folder)
    content = json.loads((folder / "checkpoint.json").read_text())
    content["facts"].pop("checks")
    (folder / "checkpoint.json").write_text(json.dumps(content))
    with pytest.raises(BadFile, match="cannot be read"):
        harden(trained, clean, method, seed=3, checkpoint=folder)


def test_wrong_calls(trained: nn.Module, small_digits: ImageData, tmp_path: Path) -> None:
    clean = small_digits.sample(60, seed=0)
    with pytest.raises(UnknownName, match="Did you mean 'deck'"):
        harden(trained, clean, "deckk")
    with pytest.raises(InvalidInput, match="HARDENINGS"):
        harden(trained, clean, removal("fine-tuning"))  # type: ignore[arg-type]
    for budget in (-1.0, 101.0, float("nan")):
        with pytest.raises(InvalidInput, match="points of accuracy"):
            harden(trained, clean, "deck", budget_accuracy=budget)
    with pytest.raises(InvalidInput, match="steps"):
        hardening("deck", steps=0)
    with pytest.raises(InvalidInput, match="families"):
        hardening("deck", families=("tears",))
    with pytest.raises(InvalidInput, match="one class"):
        harden(trained, small_digits.of_class(3), hardening("deck", **QUICK["deck"]))
    (tmp_path / "diary.txt").write_text("keep")
    with pytest.raises(InvalidInput, match="no hardening"):
        harden(trained, clean, "universal", checkpoint=tmp_path)
    with pytest.raises(InvalidInput, match="held out"):
        harden(trained, clean.subset([0]), "universal")


def test_hardening_pushes_classes_apart(
    trained: nn.Module, small_digits: ImageData, unseen_digits: ImageData
) -> None:
    """By an attack, seeds and images that were not trained with, within the budget."""
    method = hardening(
        "deck", steps=45, checks=3, lr=0.05, hard_weight=1.0, first_steps=12, pairs_at_once=3
    )
    hardened, result = harden(
        trained, small_digits, method, budget_accuracy=1.0, validation=unseen_digits, seed=0
    )
    assert result.kept_steps > 0
    assert accuracy(hardened, unseen_digits) >= accuracy(trained, unseen_digits) - 0.0101
    attack = measuring("pixel", starts=1, epochs=25, images=12, batch_size=12)
    pairs = [(s, (s + 3) % 10) for s in range(10)]
    measured = [
        class_distances(model, unseen_digits, attack=attack, kind="pixel", pairs=pairs, seed=7)
        for model in (trained, hardened)
    ]
    grown = enlargement(*measured)
    assert grown.relative.mean is not None
    assert grown.relative.low is not None
    assert grown.relative.low > 0.05
