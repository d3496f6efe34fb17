"""How large a change of images is: four measures of whole-image changes, and one of patches.

>>> x = torch.zeros(1, 2, 1, 4, 4)
>>> pixel(x, x + 0.5).tolist()                       # per row and image: the norm of 16 halves
[[2.0, 2.0]]

`Gauges` measures several at once; `Perceptual` compares feature maps of a frozen model.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import torch
from torch import Tensor, nn

from doorward.hardening.pool import Shown
from doorward.hardening.transforms import Change
from doorward.hardening.transforms.base import folded
from doorward.metrics import ssim
from doorward.models.layers import stages
from doorward.models.surgery import capture

__all__ = ["MEASURES", "UNITS", "Gauges", "Measure", "Perceptual", "dissimilarity", "pixel"]

Measure = Literal["patch", "pixel", "ssim", "lpips", "parameters"]

MEASURES: dict[Measure, str] = {
    "patch": "sum of the mask over all channels (MOTH)",
    "pixel": "mean L2 norm of the change, pixels in [0, 1]",
    "ssim": "1 - structural similarity",
    "lpips": "distance of a model's feature maps, after LPIPS",
    "parameters": "mean deviation of the parameters as a share of their bounds",
}
"""All measures and what they are."""

UNITS: dict[Measure, float] = {
    "patch": 1.0,
    "pixel": 0.03,
    "ssim": 0.003,
    "lpips": 0.003,
    "parameters": 0.003,
}
"""What weighs as much in a search as one pixel of a patch: a fiftieth of a usual value."""


def pixel(images: Tensor, changed: Tensor) -> Tensor:
    """L2 norm of each image's change, (R, B)."""
    square = (changed - images).flatten(2).square().sum(2)
    # The slope of a root is infinite at 0, where every search begins: there it shall be 0.
    return square.clamp_min(1e-12).sqrt()


def dissimilarity(images: Tensor, changed: Tensor) -> Tensor:
    """``1 - SSIM`` of each image, (R, B)."""
    return 1 - folded(ssim(images.flatten(0, 1), changed.flatten(0, 1)), *images.shape[:2])


class Perceptual:
    """Distance of feature maps, after LPIPS (Zhang et al. 2018) without its learned weights.

    Maps at the end of each resolution, normalised over the channels at every place; the squared
    difference is summed over channels, averaged over places and over the maps. LPIPS takes VGG
    trained on ImageNet and weights fitted to human judgement; here any frozen classifier serves, so
    that nothing is downloaded. Values by different models cannot be compared.

    Args:
        model: frozen, in evaluation mode.
        images: a few, (N, C, H, W), on its device, to find the maps by.
    """

    def __init__(self, model: nn.Module, images: Tensor) -> None:
        self.model, self.sites = model, stages(model, images)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Normalised maps of images (N, C, H, W): each (N, places, channels)."""
        with capture(self.model, self.sites) as outputs:
            self.model(images)
        maps = []
        for name in self.sites:
            output = outputs[name].float()
            places = output.flatten(2).transpose(1, 2) if output.ndim == 4 else output
            maps.append(places / (places.square().sum(2, keepdim=True) + 1e-10).sqrt())
        return maps

    def distance(self, shown: Shown, changed: Tensor) -> Tensor:
        """(R, B), differentiable in the changed images (R, B, C, H, W)."""
        with torch.no_grad():
            plain = self.maps(shown.distinct.flatten(0, 1))
        total: Tensor | None = None
        for before, after in zip(plain, self.maps(changed.flatten(0, 1)), strict=True):
            here = folded(before, *shown.distinct.shape[:2]).index_select(0, shown.inverse)
            apart = (folded(after, *changed.shape[:2]) - here).square().sum(3).mean(2)
            total = apart if total is None else total + apart
        assert total is not None  # noqa: S101 - `stages` gives at least one
        return total / len(self.sites)


class Gauges:
    """Some measures of a change on the images that its rows are shown.

    Args:
        names: which.
        perceptual: for ``"lpips"``.
    """

    def __init__(self, names: Iterable[Measure], perceptual: Perceptual | None = None) -> None:
        self.names, self.perceptual = tuple(dict.fromkeys(names)), perceptual

    def __call__(
        self,
        change: Change,
        rows: Tensor | None,
        shown: Shown,
        images: Tensor,
        changed: Tensor,
    ) -> dict[Measure, Tensor]:
        """Each measure by name, (R,): the mean over the images that count."""
        measured: dict[Measure, Tensor] = {}
        for name in self.names:
            if name in ("patch", "parameters"):
                measured[name] = change.sizes(rows)
            elif name == "lpips":
                assert self.perceptual is not None  # noqa: S101 - see `attack_pairs`
                measured[name] = shown.mean(self.perceptual.distance(shown, changed))
            else:
                with torch.autocast(images.device.type, enabled=False):
                    apart = (pixel if name == "pixel" else dissimilarity)(images, changed)
                measured[name] = shown.mean(apart)
        return measured
