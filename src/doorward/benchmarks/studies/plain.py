"""The plain way to train, as tutorials write it; and a bare step of the network alone.

The measuring stick of the study `training-speed`: a `torch.utils.data.Dataset` whose items are
cropped, flipped and normalised one image at a time, a DataLoader, float32, contiguous tensors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from doorward.data import ImageData
from doorward.randomness import generator
from doorward.training import Recipe

__all__ = ["PlainImages", "bare_step_seconds", "plain_images_per_second"]

_WARM_UP = 2


class PlainImages(Dataset[tuple[Tensor, int]]):
    """Images transformed one at a time: random crop after padding, flip, to float, normalise.

    Args:
        source: uint8 images in memory, which spares the plain way the decoding of files.
        padding: of the crop, in pixels.
        mean: per channel, in [0, 1].
        std: per channel.
    """

    def __init__(
        self, source: ImageData, padding: int, mean: tuple[float, ...], std: tuple[float, ...]
    ) -> None:
        self.images, self.labels, self.padding = source.images, source.labels.tolist(), padding
        self.mean = torch.tensor(mean).view(-1, 1, 1)
        self.std = torch.tensor(std).view(-1, 1, 1)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, pad = self.images[index], self.padding
        height, width = image.shape[1:]
        image = F.pad(image, (pad, pad, pad, pad))
        top, left = torch.randint(0, 2 * pad + 1, (2,)).tolist()
        image = image[:, top : top + height, left : left + width]
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        return (image.float() / 255 - self.mean) / self.std, self.labels[index]


def plain_images_per_second(
    model: nn.Module,
    source: ImageData,
    recipe: Recipe,
    device: torch.device,
    *,
    workers: int,
    steps: int,
) -> float:
    """Throughput of the plain way over `steps` steps, after a warm-up that is not timed.

    The start of worker processes is not counted, and what they prefetch during the warm-up counts
    in their favour.
    """
    channels = source.image_shape[0]
    images = PlainImages(source, 4, (0.5,) * channels, (0.25,) * channels)
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        loader = DataLoader(
            images,
            batch_size=recipe.batch_size,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            pin_memory=device.type == "cuda",
        )
        model.to(device).train()
        optimizer = _sgd(model, recipe)
        batches = _endless(loader)
        begun = 0.0
        for step in range(_WARM_UP + steps):
            if step == _WARM_UP:
                begun = _clock(device)
            x, y = next(batches)
            x, y = x.to(device), y.to(device)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        seconds = _clock(device) - begun
        batches.close()  # type: ignore[attr-defined]
    return steps * recipe.batch_size / seconds


def bare_step_seconds(
    model: nn.Module,
    source: ImageData,
    recipe: Recipe,
    device: torch.device,
    *,
    precision: str,
    steps: int,
) -> float:
    """Seconds of forward, backward and optimiser on one ready batch, in the given precision."""
    rows = torch.randperm(len(source), generator=generator(recipe.seed, "bare"))
    x = source.pixels(rows[: recipe.batch_size]).to(device)
    y = source.labels[rows[: recipe.batch_size]].to(device)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    x = x.contiguous(memory_format=layout)
    model.to(device, memory_format=layout).train()  # type: ignore[call-overload]
    optimizer = _sgd(model, recipe)
    begun = 0.0
    for step in range(_WARM_UP + steps):
        if step == _WARM_UP:
            begun = _clock(device)
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            logits = model(x)
        F.cross_entropy(logits.float(), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return (_clock(device) - begun) / steps


def _sgd(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        model.parameters(),
        lr=recipe.lr / 10,  # no schedule here; a tenth of the peak is stable from the first step
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.nesterov,
    )


def _endless(loader: DataLoader[tuple[Tensor, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        yield from loader


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
