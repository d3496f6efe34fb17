"""Pixel inversion: for every class, the additive change of fewest pixels that reaches it.

    result, recovered = scan(model, clean, "pixel")
    recovered[3].pictures(1, draw)                   # the change on a grey image

>>> PixelInversion().patience, PixelInversion().images
(10, 100)

Without a mask, a pixel counts by its largest change alone: fewer pixels and more success than a
mask-based inversion, for less work.
"""

from __future__ import annotations

from typing import Annotated, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.records import STRICT
from doorward.scanning.base import Finding, Look, Scanner, file_scanner
from doorward.scanning.measuring import held_out_success, require_several_classes
from doorward.scanning.recovered import Recovered
from doorward.scanning.searching import PASS_SIZE, Inverse, Search, SizeWeight, smallness
from doorward.scanning.stamps import Perturbation
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["Changes", "PixelInversion"]

FIRST_COST, UP, DOWN = 1e-3, 1.5, 1.5**1.5
VISIBLE = 1 / 255
"""Smaller changes are no change: an image could not hold them."""


@file_scanner(
    "pixel",
    paper="Tao et al. 2022, Better Trigger Inversion Optimization in Backdoor Scanning",
    finds="one additive pattern of few pixels per class",
    images="a hundred or two",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class PixelInversion(Scanner):
    """Invert the additive pattern of fewest pixels for every class (Tao et al. 2022).

    The statistic is the anomaly index of the logarithm of each pattern's count of pixels
    (`smallness`); a class that no pattern reached counts with all pixels.

    Args:
        alarm: statistic above which a class is accused; 2, as Neural Cleanse has it. The paper
            compares sizes with a fixed number of pixels, which holds for one data set only.
        images: at most so many clean images are searched on.
        epochs: at most so many passes over them.
        batch_size: images per step, each changed for every class that is still searched.
        lr: of Adam.
        success: share of the images of other classes that a pattern must send to its class.
        patience: epochs in a row before the weight of its size is adapted.
        stall: a class whose pattern has stopped to shrink for so many epochs is left; None for
            never.
        held_out: share of the clean images that only serve to measure the patterns.
        least_spread: of the logarithms of the sizes, see `smallness`.
        pass_size: changed images per pass through the classifier; bounds the memory.

    As the authors' code has it: ``clamp(images + up - down)`` with up and down in [0, 1] from
    random starts, the sum over pixels of the largest ``tanh(value / 10) / 2 + 0.5`` of the
    channels, Adam, weights, 1,000 passes over 100 images of other classes, and each better pattern,
    with changes below 1/255 removed, as the next start. Ours: all classes share one forward pass
    and each leaves it when it is done (`stall`), which the code never does; the statistic.
    """

    searched = (
        "one pattern of few pixels for each class, added at the same place of every image, that "
        "sends images of all other classes to it; not searched: triggers that change many pixels, "
        "warp the image or differ from image to image, and backdoors for some source classes only"
    )

    passes = "pass_size"

    alarm: float = 2.0
    images: Annotated[int, Field(ge=1)] = 100
    epochs: Annotated[int, Field(ge=1)] = 1000
    batch_size: Annotated[int, Field(ge=1)] = 32
    lr: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    success: Annotated[float, Field(gt=0, le=1)] = 0.9
    patience: Annotated[int, Field(ge=1)] = 10
    stall: Annotated[int, Field(ge=1)] | None = 50
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    least_spread: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    pass_size: Annotated[int, Field(ge=1)] = PASS_SIZE

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """Triggers of a class are tried on images of others."""
        require_several_classes(clean)

    def look(self, model: nn.Module, clean: ImageData, context: Context) -> Look:
        """Invert all classes, compare their counts of pixels, measure the patterns."""
        work, held_out = context.hold_out(clean, self.held_out)
        if len(work) > self.images:
            work = work.sample(self.images, seed=context.seed_of("images"))
        weight = SizeWeight(
            clean.num_classes,
            context.device,
            patience=self.patience,
            start=FIRST_COST,
            up=UP,
            down=DOWN,
            stall=self.stall,
        )
        search = _Fewest(weight, self.success, self.pass_size)
        draw = context.generator("changes")
        changes = Changes(model, clean.num_classes, clean.image_shape, draw)
        recipe = Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            optimizer="adam",
            lr=self.lr,
            betas=(0.5, 0.9),
            schedule="constant",
            divergence=1e9,  # the weight of the sizes makes the loss jump
            seed=context.seed_of("invert"),
        )
        context.fit("invert", changes, search, work, recipe)
        search.settle(changes)
        return self._judged(model, search, held_out, context)

    def _judged(
        self, model: nn.Module, search: _Fewest, held_out: ImageData, context: Context
    ) -> Look:
        _, height, width = held_out.image_shape
        reached = search.norms.isfinite().cpu()
        pixels = torch.where(reached, search.pixels.cpu(), float(height * width))
        index = smallness(pixels, self.least_spread)
        findings: list[Finding] = []
        recovered: dict[int, Recovered] = {}
        for k, known in enumerate(reached.tolist()):
            measured = None
            if known:
                recovered[k] = Perturbation.of(k, change=search.best[k])
                draw = context.generator("measure", k)
                measured = held_out_success(
                    model, recovered[k], held_out, draw, batch_size=self.pass_size
                )
            details = {
                "pixels": int(pixels[k]),
                "reached": known,
                "search_success": float(search.success[k]),
            }
            findings.append(
                Finding(target=k, statistic=index[k], attack_success=measured, details=details)
            )
        return Look(findings, recovered)


class Changes(Inverse):
    """A frozen model behind one trainable change of pixels per class.

    Args:
        model: frozen here.
        classes: K.
        image_shape: (C, H, W).
        draw: of the first changes, uniform in [0, 1] up and down.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        image_shape: tuple[int, int, int],
        draw: torch.Generator,
    ) -> None:
        super().__init__(model)
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self.up, self.down = (
            nn.Parameter(torch.rand((classes, *image_shape), generator=draw).to(device))
            for _ in range(2)
        )

    def changes(self) -> Tensor:
        """(K, C, H, W) in [-1, 1]."""
        return self.up.clamp(0, 1) - self.down.clamp(0, 1)

    def stamped(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) with the changes of some classes, (R, B, C, H, W)."""
        changes = self.changes()
        chosen = changes if rows is None else changes[rows]
        return (images + chosen[:, None]).clamp(0, 1)

    def sizes(self) -> Tensor:
        """(K,): the sum over pixels of the channels' largest ``tanh(value / 10) / 2 + 0.5``."""
        parts = [(torch.tanh(raw / 10) / 2 + 0.5).amax(1) for raw in (self.up, self.down)]
        return (parts[0] + parts[1]).float().sum((1, 2))


class _Fewest(Search):
    """Keeps the successful change that is smaller both in size and in its count of pixels."""

    def __init__(self, weight: SizeWeight, wanted: float, pass_size: int = PASS_SIZE) -> None:
        super().__init__(weight, wanted, others_only=True, pass_size=pass_size)
        self.pixels = torch.full_like(self.norms, torch.inf)
        self.best = torch.empty(0)

    @property
    def least(self) -> Tensor:
        """Counts of pixels: sizes hardly differ, since an unchanged pixel has one, too."""
        return self.pixels

    def keep(self, model: nn.Module, success: Tensor, good: Tensor) -> None:
        """Better changes, without what is invisible; the search goes on from there."""
        changes = cast(Changes, model)
        up, down = (
            torch.where(raw.clamp(0, 1) < VISIBLE, 0.0, raw.clamp(0, 1))
            for raw in (changes.up, changes.down)
        )
        if not len(self.best):
            self.best = torch.zeros_like(up)
        sizes = changes.sizes()
        pixels = (up != down).any(1).sum((1, 2)).to(sizes)
        better = good & (sizes < self.norms) & (pixels < self.pixels)
        wide = better[:, None, None, None]
        self.best = torch.where(wide, up - down, self.best)
        self.norms = torch.where(better, sizes, self.norms)
        self.pixels = torch.where(better, pixels, self.pixels)
        self.success = torch.where(better, success, self.success)
        changes.up.copy_(torch.where(wide, up, changes.up))
        changes.down.copy_(torch.where(wide, down, changes.down))
