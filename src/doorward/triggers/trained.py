"""The base of triggers that are small convolutional networks: what they all need, done once.

A subclass builds its network in `_seeded` and computes a change of the images with it:

>>> class Faint(TrainedTrigger):
...     def __init__(self):
...         super().__init__(channels=3)
...         with self._seeded(0, "faint"):
...             self.network = nn.Conv2d(3, 3, 3, padding=1)
...     def config(self): return {}
...     def change(self, images): return 0.1 * self.network(images)
>>> Faint()(torch.rand(2, 1, 8, 8)).shape      # grey images pass through a colour network
torch.Size([2, 1, 8, 8])

The weights live in `state_dict`; a trigger built from its configuration alone has random ones,
drawn from its seed, until they are trained or loaded.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.randomness import derive_seed
from doorward.triggers.base import Trigger, as_channels

__all__ = ["TrainedTrigger"]


class TrainedTrigger(Trigger):
    """A trigger whose change of an image is computed by a network.

    The network sees float32 images, whatever is asked of the trigger, so that one trigger gives
    the same pictures in every precision. Where images have other channels than the network,
    it sees their grey (or repeated) version, and its change is converted back.

    Args:
        channels: that the network takes, 1 or 3.

    Raises:
        InvalidInput: the network cannot take this number of channels.
    """

    def __init__(self, *, channels: int) -> None:
        super().__init__()
        if channels not in (1, 3) or isinstance(channels, bool):
            raise InvalidInput(f"channels is {channels!r}", why="1 or 3 are possible")
        self.channels = channels

    @abstractmethod
    def change(self, images: Tensor) -> Tensor:
        """What is added to float32 images ``(N, self.channels, H, W)``, of the same shape."""

    def apply(self, images: Tensor) -> Tensor:  # type: ignore[override]
        """Add the network's change."""
        if not len(images):
            return images.clone()
        with torch.autocast(images.device.type, enabled=False):
            change = self.change(self.fitting(images))
        return images + converted(change, images.shape[1]).to(images.dtype)

    def fitting(self, images: Tensor) -> Tensor:
        """The images as the network takes them."""
        return converted(images.float(), self.channels)

    @contextmanager
    def _seeded(self, seed: int, purpose: str) -> Iterator[None]:
        """Layers made inside draw their weights from `seed`, and are frozen at the end."""
        with torch.random.fork_rng([]):  # layers draw from the global generator
            torch.manual_seed(derive_seed(seed, purpose))
            yield
        self.requires_grad_(False)


def converted(images: Tensor, channels: int) -> Tensor:
    """A batch with 1 or 3 channels, as `as_channels` makes them.

    >>> converted(torch.ones(2, 1, 4, 4), 3).shape
    torch.Size([2, 3, 4, 4])
    """
    if images.shape[1] == channels:
        return images
    flat = images.transpose(0, 1).flatten(1, 2)  # (C, N H, W): one tall picture
    fitted = as_channels(flat, channels)
    return fitted.view(channels, len(images), *images.shape[2:]).transpose(0, 1)


def normalised(images: Tensor) -> Tensor:
    """Each channel of each image at mean 0 and deviation 1 (instance normalisation).

    Our own because `torch.nn.InstanceNorm2d` refuses a single pixel.

    >>> normalised(torch.tensor([[[[1.0, 3.0]]]])).round(decimals=3)
    tensor([[[[-1.,  1.]]]])
    """
    deviation, mean = torch.std_mean(images, (2, 3), correction=0, keepdim=True)
    return (images - mean) / (deviation + 1e-5)


def activated(*layers: nn.Module) -> nn.Sequential:
    """The layers with a leaky ReLU after each."""
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU(0.2))))
