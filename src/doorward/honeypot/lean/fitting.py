"""The smallest lean that suffices, within hard bounds on what the owner's users notice.

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(200, seed=0).resized(16)
>>> model = create("resnet8", classes=digits.classes, input_shape=(1, 16, 16), width=4)
>>> key = LeanKey.new(bits=1)
>>> lean, result = fit_lean(model, digits, key, budget=LeanBudget(ece_change=0.05))
>>> result.cost.agreement, result.strength == lean.strength, result.cost.excess(result.budget)
(1.0, True, ())

Nothing is trained. The model is asked about the owner's images, and about a pool such as a thief
might use, once; everything else is arithmetic on those answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.honeypot.lean.budget import Cost, LeanBudget, cost_of, signal_of
from doorward.honeypot.lean.feature import WaveFeature
from doorward.honeypot.lean.key import LeanKey
from doorward.honeypot.lean.leaning import MODES, Lean, Mode
from doorward.honeypot.lean.menu import Menu, make_menu
from doorward.metrics import predict
from doorward.metrics.predictions import device_of
from doorward.models import require_model
from doorward.records import STRICT, Record, measure

__all__ = ["SUFFICIENT", "LeanResult", "fit_lean"]

SUFFICIENT = {"kept": 0.1, "calibrated": 0.1, "plain": 0.1, "label": 0.03}
"""Signal (`signal_of`) that is enough, by mode: nats per answer, or a share of changed labels."""

_STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 6.0)
_THRESHOLDS = (0.0, 0.5, 1.0, 1.5)
_DEPTHS = (None, 8.0, 6.0, 5.0, 4.0)
_SHARPNESS = (1.0, 1.05, 1.1)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LeanResult(Record):
    """What `fit_lean` chose and measured. It does not say which waves and classes.

    Attributes:
        mode: what may change.
        strength: c.
        threshold: z0.
        depth: d, or None.
        sharpness: what logits are multiplied with.
        bits: waves of the key.
        signal: what the answers to the pool give away (see `signal_of`).
        sufficient: the signal that was asked for.
        reached: whether it was reached within the budget; if not, the loudest lean within it is.
        cost: on the owner's images.
        budget: the bounds, all of which hold.
        menu: what the key drew from.
        images: how many images of the owner's the cost was measured on.
        pool: name of the pool.
        seconds: wall-clock time.
        peak_memory_mib: peak memory.
    """

    mode: str
    strength: float
    threshold: float
    depth: float | None
    sharpness: float
    bits: int
    signal: float
    sufficient: float
    reached: bool
    cost: Cost
    budget: LeanBudget
    menu: Menu
    images: int
    pool: str
    seconds: float
    peak_memory_mib: float


def fit_lean(
    model: nn.Module,
    clean: ImageSource,
    key: LeanKey,
    *,
    budget: LeanBudget | None = None,
    mode: Mode = "kept",
    pool: ImageSource | None = None,
    menu: Menu | None = None,
    sufficient: float | None = None,
    strengths: Sequence[float] = _STRENGTHS,
    thresholds: Sequence[float] | None = None,
    depths: Sequence[float | None] | None = None,
    seed: int = 0,
    **menu_options: Any,
) -> tuple[Lean, LeanResult]:
    """Fit the keyed lean to a model.

    Ours. Of all leans within the budget, the one with the least strength whose signal suffices; of
    equally strong ones, the one that says most. Where none suffices, the one that says most.

    Args:
        model: the undefended model, images ``(N, C, H, W)`` in [0, 1] to logits ``(N, K)``.
        clean: labelled images of the owner's task that it was not trained on; the bounds hold on
            them, so some thousand are better than some hundred.
        key: the owner's secret.
        budget: the bounds.
        mode: what may change (see `Lean`).
        pool: images such as a thief may ask about, to measure the signal on; None for the owner's
            own, on which answers are surest and a lean is faintest.
        menu: what the key draws from; None to make it (`make_menu`) from `model` and `clean`.
        sufficient: signal that is enough; None for `SUFFICIENT`. 0.1 nats taught three waves to
            substitutes in our trials.
        strengths: to choose from.
        thresholds: to choose from; 0 alone unless only labels are told.
        depths: to choose from; None alone where only labels are told.
        seed: of the images that the menu is made with.
        menu_options: of `make_menu`: quietest, ceiling, spacing, most, amplitudes, images.

    Returns:
        The leaning model in evaluation mode, and what was chosen and measured.

    Raises:
        InvalidInput: an argument does not fit, the pool has other images, or the menu is too short.
        ModelUnsuitable: no lean at all is within the budget; or the model carries no wave.
    """
    require_model(model, input_shape=clean.image_shape, classes=clean.num_classes, head=False)
    if mode not in MODES:
        raise InvalidInput(f"mode is {mode!r}", why=f"known are {', '.join(MODES)}")
    budget, soft = budget or LeanBudget(), mode != "label"
    asked = clean if pool is None else pool
    if asked.image_shape != clean.image_shape:
        raise InvalidInput(
            f"the pool's images are {asked.image_shape}", why=f"the owner's are {clean.image_shape}"
        )
    if menu is not None and menu_options:
        raise InvalidInput("options of a menu were given with a menu", remedy="leave one out")
    if menu is not None and (menu.image_shape, menu.classes) != (
        clean.image_shape,
        clean.num_classes,
    ):
        raise InvalidInput("the menu is of another task", why="its images or classes differ")
    grid = _grid(mode, strengths, thresholds, depths)
    enough = SUFFICIENT[mode] if sufficient is None else sufficient
    with measure() as meter:
        menu = menu or make_menu(model, clean, seed=seed, **menu_options)
        bits = key.choose(menu)
        feature = WaveFeature.standardised([(b.across, b.down) for b in bits], clean)
        targets = tuple(bit.target for bit in bits)
        own = _ask(model, feature, clean)
        foreign = own if asked is clean else _ask(model, feature, asked)
        labels = clean.labels.cpu()
        found: list[tuple[Lean, Cost, float]] = []
        least: tuple[str, ...] = ()
        for c, z0, d, sharp in grid:
            lean = Lean(
                model,
                feature,
                targets,
                strength=c,
                threshold=z0,
                depth=d,
                sharpness=sharp,
                mode=mode,
                classes=clean.num_classes,
            )
            cost = cost_of(own[0], lean.lean(*own), labels, targets, soft=soft)
            excess = cost.excess(budget)
            least = least if found else least or excess
            if not excess:
                # Against equally sharp answers: sharpness alone says nothing to a thief.
                told = lean.lean(*foreign)
                found.append((lean, cost, signal_of(sharp * foreign[0], told, soft=soft)))
        if not any(signal > 0 for _, _, signal in found):
            raise ModelUnsuitable(
                "no lean is within the budget",
                why="; ".join(least) or "within it, no answer to the pool changes at all",
                remedy="allow more, give more images, or choose another mode",
            )
        loud = [entry for entry in found if entry[2] >= enough]
        best = (
            min(loud, key=lambda entry: (entry[0].strength, -entry[2]))
            if loud
            else max(found, key=lambda entry: entry[2])
        )
    lean, cost, signal = best
    return lean.to(device_of(model)).eval(), LeanResult(
        mode=mode,
        strength=lean.strength,
        threshold=lean.threshold,
        depth=lean.depth,
        sharpness=lean.sharpness,
        bits=key.bits,
        signal=signal,
        sufficient=enough,
        reached=bool(loud),
        cost=cost,
        budget=budget,
        menu=menu,
        images=len(clean),
        pool=asked.name,
        seconds=meter.seconds,
        peak_memory_mib=meter.peak_memory_mib,
    )


def _grid(
    mode: str,
    strengths: Sequence[float],
    thresholds: Sequence[float] | None,
    depths: Sequence[float | None] | None,
) -> list[tuple[float, float, float | None, float]]:
    sharp = _SHARPNESS if mode in ("kept", "plain") else (1.0,)
    soft = mode != "label"
    places = tuple(thresholds) if thresholds is not None else (0.0,) if soft else _THRESHOLDS
    lows = tuple(depths) if depths is not None else _DEPTHS if soft else (None,)
    grid = list(product(sorted(strengths), places, lows, sharp))
    if not grid or min(strengths) <= 0:
        raise InvalidInput("there is nothing to choose from", why="strengths lie above 0")
    return grid


def _ask(model: nn.Module, feature: WaveFeature, source: ImageSource) -> tuple[Tensor, Tensor]:
    """The model's logits and the feature, of every image."""
    rows = torch.split(torch.arange(len(source)), 1024)
    z = torch.cat([feature(to_pixels(source.fetch(part)[0]).cpu()) for part in rows])
    return predict(model, source), z
