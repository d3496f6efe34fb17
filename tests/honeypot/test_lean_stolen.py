"""The whole way on digits: a victim leans, is stolen, and the copy is told from an honest one."""

from __future__ import annotations

import dataclasses

import pytest

from doorward.bundles import Identity
from doorward.data import load
from doorward.extraction import steal
from doorward.honeypot import LeanBudget, LeanKey, fit_lean, make_claim, make_menu
from doorward.honeypot import verify_substitute as verify
from doorward.honeypot.lean import LeanParameters
from doorward.models import create
from doorward.randomness import Secret
from doorward.training import fit, recipe_for

LEVELS = (32 / 255, 48 / 255, 64 / 255)


@pytest.fixture(scope="module")
def parties():
    """The owner's images, the thief's, and those that the copies are judged on."""
    owner, thief = load("digits", size=16).split(700, 737, seed=0)
    return owner, thief, load("digits", split="test", size=16)


def test_the_copy_of_a_leaning_model_is_found_and_that_of_a_plain_one_is_not(parties):
    owner, thief, test = parties
    brief = dataclasses.replace(recipe_for("digits", "resnet8"), epochs=8.0)
    victim = create(
        "resnet8", classes=owner.classes, input_shape=owner.image_shape, width=8, seed=0
    )
    fit(victim, None, owner, brief, progress=False)
    # 8x8 pixels, made larger, carry few waves well, and a copy of 737 answers learns fewer: this
    # key drew two that are learnt, which not every key does.
    menu = make_menu(victim, owner, amplitudes=LEVELS, quietest=8 / 255, spacing=1)
    key = LeanKey(Secret(bytes([1]) * 32), LeanParameters(bits=2))
    lean, result = fit_lean(
        victim, owner, key, menu=menu, budget=LeanBudget(ece_change=0.2, target_share=0.2),
        strengths=(2.5,), depths=(5.0,), sufficient=0.01,
    )  # fmt: skip
    assert result.cost.agreement == 1.0
    ada = Identity.new("Ada")
    claim = make_claim(key, menu, ada, alpha=0.05, amplitudes=LEVELS, looks=(64,), margin=0.05)
    verdicts = {}
    for name, served in (("plain", victim), ("leaning", lean)):
        copy, _ = steal(
            served, thief, budget=len(thief), substitute="resnet8", options={"width": 8},
            recipe=dataclasses.replace(brief, epochs=16.0, seed=1), seed=1, progress=False,
        )  # fmt: skip
        verdicts[name] = verify(claim, key, copy, test, [victim], public=ada.public)
    assert verdicts["leaning"].verified
    assert not verdicts["plain"].verified
    assert verdicts["leaning"].mean_success > verdicts["plain"].mean_success + 0.05
