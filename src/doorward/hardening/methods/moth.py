"""MOTH: harden against patches, pair by pair.

>>> from doorward.hardening import hardening
>>> hardening("moth").searching.measure
'patch'
"""

from __future__ import annotations

from typing import Literal

from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.hardening.methods.base import file_hardening
from doorward.hardening.methods.inverting import Found, Searching
from doorward.hardening.methods.pairhardening import ScheduledHardening
from doorward.hardening.methods.scheduled import ScheduledObjective
from doorward.hardening.transforms import Change, Patches
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.removal.tuning import Count, NonNegative, Positive
from doorward.training.context import Context

__all__ = ["PATCHES", "Moth", "PatchObjective"]

PATCHES = Searching(measure="patch", lr=0.1, first_weight=1e-3, patience=10, up=1.5)
"""How MOTH (Tao et al. 2022, their code) searches patches."""


@file_removal(
    "moth",
    paper="Tao et al. 2022, Model Orthogonalization",
    needs="nothing beyond trainable weights",
)
@file_hardening("moth", paper="Tao et al. 2022, Model Orthogonalization")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Moth(ScheduledHardening):
    """Adversarial training on the smallest patches between classes (MOTH).

    After the authors' code: a universal patch per target as warm-up, then a new pair every three
    steps, both ways at once, searched for 200 steps and followed for 50, at random or by the
    growth of its size. Differences: patches are stamped on images of the class drawn for the
    purpose (their code stamps a tenth of the two classes' images in the batch, one or two images);
    the universal patches of all targets are searched at once, at the given model; each search is on
    16 images of a direction. Their Keras code lets BatchNorm follow all images; their PyTorch code
    freezes it without meaning to.

    All fields are those of `ScheduledHardening`, `PairHardening` and `Hardening`.
    """

    searching: Searching = PATCHES
    pairs_at_once: Count = 1
    first_steps: Count = 200
    next_steps: Count = 50
    warm_steps: int = 200
    blend_steps: int = 1000
    hard_share: Positive = 0.1
    consistency: NonNegative = 0.0
    batchnorm: Literal["clean-only", "frozen", "train"] = "train"

    def objective(self, model: nn.Module, work: ImageData, context: Context) -> PatchObjective:
        """The objective."""
        return PatchObjective(self, work, context)


class PatchObjective(ScheduledObjective):
    """Patches; those of three quarters of the image and more are not trained on."""

    def __init__(self, method: ScheduledHardening, work: ImageData, context: Context) -> None:
        super().__init__(method, work, context, arms=("patch",))

    def make(self, arm: str, rows: int) -> Change:
        """Masks and patterns."""
        return Patches(rows, self.image_shape)

    def small(self, found: Found) -> Tensor:
        """Whether a mask leaves a quarter of the image alone."""
        channels, height, width = self.image_shape
        return found.size < 0.75 * channels * height * width
