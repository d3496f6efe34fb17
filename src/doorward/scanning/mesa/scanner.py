"""The scanner `mesa`: all classes, sizes and places at once, then the whole distribution.

    result, recovered = scan(model, clean, Mesa(sizes=(3, 5)))
    result.finding(result.suspect).details["success"]           # of every size and placement

>>> Mesa().levels, Mesa().patch_sides((3, 32, 32)), Mesa().patch_sides((1, 16, 16))
((0.5, 0.8, 0.9), (2, 3, 5, 7), (2, 3, 4))
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.records import STRICT
from doorward.scanning.base import Finding, Look, Scanner, file_scanner
from doorward.scanning.measuring import held_out_success, require_several_classes
from doorward.scanning.mesa.filling import fill
from doorward.scanning.mesa.pressing import Rule
from doorward.scanning.mesa.schedule import Race
from doorward.scanning.mesa.workshop import Workshop
from doorward.training.context import Context

__all__ = ["Mesa"]

Count = Annotated[int, Field(gt=0)]
Several = Annotated[int, Field(ge=2)]
Share = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Level = Annotated[float, Field(gt=0, lt=1)]

SIDES = (1 / 16, 3 / 32, 5 / 32, 7 / 32)
"""Sides of patches as shares of the image's shorter side: 2, 3, 5, 7 of 32 pixels."""

LEAST_HELD = 10
"""Images to measure success on: any model sends one or two of them wherever a patch likes."""


@file_scanner(
    "mesa",
    paper="Qiao et al. 2019, Defending Neural Backdoors via Generative Distribution Modeling",
    finds="opaque square patches of unknown size, at any place or at a fixed one",
    images="some hundreds",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mesa(Scanner):
    """Our scanner after MESA: one search for all classes, sizes and rules of placement.

    First every class is looked at, with one generator per size and rule of placement; the classes
    that stand out least are dropped (successive halving). Then the classes above the alarm, and
    the most suspicious one in any case, get generators for all levels and restarts, which fill
    the sets of triggers that reach each level. The statistic is the largest `contrast` over sizes
    and rules: how far the success of the class's patches, on images that the search has not seen,
    stands out from the median of the other classes, in logarithms of odds.

    Qiao et al. (2019): the staircase of levels, one generator per level with maximal entropy
    within the set of triggers that reach it, the hinge per image, stamping at random places.
    Ours: everything in one batch, the schedule, the entropy from nearest neighbours and its
    weight from a constraint, the mixture's weights, unknown size and place, and the statistic,
    in which patches larger than 5/32 of the image's side count less, in proportion: such exist
    in clean models, too.

    Args:
        alarm: statistic above which a class is accused; a success of 0.83 where the other classes
            have 0.1 or less, of 0.95 where they have 0.3. Chosen on few models.
        sizes: sides of the patches that are tried; None for 2, 3, 5 and 7 pixels of images of
            32 pixels, and in proportion.
        rules: of placement that are tried.
        levels: probabilities of the class, one generator each (and per restart).
        restarts: generators per level; the first goes on from the one that was found.
        rounds: looks before the search for the whole distribution.
        keep: share of the classes that each but the last look passes on.
        least: classes that are never dropped.
        look_steps: steps of each look.
        look_images: stamped images per generator and step of a look.
        steps: of the search for the whole distribution.
        images: stamped images per generator and step of it.
        most: classes whose distribution is recovered, at most.
        entropy: ``"knn"`` (Kozachenko and Leonenko) or ``"mine"``, the paper's.
        alpha: first weight of the entropy per pixel value; the constraint moves it.
        valid: share of the stamped images that shall reach the level: the constraint.
        even: share of the mixture's weight that is spread evenly (see `mixture_weights`).
        jitter: deviation of normal noise on patches while searching.
        grid: places per side for fixed patches.
        hidden: units of the generators' hidden layers.
        lr: of Adam.
        held_out: share of the clean images that the success of a look is measured on, by which
            classes, sizes and generators are chosen.
        fresh: share of the clean images that take part in nothing but the last figure, the success
            of the triggers of the classes that were chosen.
        probes: stamped images that success of a look is measured on, per generator.
        batch_size: stamped images per pass through the classifier; bounds the memory.
    """

    searched: ClassVar[str] = (
        "opaque square patches of up to 7/32 of the image's side (or the given sizes), anywhere in "
        "the image or at one of nine places, that send images of all other classes to one class"
    )

    alarm: float = 3.8
    sizes: Annotated[tuple[Count, ...], Field(min_length=1)] | None = None
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)] = ("anywhere", "fixed")
    levels: Annotated[tuple[Level, ...], Field(min_length=1)] = (0.5, 0.8, 0.9)
    restarts: Count = 2
    rounds: Count = 3
    keep: Share = 0.5
    least: Count = 3
    look_steps: Count = 30
    look_images: Several = 8
    steps: Count = 100
    images: Several = 32
    most: Count = 3
    entropy: Literal["knn", "mine"] = "knn"
    alpha: Positive = 0.1
    valid: Share = 0.95
    even: Annotated[float, Field(ge=0, le=1)] = 0.3
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.02
    grid: Count = 3
    hidden: Count = 64
    lr: Positive = 0.01
    held_out: Share = 0.25
    fresh: Share = 0.1
    probes: Count = 64
    batch_size: Count = 256

    def patch_sides(self, image_shape: tuple[int, int, int]) -> tuple[int, ...]:
        """The sizes that are tried on images of this shape, in order."""
        shorter = min(image_shape[1:])
        sides = self.sizes or [max(2, math.ceil(share * shorter)) for share in SIDES]
        return tuple(sorted(set(sides)))

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """The patches must leave room in the images, and there must be classes to compare."""
        largest, shorter = self.patch_sides(clean.image_shape)[-1], min(clean.image_shape[1:])
        if 2 * largest > shorter:
            raise InvalidInput(
                f"patches of {largest} pixels are too large for images of {shorter}",
                why="one that covers the subject of an image proves nothing",
                remedy=f"give sizes up to {shorter // 2}",
            )
        require_several_classes(clean)
        if round(self.held_out * len(clean)) < LEAST_HELD:
            raise InvalidInput(
                f"{len(clean)} clean images are too few",
                why=f"{self.held_out:g} of them measure success, and {LEAST_HELD} must do that",
                remedy=f"give {math.ceil(LEAST_HELD / self.held_out)} or more, better hundreds",
            )
        if self.held_out + self.fresh >= 1:
            raise InvalidInput(
                f"held_out {self.held_out:g} and fresh {self.fresh:g} leave no image to search on"
            )
        for name in ("rules", "levels"):
            given = getattr(self, name)
            if len(set(given)) < len(given):
                raise InvalidInput(f"{name} {given} name one twice")

    def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
        """Race the classes, then model what stands out."""
        shop = Workshop(
            model,
            clean,
            context,
            held_out=self.held_out,
            fresh=self.fresh,
            batch_size=self.batch_size,
            lr=self.lr,
            jitter=self.jitter,
            valid=self.valid,
            alpha=self.alpha,
            entropy=self.entropy,
        )
        race = Race(
            shop,
            sizes=self.patch_sides(clean.image_shape),
            rules=self.rules,
            level=max(self.levels),
            grid=self.grid,
            hidden=self.hidden,
        )
        kept = race.run(
            rounds=self.rounds,
            keep=self.keep,
            least=self.least,
            steps=self.look_steps,
            images=self.look_images,
            probes=self.probes,
        )
        statistics = race.stands_out().amax(1)
        kept.sort(key=lambda target: -float(statistics[target]))
        loud = [target for target in kept if float(statistics[target]) > self.alarm]
        suspects = loud[: self.most] or kept[:1]
        cells = {target: race.smallest(target) for target in suspects}
        recovered = fill(
            shop,
            race,
            cells,
            levels=sorted(self.levels),
            restarts=self.restarts,
            steps=self.steps,
            images=self.images,
            probes=2 * self.probes,
            even=self.even,
        )
        findings = []
        for target in range(clean.num_classes):
            table: dict[str, dict[str, float]] = {rule: {} for rule in self.rules}
            for (size, rule), share in zip(race.cells, race.success[target].tolist(), strict=True):
                table[rule][str(size)] = round(share, 4)
            details: dict[str, Any] = {"success": table, "kept": target in kept}
            success = None
            if target in recovered:
                found, more = recovered[target]
                draw = context.generator("success", target)
                success = held_out_success(
                    model, found, shop.fresh, draw, batch_size=self.batch_size
                )
                details |= more
            findings.append(
                Finding(
                    target=target,
                    statistic=float(statistics[target]),
                    attack_success=success,
                    details=details,
                )
            )
        context.note(
            rounds=race.rounds,
            recovered=suspects,
            fresh_images=len(shop.fresh),
            images_searched=shop.pressed,
            images_probed=shop.probed,
        )
        return Look(findings, {target: found for target, (found, _) in recovered.items()})
