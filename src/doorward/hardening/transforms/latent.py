"""Changes of style: channel statistics inside an encoder-decoder, after Feature Space Attack.

>>> from doorward.hardening.transforms import Pervasive
>>> coder = Coder(1, width=4, draw=torch.Generator().manual_seed(0))     # `train_coder` trains one
>>> change = Pervasive(2, (1, 8, 8), Space(families=("latent",)), coder=coder)
>>> x = torch.rand(3, 1, 8, 8)
>>> float((change(x) - x).detach().abs().max()) < 1e-6
True
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.data import Batch, ImageData
from doorward.errors import InvalidInput
from doorward.hardening.transforms.base import bounded, folded, pick
from doorward.hardening.transforms.space import FAMILIES, Part, Space, deviation
from doorward.models.layers import Behind
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["Coder", "Latent", "train_coder"]

RECIPE = Recipe(epochs=20, batch_size=64, optimizer="adam", lr=3e-3, schedule="cosine")


class Coder(nn.Module):
    """A small encoder-decoder of images, one halving deep.

    Args:
        channels: of the images.
        width: channels at full resolution; twice as many in the middle.
        draw: of the initial weights (He et al. 2015).
    """

    def __init__(self, channels: int, *, width: int = 16, draw: torch.Generator) -> None:
        super().__init__()
        self.channels, self.features = channels, 2 * width

        def conv(inputs: int, outputs: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")

        with torch.random.fork_rng([]):  # what layers draw for themselves is drawn again below
            self.enter, self.down = conv(channels, width), conv(width, 2 * width)
            self.up, self.leave = conv(2 * width, width), conv(width, channels)
        for layer in (self.enter, self.down, self.up, self.leave):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=draw)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) as feature maps (N, F, ceil(H / 2), ceil(W / 2))."""
        fine = F.relu(self.enter(images))
        maps: Tensor = F.relu(self.down(F.avg_pool2d(fine, 2, ceil_mode=True)))
        return maps

    def decode(self, maps: Tensor, size: tuple[int, int]) -> Tensor:
        """Feature maps as images (N, C, *size), not clipped."""
        wide = F.interpolate(F.relu(self.up(maps)), size, mode="nearest")
        images: Tensor = self.leave(wide)
        return images


@FAMILIES.register("latent", expresses="style transfer (DFST), filters, tones that depend on place")
class Latent(Part):
    """Bounded factors on the mean and the deviation of every channel of the encoded image.

    The layer of Feature Space Attack (Xu et al. 2021): ``z' = (z - mu) e^a + mu e^b`` per channel,
    with mu over the places of an image. Theirs is per image and pre-trained on ImageNet; here
    a and b in [-ln p, ln p] are shared by all images of a row, and the encoder-decoder is trained
    on the defender's own images. Decoded is the difference, ``x + D(z') - D(z)``, so that no change
    of the statistics is no change of the image, however roughly the decoder draws.
    """

    def __init__(
        self,
        rows: int,
        image_shape: tuple[int, int, int],
        space: Space,
        coder: Coder | None = None,
    ) -> None:
        super().__init__(rows, image_shape, space, coder)
        if coder is None or coder.channels != image_shape[0]:
            raise InvalidInput(
                "the latent family has no encoder-decoder for these images",
                why="it changes images through one",
                remedy="train one with doorward.hardening.train_coder, and pass it as coder",
            )
        self.coder = coder.requires_grad_(False).eval()
        self.bound = math.log(space.latent_factor)
        self.spread = nn.Parameter(torch.zeros(rows, coder.features))
        self.level = nn.Parameter(torch.zeros(rows, coder.features))

    def forward(self, images: Tensor, rows: Tensor | None) -> Tensor:
        """The images plus what the decoder makes of the changed statistics."""
        count, batch = images.shape[:2]
        size = (images.shape[3], images.shape[4])
        # The same images in every row, as `expand` leaves them, are encoded once.
        source = images[:1] if images.stride(0) == 0 else images
        maps = self.coder.encode(source.flatten(0, 1))
        plain = folded(self.coder.decode(maps, size), *source.shape[:2])
        z = folded(maps, *source.shape[:2])
        centre = z.mean((3, 4), keepdim=True)
        wide = (count, 1, -1, 1, 1)
        spread = torch.expm1(bounded(pick(self.spread, rows), self.bound)).view(wide)
        level = torch.expm1(bounded(pick(self.level, rows), self.bound)).view(wide)
        moved = z + (z - centre) * spread + centre * level
        styled = folded(self.coder.decode(moved.flatten(0, 1), size), count, batch)
        return images + (styled - plain)

    def sizes(self, rows: Tensor | None) -> Tensor:
        """Logarithms of the factors as shares of their bound."""
        return deviation(
            (bounded(pick(self.spread, rows), self.bound), self.bound),
            (bounded(pick(self.level, rows), self.bound), self.bound),
        )


class _Trained(Behind):
    """A coder in training. The loop wants a classifier; the coder is what it trains."""

    def __init__(self, model: nn.Module, coder: Coder) -> None:
        super().__init__(model)
        self.coder = coder


def train_coder(
    model: nn.Module,
    clean: ImageData,
    context: Context,
    *,
    width: int = 16,
    recipe: Recipe = RECIPE,
) -> Coder:
    """Train an encoder-decoder on the defender's images.

    It learns to give images back, and to draw what it is asked for: features with the statistics
    of another image of the batch, decoded and encoded again, must come back (Huang and Belongie
    2017). Xu et al. train only the decoder, against a network trained on ImageNet.

    Args:
        model: the classifier, frozen by this; it takes no part.
        clean: images in memory.
        context: device, seeds and history.
        width: see `Coder`.
        recipe: of the training; its seed is the context's.

    Returns:
        The coder, frozen, on the context's device.
    """
    import dataclasses

    draw = context.generator("coder")
    coder = Coder(clean.image_shape[0], width=width, draw=draw).to(context.device)
    seeded = dataclasses.replace(recipe, seed=context.seed_of("train coder"))
    context.fit("train coder", _Trained(model, coder), _redraw, clean, seeded)
    return coder.requires_grad_(False).eval()


def _redraw(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Mean squared error of the images, and of features with another image's statistics."""
    coder: Coder = model.coder  # type: ignore[assignment]
    size = (batch.images.shape[2], batch.images.shape[3])
    z = coder.encode(batch.images)
    same = F.mse_loss(coder.decode(z, size).float(), batch.images)
    centre, spread = z.mean((2, 3), keepdim=True), z.std((2, 3), keepdim=True) + 1e-5
    wanted = (z - centre) / spread * spread.roll(1, 0) + centre.roll(1, 0)
    wanted = wanted.detach()
    back = coder.encode(coder.decode(wanted, size))
    style = F.mse_loss(back.float(), wanted.float()) / wanted.float().var().clamp_min(1e-6)
    return same + 0.1 * style, {"reconstruction": same.detach(), "style": style.detach()}
