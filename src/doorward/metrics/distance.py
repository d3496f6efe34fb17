"""How far apart two batches of images are: PSNR and SSIM, per image.

>>> a = torch.full((1, 3, 16, 16), 0.5)
>>> psnr(a, a + 0.1).item().__round__(3)
20.0
>>> ssim(a, a).item()
1.0
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from doorward.errors import InvalidInput

__all__ = ["psnr", "ssim"]


def psnr(images: Tensor, others: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in decibels, ``-10 log10(mean squared error)``.

    Args:
        images: float (N, C, H, W) in [0, 1].
        others: the same shape.

    Returns:
        (N,) decibels; infinity where two images are equal.

    Raises:
        InvalidInput: the shapes differ or are not (N, C, H, W).
    """
    _check(images, others)
    return -10 * (images - others).square().mean((1, 2, 3)).log10()


def ssim(images: Tensor, others: Tensor, *, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity (Wang et al. 2004), mean over channels and positions.

    As in the paper: Gaussian weights, only positions where the window lies inside the image,
    constants 0.01**2 and 0.03**2 for data in [0, 1]. Images smaller than the window get the
    largest odd window that fits, a choice of ours. Differentiable.

    Args:
        images: float (N, C, H, W) in [0, 1].
        others: the same shape.
        window: side of the window in pixels, odd.
        sigma: standard deviation of the window's weights in pixels, above 0.

    Returns:
        (N,) values in [-1, 1]; 1 where two images are equal.

    Raises:
        InvalidInput: the shapes differ, or the window is not odd, or sigma is not positive.
    """
    _check(images, others)
    if window < 1 or window % 2 == 0 or sigma <= 0:
        raise InvalidInput(
            f"window {window} and sigma {sigma} are no Gaussian window",
            why="an odd side and a positive deviation are needed",
        )
    _, channels, height, width = images.shape
    side = min(window, height - 1 + height % 2, width - 1 + width % 2)
    weights = _gaussian(side, sigma, images).expand(channels, 1, side)

    def blur(x: Tensor) -> Tensor:
        rows = F.conv2d(x, weights.unsqueeze(2), groups=channels)
        return F.conv2d(rows, weights.unsqueeze(3), groups=channels)

    mean_a, mean_b = blur(images), blur(others)
    variance_a = blur(images * images) - mean_a * mean_a
    variance_b = blur(others * others) - mean_b * mean_b
    covariance = blur(images * others) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a * mean_a + mean_b * mean_b + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return (luminance * structure).mean((1, 2, 3))


def _gaussian(side: int, sigma: float, like: Tensor) -> Tensor:
    place = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    weights = torch.exp(-(place**2) / (2 * sigma**2))
    return (weights / weights.sum()).to(like)


def _check(images: Tensor, others: Tensor) -> None:
    if images.ndim != 4 or images.shape != others.shape:
        raise InvalidInput(
            f"images {tuple(images.shape)} and {tuple(others.shape)} cannot be compared",
            why="both must be (N, C, H, W) of the same shape",
        )
    if not images.dtype.is_floating_point or images.dtype != others.dtype:
        raise InvalidInput(
            f"images are {images.dtype} and {others.dtype}",
            why="both must be of one floating-point type, in [0, 1]",
        )
