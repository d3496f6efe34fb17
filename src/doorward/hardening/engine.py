"""The work behind `attack_pairs`: rows into searches, searches into measured changes.

context = Context(model, seed=0, device=device, room="my method")
found = attack_in(context, clean, Aims.of("pairs", 10), Space(), Settings())
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.hardening.aims import Aims
from doorward.hardening.measures import Gauges, Measure, Perceptual
from doorward.hardening.pool import Pool, require_images
from doorward.hardening.searching import Attacked, PairSearch, led
from doorward.hardening.settings import Settings
from doorward.hardening.transforms import (
    Change,
    Coder,
    Patches,
    Pervasive,
    Space,
    train_coder,
)
from doorward.hardening.transforms.base import folded
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["PairAttack", "attack_in"]

MAJORITY = 0.5
"""Share of unseen images that a change must lead astray to be one of the class at all."""


@dataclass(frozen=True, eq=False)
class PairAttack:
    """What was found, on the CPU.

    Attributes:
        aims: P rows.
        change: their changes; those of rows that were not reached are the last ones tried.
        reached: bool (P,): the search succeeded, and half of the unseen images follow.
        success: (P,), share of unseen images that are led astray.
        search_success: (P,), the same in the search; 0 where it never succeeded.
        measures: each measure on the unseen images, (P,).
        settings: of the search.
        seconds: that it took.
        forward_images: images that went through the model in it.
        history: entries of its training phases.
    """

    aims: Aims
    change: Change
    reached: Tensor
    success: Tensor
    search_success: Tensor
    measures: dict[Measure, Tensor]
    settings: Settings
    seconds: float
    forward_images: int
    history: list[dict[str, Any]]

    def taken(self, rows: Tensor) -> PairAttack:
        """Some of the rows, int64 (R,)."""
        return PairAttack(
            aims=self.aims.taken(rows),
            change=self.change.taken(rows),
            reached=self.reached[rows],
            success=self.success[rows],
            search_success=self.search_success[rows],
            measures={name: values[rows] for name, values in self.measures.items()},
            settings=self.settings,
            seconds=self.seconds,
            forward_images=self.forward_images,
            history=self.history,
        )

    @torch.no_grad()
    def apply(self, row: int, images: Tensor) -> Tensor:
        """Images (B, C, H, W) under one row's change."""
        changed: Tensor = self.change(images[None], torch.tensor([row]))
        return changed[0]


def attack_in(
    context: Context,
    clean: ImageData,
    aims: Aims,
    space: Space | None,
    settings: Settings,
    *,
    coder: Coder | None = None,
    reference: nn.Module | None = None,
    measures: Sequence[Measure] = (),
) -> PairAttack:
    """`attack_pairs` for methods that have a context of their own, whose seeds it then draws from.

    Args:
        context: of the model to attack.
        clean: with the labels to use.
        aims: rows.
        space: None for patches.
        settings: of the search.
        coder: see `attack_pairs`.
        reference: see `attack_pairs`.
        measures: to report beside the search's own; ``"lpips"`` only of models with feature maps.
    """
    begun, before = time.perf_counter(), len(context.history)
    require_images(clean, aims)
    names: list[Measure] = list(dict.fromkeys([*settings.measured, *measures]))
    _check_measures(names, space)
    model = context.frozen_original()
    work, held_out = context.hold_out(clean, settings.held_out)
    if space is not None and "latent" in space.families and coder is None:
        coder = train_coder(model, work, context)
    whole = _started(context, clean, aims, space, coder)
    device = context.device
    pool = Pool.of(work, settings.images, device, context.generator("pool"))
    orders = _orders(context, aims, len(pool)).to(device)
    perceptual = None
    if "lpips" in names:
        try:
            perceptual = _perceptual(context, clean, model, reference)
        except ModelUnsuitable:  # a model without feature maps
            if "lpips" in settings.measured:
                raise
            names.remove("lpips")
    count = len(aims)
    value, success = torch.full((count,), torch.inf), torch.zeros(count)
    work_done = 0
    recipe = _recipe(settings, context)
    guide = work.subset(torch.arange(len(pool)))  # only its positions are used
    for rows in torch.split(torch.arange(count), _rows_at_once(settings, device)):
        part = whole.taken(rows).to(device)
        gauges = Gauges(settings.measured, perceptual)
        search = PairSearch(aims.taken(rows).to(device), pool, gauges, settings, orders)
        context.fit("attack", Attacked(model, part), search, guide, recipe)
        search.settle_into(part)
        whole.put(rows, part.cpu())
        value[rows], success[rows] = search.value.cpu(), search.success.cpu()
        work_done += search.work
    unseen = Pool.of(held_out, settings.images, device, context.generator("held out"))
    led_astray, measured = _measured(
        model, whole, aims, unseen, Gauges(names, perceptual), settings, device
    )
    enough = success >= settings.wanted
    return PairAttack(
        aims=aims,
        change=whole.cpu().eval(),
        reached=value.isfinite() & enough & (led_astray >= MAJORITY),
        success=led_astray,
        search_success=success,
        measures=measured,
        settings=settings,
        seconds=time.perf_counter() - begun,
        forward_images=work_done,
        history=context.history[before:],
    )


@torch.no_grad()
def _measured(
    model: nn.Module,
    whole: Change,
    aims: Aims,
    unseen: Pool,
    gauges: Gauges,
    settings: Settings,
    device: torch.device,
) -> tuple[Tensor, dict[Measure, Tensor]]:
    """Success and measures of every row on images that the search has not seen."""
    success: list[Tensor] = []
    measured: dict[Measure, list[Tensor]] = {name: [] for name in gauges.names}
    items = torch.arange(len(unseen), device=device)
    for rows in torch.split(torch.arange(len(aims)), _rows_at_once(settings, device)):
        part, some = whole.taken(rows).to(device), aims.taken(rows).to(device)
        shown = unseen.shown(some, items)
        images = shown.images
        changed = part(images)
        logits = folded(model(changed.flatten(0, 1)).float(), *changed.shape[:2])
        success.append(shown.mean(led(logits, shown.labels, some.targets).hits))
        for name, values in gauges(part, None, shown, images, changed).items():
            measured[name].append(values)
    joined = {name: torch.cat(values).float().cpu() for name, values in measured.items()}
    return torch.cat(success).cpu(), joined


def _check_measures(names: Sequence[Measure], space: Space | None) -> None:
    if space is not None and "patch" in names:
        raise InvalidInput(
            "a whole-image change has no mask to measure",
            remedy="measure pixel, ssim, lpips or parameters, or attack by patches",
        )


def _started(
    context: Context, clean: ImageData, aims: Aims, space: Space | None, coder: Coder | None
) -> Change:
    shape, count = clean.image_shape, len(aims)
    change: Change
    change = Patches(count, shape) if space is None else Pervasive(count, shape, space, coder=coder)
    rows = zip(aims.pairs, aims.starts.tolist(), strict=True)
    return change.cpu().start([context.generator("start", str(pair), k) for pair, k in rows])


def _orders(context: Context, aims: Aims, count: int) -> Tensor:
    starts = int(aims.starts.max()) + 1
    return torch.stack(
        [torch.randperm(count, generator=context.generator("order", k)) for k in range(starts)]
    )


def _perceptual(
    context: Context, clean: ImageData, model: nn.Module, reference: nn.Module | None
) -> Perceptual:
    if reference is not None:
        other = Context(reference, seed=0, device=context.device)
        model = other.frozen_original()
    return Perceptual(model, clean.pixels([0, len(clean) - 1]).to(context.device))


def _rows_at_once(settings: Settings, device: torch.device) -> int:
    images = settings.images_at_once or (512 if device.type == "cpu" else 8192)
    return max(1, images // min(settings.batch_size, settings.images))


def _recipe(settings: Settings, context: Context) -> Recipe:
    return Recipe(
        epochs=settings.epochs,
        batch_size=settings.batch_size,
        optimizer="adam",
        lr=settings.lr,
        betas=(0.5, 0.9),
        schedule="constant",
        precision=settings.precision,
        divergence=1e9,  # the weight of the measure makes the loss jump
        seed=context.seed_of("attack"),
    )
