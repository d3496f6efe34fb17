"""The feature that answers lean on: how loud given spatial frequencies are in an image.

>>> feature = WaveFeature([(4, 0)], (1, 16, 16))
>>> images = torch.full((2, 1, 16, 16), 0.5)
>>> images[1] += 0.1 * wave(4, 0, 16, 16)
>>> [round(float(a), 3) for a in amplitudes(images, [(4, 0)])]
[0.0, 0.1]
>>> feature(images).shape
torch.Size([2, 1])

The magnitude of a frequency forgets its phase, so shifting an image (nearly) leaves it as it is,
and mirroring does so exactly: what a thief's augmentation spares, a thief's network can learn.
One constant matrix, a sum of squares and a logarithm: it exports to ONNX beside the model.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from doorward.data import ImageSource, to_pixels
from doorward.errors import InvalidInput
from doorward.triggers.base import check_images
from doorward.triggers.waves import wave

__all__ = ["FLOOR", "WaveFeature", "amplitudes"]

FLOOR = 0.5 / 255
"""Amplitude that is added (as squares are) before the logarithm: half a grey level, below which
8-bit images say nothing."""

_LUMA = {1: (1.0,), 3: (0.299, 0.587, 0.114)}
_LEAST_SPREAD = 0.05  # of the log amplitude: a feature that hardly varies is not worth dividing by


class WaveFeature(nn.Module):
    """Images to standardised log amplitudes ``z``, one column for each wave.

    ``z = (log sqrt(A^2 + FLOOR^2) - mean) / std`` with the amplitude A of the wave in the image's
    brightness (ITU-R 601 luma), so that an image of the owner's has z about 0, give or take 1.

    Args:
        waves: (across, down) of each, as `doorward.triggers.Waves`.
        image_shape: ``(C, H, W)`` of the images it takes, C = 1 or 3.
        mean: float ``(J,)``, of the log amplitude on the owner's images; 0 if None.
        std: float ``(J,)``, of the same; 1 if None.

    Shape:
        images (N, C, H, W) in [0, 1] -> z (N, J).

    Raises:
        InvalidInput: a wave does not fit on such images, or the numbers do not fit the waves.
    """

    basis: Tensor
    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(
        self,
        waves: Sequence[tuple[int, int]],
        image_shape: tuple[int, int, int],
        mean: Tensor | None = None,
        std: Tensor | None = None,
    ) -> None:
        super().__init__()
        channels, height, width = image_shape
        count = len(waves)
        if count < 1 or channels not in (1, 3):
            raise InvalidInput(f"{count} waves on {channels} channels", why="1 or more; 1 or 3")
        self.image_shape = (channels, height, width)
        self.register_buffer("basis", _basis(waves, height, width))
        given = [("mean", mean, 0.0), ("std", std, 1.0)]
        for name, values, default in given:
            tensor = torch.full((count,), default) if values is None else values.detach().float()
            if tensor.shape != (count,) or not bool(torch.isfinite(tensor).all()):
                raise InvalidInput(f"{name} is not one finite number for each of {count} waves")
            self.register_buffer(name, tensor.clone())
        if not bool((self.std > 0).all()):
            raise InvalidInput("a spread is not above 0", remedy="leave std out, or measure it")
        luma = torch.tensor(_LUMA[channels]).view(1, channels, 1, 1)
        self.register_buffer("luma", luma, persistent=False)

    @classmethod
    def standardised(cls, waves: Sequence[tuple[int, int]], source: ImageSource) -> WaveFeature:
        """The feature with mean and spread of a source's images.

        Raises:
            InvalidInput: a wave does not fit, or there are fewer than two images.
        """
        if len(source) < 2:
            raise InvalidInput(f"{source.name} has {len(source)} image", why="a spread needs two")
        raw = cls(waves, source.image_shape)
        rows = torch.split(torch.arange(len(source)), 1024)
        logs = torch.cat([raw(to_pixels(source.fetch(part)[0]).cpu()) for part in rows]).double()
        spread = logs.std(0).clamp_min(_LEAST_SPREAD)
        return cls(waves, source.image_shape, logs.mean(0).float(), spread.float())

    def forward(self, images: Tensor) -> Tensor:
        """Standardised log amplitudes of images."""
        brightness = (images.float() * self.luma).sum(1).flatten(1)
        parts = (brightness @ self.basis).reshape(-1, len(self.mean), 4)
        logs = 0.5 * (parts.square().sum(2) + FLOOR**2).log()
        z: Tensor = (logs - self.mean) / self.std
        return z


def amplitudes(images: Tensor, waves: Sequence[tuple[int, int]]) -> Tensor:
    """Amplitude of each wave in each image's brightness, whatever its phase.

    Args:
        images: float ``(N, C, H, W)`` in [0, 1], C = 1 or 3.
        waves: (across, down) of each.

    Returns:
        ``(N, J)``, in pixel units; an image ``x + a * wave`` of a flat x has amplitude a.

    Raises:
        InvalidInput: images are not as described, or a wave does not fit on them.
    """
    check_images(images)
    height, width = images.shape[2:]
    luma = torch.tensor(_LUMA[images.shape[1]]).to(images).view(1, -1, 1, 1)
    brightness = (images * luma).sum(1).flatten(1).float()
    parts = (brightness @ _basis(waves, height, width).to(images.device)).reshape(
        len(images), len(waves), 4
    )
    return parts.square().sum(2).sqrt()


def _basis(waves: Sequence[tuple[int, int]], height: int, width: int) -> Tensor:
    """float32 ``(H * W, 4 J)``: cosines and sines, scaled so that a wave's parts give its size."""
    columns = []
    for across, down in waves:
        if across == 0 and down == 0:
            raise InvalidInput("a wave needs a direction", why="across and down are both 0")
        shape = wave(across, down, height, width)  # refuses what does not fit
        rows = 2 * torch.pi * down * torch.arange(height, dtype=torch.float64) / height
        places = 2 * torch.pi * across * torch.arange(width, dtype=torch.float64) / width
        for vertical in (rows.cos(), rows.sin()):
            for horizontal in (places.cos(), places.sin()):
                part = vertical[:, None] * horizontal[None, :]
                columns.append(part.flatten() / shape.square().sum())
    return torch.stack(columns, dim=1).float()
