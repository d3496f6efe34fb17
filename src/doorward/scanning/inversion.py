"""Neural Cleanse's inversion: for every class, the smallest patch that sends all images there.

>>> from doorward.data import load
>>> digits = load("digits").sample(32, seed=0).resized(16)
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
>>> reversed_triggers = Stamps(model, classes=10, image_shape=(1, 16, 16))
>>> reversed_triggers.stamped(digits.pixels([0, 1])).shape
torch.Size([10, 2, 1, 16, 16])

All classes are searched at once: one forward pass through the frozen model for all of them.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.scanning.searching import PASS_SIZE, Inverse, Search, SizeWeight
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["Reversed", "Stamps", "anomaly_index", "invert"]

UP, DOWN = 2.0, 2.0**1.5


class Reversed(NamedTuple):
    """What was found, on the CPU.

    Attributes:
        masks: (K, 1, H, W) in [0, 1].
        patterns: (K, C, H, W) in [0, 1].
        norms: (K,), sum of each mask; the whole image's area where `success` was never enough.
        success: (K,), share of the images that the kept stamp sends to its class.
        reached: bool (K,), whether that was ever enough.
    """

    masks: Tensor
    patterns: Tensor
    norms: Tensor
    success: Tensor
    reached: Tensor

    def stamp(self, images: Tensor, targets: Tensor) -> Tensor:
        """Images (B, C, H, W) with the stamps of these classes (B,)."""
        masks = self.masks.to(images.device)[targets]
        patterns = self.patterns.to(images.device)[targets]
        return images + masks * (patterns - images)


class Stamps(Inverse):
    """A frozen model behind one trainable stamp per class.

    Args:
        model: frozen here.
        classes: K.
        image_shape: (C, H, W).
        draw: of the first masks and patterns; zeros (grey, half opaque) if None.
    """

    def __init__(
        self,
        model: nn.Module,
        classes: int,
        image_shape: tuple[int, int, int],
        draw: torch.Generator | None = None,
    ) -> None:
        super().__init__(model)
        channels, height, width = image_shape
        device = next((p.device for p in model.parameters()), torch.device("cpu"))

        def start(depth: int) -> nn.Parameter:
            raw = torch.zeros(classes, depth, height, width)
            if draw is not None:
                raw = torch.atanh((torch.rand(raw.shape, generator=draw) - 0.5) * (2 - 1e-6))
            return nn.Parameter(raw.to(device))

        self.raw_masks, self.raw_patterns = start(1), start(channels)

    def masks(self) -> Tensor:
        """(K, 1, H, W) in (0, 1)."""
        return torch.tanh(self.raw_masks) / 2 + 0.5

    def patterns(self) -> Tensor:
        """(K, C, H, W) in (0, 1)."""
        return torch.tanh(self.raw_patterns) / 2 + 0.5

    def stamped(self, images: Tensor, rows: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W) under the stamps of some classes, (R, B, C, H, W)."""
        masks, patterns = self.masks()[:, None], self.patterns()[:, None]
        if rows is not None:
            masks, patterns = masks[rows], patterns[rows]
        return images + masks * (patterns - images)

    def sizes(self) -> Tensor:
        """Sum of each mask, (K,)."""
        return self.masks().float().sum((1, 2, 3))


def invert(
    model: nn.Module,
    clean: ImageData,
    context: Context,
    *,
    epochs: int,
    batch_size: int,
    lr: float,
    wanted: float,
    patience: int,
    stall: int | None = None,
    pass_size: int = PASS_SIZE,
) -> Reversed:
    """Search the smallest stamp of every class.

    Args:
        model: frozen by this; on the context's device.
        clean: images to stamp.
        context: device, seeds and history.
        epochs: of the search; the weight of the mask's size is adapted after each.
        batch_size: images per step, each stamped for every class.
        lr: of Adam.
        wanted: success rate that counts as enough.
        patience: epochs of success (or failure) in a row before the weight rises (or falls).
        stall: leave a class once its weight has risen and fallen and its stamp has not shrunk by
            1 % in so many epochs; None for never.
        pass_size: stamped images per pass through the model; bounds the memory.

    Wang et al. (2019), Neural Cleanse: the loss, the tanh parametrisation, Adam's constants, the
    adaptive weight (from 0 to 1e-3, times 2 up, by 2^1.5 down) and the smallest successful mask as
    result. The weight is adapted per epoch, as in BackdoorBench; all classes at once is ours.
    """
    draw = context.generator("stamps")
    stamps = Stamps(model, clean.num_classes, clean.image_shape, draw)
    search = _Smallest(clean.num_classes, context.device, wanted, patience, stall, pass_size)
    recipe = Recipe(
        epochs=epochs,
        batch_size=batch_size,
        optimizer="adam",
        lr=lr,
        betas=(0.5, 0.9),
        schedule="constant",
        divergence=1e9,  # the weight of the masks makes the loss jump
        seed=context.seed_of("invert"),
    )
    context.fit("invert", stamps, search, clean, recipe)
    search.settle(stamps)
    return search.found(math.prod(clean.image_shape[1:]), stamps)


class _Smallest(Search):
    """Keeps the successful stamp with the smallest mask."""

    def __init__(
        self,
        classes: int,
        device: torch.device,
        wanted: float,
        patience: int,
        stall: int | None = None,
        pass_size: int = PASS_SIZE,
    ) -> None:
        weight = SizeWeight(classes, device, patience=patience, up=UP, down=DOWN, stall=stall)
        super().__init__(weight, wanted, pass_size=pass_size)
        self.best: tuple[Tensor, Tensor] | None = None

    def keep(self, model: nn.Module, success: Tensor, good: Tensor) -> None:
        """Smaller successful masks, with their patterns."""
        stamps = cast(Stamps, model)
        masks, patterns, sizes = stamps.masks(), stamps.patterns(), stamps.sizes()
        if self.best is None:
            self.best = (masks.clone(), patterns.clone())
        better = good & (sizes < self.norms)
        wide = better[:, None, None, None]
        self.best = (
            torch.where(wide, masks, self.best[0]),
            torch.where(wide, patterns, self.best[1]),
        )
        self.norms = torch.where(better, sizes, self.norms)
        self.success = torch.where(better, success, self.success)

    def found(self, area: int, model: Stamps) -> Reversed:
        """The best stamps; the last ones of classes that were never reached."""
        reached = self.norms.isfinite()
        wide = reached[:, None, None, None]
        kept = self.best or (model.masks(), model.patterns())
        masks = torch.where(wide, kept[0], model.masks().detach())
        patterns = torch.where(wide, kept[1], model.patterns().detach())
        norms = torch.where(reached, self.norms, float(area))
        found = (masks, patterns, norms, self.success, reached)
        return Reversed(*(tensor.detach().cpu() for tensor in found))


def anomaly_index(norms: Tensor) -> Tensor:
    """How far each class's norm lies below the median, in robust deviations; 0 above it.

    ``(median - norm) / (1.4826 * median of |norm - median|)``, the index of Neural Cleanse, which
    calls a class attacked above 2.

    Args:
        norms: (K,).

    >>> anomaly_index(torch.tensor([9.0, 10.0, 11.0, 12.0, 2.0])).tolist()[-1] > 2
    True
    """
    median = norms.median()
    deviation = 1.4826 * (norms - median).abs().median()
    return ((median - norms) / deviation.clamp_min(1e-12)).clamp_min(0)
