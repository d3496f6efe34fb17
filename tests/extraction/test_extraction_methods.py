"""Every registered attack: within its budget, resumable, repeatable, with answers it can use."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from doorward.data import Augment, ImageData
from doorward.errors import InvalidInput
from doorward.extraction import (
    EXTRACTIONS,
    ActiveThiefEntropy,
    BlackBoxDissector,
    DataFree,
    JacobianAugmentation,
    KnockoffAdaptive,
    SuperpixelGradients,
    procedural_pool,
    steal,
)
from doorward.training import Recipe

QUICK = Recipe(epochs=1, batch_size=32)
SMALL = {"width": 4}
LESS = {  # the same methods with less work in them
    "knockoff-adaptive": KnockoffAdaptive(per_round=16),
    "activethief-entropy": EXTRACTIONS["activethief-entropy"](rounds=2),
    "activethief-k-center": EXTRACTIONS["activethief-k-center"](rounds=2),
    "activethief-dfal-k-center": EXTRACTIONS["activethief-dfal-k-center"](rounds=2, steps=2),
    "jbda": JacobianAugmentation(start=0.3),
    "spsg": SuperpixelGradients(superpixels=4),
    "dissector": BlackBoxDissector(ladder=(0.5, 1.0), erasings=2),
    "dfme": DataFree(batch_size=4, latent=8, student_steps=2),
}
BUDGET = 50


@pytest.fixture
def few(pool: ImageData) -> ImageData:
    """A pool that leaves a choice."""
    return pool.sample(100, seed=0)


def call(name: str, victim: Any, pool: ImageData, **changes: Any) -> Any:
    method = LESS.get(name, name)
    return steal(
        victim, pool, **{"budget": BUDGET, "recipe": QUICK, "options": SMALL, **changes},
        method=method,
    )  # fmt: skip


@pytest.mark.parametrize("name", list(EXTRACTIONS))
def test_the_budget_is_kept_and_used(
    name: str, victim: nn.Module, few: ImageData, counting: Any
) -> None:
    box = counting(victim)
    substitute, result = call(name, box, few)
    assert result.method == name
    assert 0.9 * BUDGET <= result.queries == len(box.seen) == len(set(box.seen)) <= BUDGET
    assert not substitute.training
    assert all(weight.isfinite().all() for weight in substitute.parameters())


@pytest.mark.parametrize("name", list(EXTRACTIONS))
def test_a_kill_costs_no_question_and_changes_nothing(
    name: str, victim: nn.Module, few: ImageData, counting: Any, tmp_path: Path
) -> None:
    box = counting(victim, fail_at=30)
    with pytest.raises(KeyboardInterrupt):
        call(name, box, few, checkpoint=tmp_path)
    resumed, result = call(name, box, few, checkpoint=tmp_path)
    assert len(box.seen) == len(set(box.seen)) == result.queries <= BUDGET
    whole, _ = call(name, counting(victim), few)
    assert torch.equal(resumed.head.weight, whole.head.weight)


@pytest.mark.parametrize("name", list(EXTRACTIONS))
def test_labels_are_enough_or_are_refused_before_anything_is_asked(
    name: str, victim: nn.Module, few: ImageData, counting: Any
) -> None:
    box = counting(victim)
    if EXTRACTIONS[name].needs == "soft":
        with pytest.raises(InvalidInput, match="needs probabilities"):
            call(name, box, few, answers="label")
        assert not box.seen
        return
    _, result = call(name, box, few, answers="label")
    assert result.answers == "label"
    assert result.queries <= BUDGET


@pytest.mark.slow
@pytest.mark.parametrize("name", list(EXTRACTIONS))
def test_every_attack_steals_far_more_than_chance(
    name: str, victim: nn.Module, pool: ImageData, test_images: ImageData
) -> None:
    recipe = Recipe(epochs=30, batch_size=32, lr=0.05, augment=Augment(pad_crop=1))
    more: dict[str, Any] = {"budget": 200}
    if name == "dfme":  # no image at all, but a hundred times the questions
        more = {"budget": 20_000, "method": DataFree(batch_size=32, latent=64)}
    _, result = steal(
        victim,
        pool,
        recipe=recipe,
        options={"width": 8},
        validation=test_images,
        **{"method": LESS.get(name, name), **more},
    )
    assert result.agreement > (0.25 if name == "dfme" else 0.5)  # chance is 0.1


def test_colour_images_of_another_size(pool: ImageData) -> None:
    torch.manual_seed(0)
    foreign = nn.Sequential(nn.Flatten(), nn.Linear(3 * 20 * 18, 4))
    pictures = procedural_pool(60, (3, 20, 18))
    for name in EXTRACTIONS:
        _, result = call(name, foreign, pictures, budget=40)
        assert result.queries <= 40


def test_attacks_that_need_more_than_they_are_given(victim: nn.Module, pool: ImageData) -> None:
    with pytest.raises(InvalidInput, match="11"):
        steal(victim, pool, method=ActiveThiefEntropy(), budget=10, recipe=QUICK)
    with pytest.raises(InvalidInput, match="19"):
        steal(victim, pool, method=SuperpixelGradients(), budget=18, recipe=QUICK)
    with pytest.raises(InvalidInput, match="8"):
        steal(victim, pool, method="dissector", budget=7, recipe=QUICK)
    one_class = ImageData(pool.images[:40], torch.zeros(40, dtype=torch.int64), ("all",))
    with pytest.raises(InvalidInput, match="one class"):
        steal(victim, one_class, method="knockoff-adaptive", budget=10, recipe=QUICK)


@pytest.mark.parametrize("name", list(EXTRACTIONS))
def test_a_pool_smaller_than_the_budget(name: str, victim: nn.Module, pool: ImageData) -> None:
    _, result = call(name, victim, pool.sample(20, seed=0))
    assert result.queries <= BUDGET
