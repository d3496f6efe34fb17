"""Superpixels of whole batches, and a victim's gradient over them from its answers.

>>> import torch
>>> images = torch.zeros(1, 1, 8, 8); images[..., 4:] = 1.0
>>> segments = superpixels(images, 4)
>>> segments.shape, segments.unique().tolist()
(torch.Size([1, 8, 8]), [0, 1, 2, 3])
>>> purify(torch.tensor([[[0.2, 1.0, 0.6, -0.1, -0.5]]]))
tensor([[[ 0.0000,  1.0000,  0.6000,  0.0000, -0.5000]]])
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from doorward.errors import InvalidInput

__all__ = ["perturbed", "purify", "sum_over_superpixels", "superpixels"]


def superpixels(
    images: Tensor, count: int, *, compactness: float = 0.5, iterations: int = 5
) -> Tensor:
    """Cut every image into patches of similar colour: k-means over colour and place, as in SLIC.

    Args:
        images: float ``(N, C, H, W)`` in [0, 1].
        count: how many patches; rounded down to a grid of the image's proportions.
        compactness: weight of places against colours.
        iterations: of k-means, from a regular grid of centres.

    Returns:
        int64 ``(N, H, W)``: numbers below `count`; some may not occur.

    Raises:
        InvalidInput: there are more patches than pixels, or none.

    Achanta et al. (TPAMI 2012), "SLIC Superpixels"; without its search window and without joining
    stray pixels, which matter for large pictures only.
    """
    channels, height, width = images.shape[1:]
    down = max(1, math.floor(math.sqrt(count * height / width)))
    across = max(1, count // down)
    if count < 1 or down > height or across > width:
        raise InvalidInput(f"{count} superpixels of images {height}x{width}")
    ys, xs = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    places = torch.stack([ys, xs]).to(images) * (compactness * math.sqrt(down * across))
    points = torch.cat(
        [images * math.sqrt(3 / channels), places.expand(len(images), -1, -1, -1)], 1
    )
    points = points.flatten(2).transpose(1, 2)
    rows = ((torch.arange(down) + 0.5) * height / down).long()
    columns = ((torch.arange(across) + 0.5) * width / across).long()
    start = (rows[:, None] * width + columns).flatten().to(images.device)
    centres = points[:, start]
    for _ in range(iterations):
        nearest = torch.cdist(points, centres).argmin(2)
        member = torch.nn.functional.one_hot(nearest, centres.shape[1]).to(points)
        sizes = member.sum(1).unsqueeze(2)
        means = member.transpose(1, 2) @ points / sizes.clamp_min(1)
        centres = torch.where(sizes > 0, means, centres)
    return torch.cdist(points, centres).argmin(2).view(-1, height, width)


def perturbed(image: Tensor, segments: Tensor, count: int, step: float) -> Tensor:
    """An image with `step` added to one channel of one superpixel at a time.

    Args:
        image: float ``(C, H, W)``, at most ``1 - step``.
        segments: int64 ``(H, W)``.
        count: number of superpixels, S.
        step: what is added.

    Returns:
        float ``(C * S, C, H, W)``: channel by channel, superpixel by superpixel.
    """
    channels = len(image)
    inside = segments == torch.arange(count, device=image.device).view(-1, 1, 1)
    added = torch.zeros(channels, count, *image.shape).to(image)
    for channel in range(channels):
        added[channel, :, channel] = inside * step
    return image + added.flatten(0, 1)


def sum_over_superpixels(slopes: Tensor, segments: Tensor, count: int) -> Tensor:
    """Pixel gradients added up within superpixels and channels; differentiable.

    Args:
        slopes: float ``(N, C, H, W)``.
        segments: int64 ``(N, H, W)``.
        count: number of superpixels, S.

    Returns:
        float ``(N, C, S)``: what `perturbed` differences divided by their step estimate.
    """
    index = segments.flatten(1).unsqueeze(1).expand(-1, slopes.shape[1], -1)
    sums = slopes.new_zeros(*slopes.shape[:2], count)
    return sums.scatter_add(2, index, slopes.flatten(2))


def purify(gradients: Tensor) -> Tensor:
    """Keep the strongest: per channel, values beyond half the largest or half the smallest.

    Args:
        gradients: float ``(N, C, S)``.

    Returns:
        The same with 0 elsewhere, divided by each channel's largest magnitude.
    """
    high = gradients.amax(2, keepdim=True).clamp_min(0)
    low = gradients.amin(2, keepdim=True).clamp_max(0)
    kept = ((gradients >= high / 2) & (gradients > 0)) | ((gradients <= low / 2) & (gradients < 0))
    scale = torch.maximum(high, -low).clamp_min(1e-12)
    return torch.where(kept, gradients / scale, torch.zeros_like(gradients))
