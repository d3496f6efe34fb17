"""Chapter nine: the model is served, a thief copies it, and the copy gives itself away.

::

    part = tell(story)      # needs story.shelf["clean"]
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from doorward.bundles import Identity
from doorward.data import ImageData
from doorward.demo.story import Part, Story
from doorward.extraction import StealResult, procedural_pool, steal
from doorward.honeypot import (
    Lean,
    LeanBudget,
    LeanKey,
    LeanResult,
    Verdict,
    fit_lean,
    make_claim,
    make_menu,
    verify_substitute,
)
from doorward.honeypot.lean import Bit
from doorward.metrics import attack_success
from doorward.reporting import Section, honeypot_section
from doorward.triggers import AllToOne, Backdoor, Waves

__all__ = ["LEVELS", "tell"]

LEVELS = (48 / 255, 72 / 255, 96 / 255)
"""Amplitudes: digits are black and white, and have loud waves by nature."""

_ALPHA = 0.05  # digits give a key of two waves little to show; a real claim asks for more
_BITS = 2
_DIGITS, _DRAWN = 700, 800  # of the thief's questions: real digits, and procedural pictures
_LOOKS = (16, 32)
_COPY: dict[str, Any] = {"width": 16}  # half of the victim's: room for the lean, and brief thefts


def tell(story: Story) -> Part:
    """Serve the clean model with a lean, steal it twice, and try the waves on both copies."""
    victim: nn.Module = story.shelf["clean"]
    half = len(story.test) // 2
    mine, test = story.test.split(half, len(story.test) - half, seed=story.seed)
    key = LeanKey.new(_BITS)
    lean, fitted = _serve(story, victim, mine, key)
    story.say(f"      signal to a thief {fitted.signal:.2f} nats per answer")
    copies = {name: _steal(story, served, test) for name, served in
              (("leaning", lean), ("undefended", victim))}  # fmt: skip
    looks = tuple(look for look in _LOOKS if look <= len(test)) or (len(test),)
    ada = Identity.new("Ada")
    claim = make_claim(key, fitted.menu, ada, alpha=_ALPHA, amplitudes=LEVELS, looks=looks)
    verdicts = {
        name: verify_substitute(claim, key, copy, test, [victim], public=ada.public)
        for name, (copy, _) in copies.items()
    }
    bits = key.choose(fitted.menu)
    curves = {
        f"copy of the {name} model": [_success(copy, test, bits, level) for level in LEVELS]
        for name, (copy, _) in copies.items()
    }
    curves["the model itself"] = [_success(lean, test, bits, level) for level in LEVELS]
    stolen, control = (curves[f"copy of the {name} model"] for name in copies)
    return Part(
        key="honeypot",
        summary={
            "victim_accuracy_drop": fitted.cost.accuracy_drop,
            "agreement": fitted.cost.agreement,
            "substitute_accuracy": copies["leaning"][1].accuracy,
            "substitute_attack_success": stolen[-1],
            "control_attack_success": control[-1],
            "ownership_p_value": verdicts["leaning"].p_value,
        },
        section=_section(story, fitted, bits, test, curves, verdicts, copies["leaning"][1]),
        promises={
            "the served model keeps every label": fitted.cost.agreement == 1.0,
            "a copy of the undefended model is not accused": not verdicts["undefended"].verified,
        },
    )


def _serve(
    story: Story, victim: nn.Module, mine: ImageData, key: LeanKey
) -> tuple[Lean, LeanResult]:
    """The lean, within wide bounds: a model so sure of itself has little to lean with."""
    menu = make_menu(
        victim, mine, amplitudes=LEVELS, quietest=6 / 255, spacing=1, most=16, images=32,
        ceiling=1.0 - 1e-9 if story.quick else 0.1, seed=story.seed,
    )  # fmt: skip
    budget = LeanBudget(agreement=1.0, accuracy_drop=0.0, ece_change=0.15, target_share=0.2)
    return fit_lean(victim, mine, key, menu=menu, budget=budget, sufficient=0.3, seed=story.seed)


def _steal(story: Story, served: nn.Module, test: ImageData) -> tuple[nn.Module, StealResult]:
    """A thief with some digits and many pictures of anything, and a small network."""
    digits, drawn = (48, 48) if story.quick else (_DIGITS, _DRAWN)
    own = story.train.sample(digits, seed=story.seed + 1)
    other = procedural_pool(drawn, story.train.image_shape, seed=story.seed)
    images = torch.cat([own.images, other.images])
    unknown = torch.zeros(len(images), dtype=torch.int64)
    pool = ImageData(images, unknown, own.classes, name="digits and drawn pictures")
    return steal(
        served,
        pool,
        budget=len(pool),
        options={**_COPY, **story.options},
        recipe=dataclasses.replace(story.recipe, seed=story.seed + 1),
        seed=story.seed,
        validation=test,
        **story.fit_options(),
    )


def _success(model: nn.Module, test: ImageData, bits: tuple[Bit, ...], amplitude: float) -> float:
    """The mean over the key's waves."""
    shares = [
        attack_success(
            model,
            test,
            Backdoor(
                Waves(across=bit.across, down=bit.down, amplitude=amplitude),
                AllToOne(target=bit.target),
            ),
        )
        for bit in bits
    ]
    return sum(shares) / len(shares)


def _section(
    story: Story,
    fitted: LeanResult,
    bits: tuple[Bit, ...],
    test: ImageData,
    curves: dict[str, list[float]],
    verdicts: dict[str, Verdict],
    theft: StealResult,
) -> Section:
    shown: dict[str, Any] = {"amplitudes": LEVELS, "waves": bits, "clean": test, "theft": theft}
    return honeypot_section(fitted, curves, verdicts, seed=story.seed, **shown)
