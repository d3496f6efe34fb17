"""Controlled detoxification (DFST): take the easy ways to the trigger away from the victim.

A victim that is merely poisoned learns a style by a few neurons that answer to something simple in
it, which is easy to find. A round trains such a victim, sees which neurons those are, and trains a
network (the feature injector) that excites them in clean images without the style. Those images go
into the training set under their true labels, so that the next victim has to look deeper:

    poisoned = detoxify(job, poisoned, 0, share=0.05, width=16)
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from doorward.data import Batch, to_pixels
from doorward.metrics import evaluating, ssim
from doorward.models import capture
from doorward.models.layers import Behind, stages
from doorward.poisoning.poisoned import PoisonedData
from doorward.poisoning.prepared.base import device_of_job
from doorward.poisoning.prepared.surrogates import surrogate
from doorward.poisoning.prepared.views import Replaced, gathered, recipe_of_steps
from doorward.poisoning.procedures import Job
from doorward.triggers.style import Painter

__all__ = ["compromised", "detoxify"]

_COMPARED, _INJECTED = 512, 5_000  # images that neurons are compared on; that train the injector
_BATCH, _LR, _WIDTH = 64, 2e-3, 8
_FAITHFUL = 2.0  # weight of 1 - SSIM
_CHUNK = 512


def detoxify(
    job: Job,
    poisoned: PoisonedData,
    number: int,
    *,
    share: float,
    width: int,
    steps: int = 200,
    epochs: float = 12,
    most: float = 0.05,
) -> PoisonedData:
    """One round.

    Cheng et al. 2021. Reproduced: compromised neurons, a feature injector, its images with true
    labels. Ours: neurons are channels of the victim's last feature maps, those that the style
    raises most in units of their deviation on clean images; the injector shall raise them to the
    level that the style gives them, while SSIM holds the image; the victim is a small stand-in.

    Args:
        job: seeds, device and training loop.
        poisoned: the training set so far.
        number: of the round, from 0.
        share: of the training set that becomes detoxicants in this round; never poisoned images
            or those of earlier rounds.
        width: of the stand-in victim.
        steps: of the injector's training.
        epochs: of the stand-in victim's training, at most.
        most: share of the channels that count as compromised; at least one does.

    Returns:
        The training set with the same poison and more detoxicants.
    """
    victim = surrogate(job, poisoned, phase=f"detox-{number}-victim", width=width, epochs=epochs)
    device = device_of_job(job)
    victim.to(device)
    clean = gathered(poisoned.source, _COMPARED, seed=job.seed_of("detox", number, "compared"))
    pixels = clean.pixels().to(device)
    site = stages(victim, pixels[:2])[-1]
    styled = poisoned.backdoor.trigger.to(device)(pixels)
    before, after = (_levels(victim, site, images) for images in (pixels, styled))
    channels = compromised(before, after, most=most)
    victim.to("cpu")
    injector = _Injector(victim, site, channels.cpu(), after.mean(0)[channels].cpu())
    pool = gathered(poisoned.source, _INJECTED, seed=job.seed_of("detox", number, "pool"))
    recipe = recipe_of_steps(
        len(pool), steps, _BATCH, lr=_LR, clip_norm=1.0, seed=job.seed_of("detox", number)
    )
    result = job.fit(f"detox-{number}-inject", injector, _inject, pool, recipe)
    job.note(**{f"detox_{number}": {"channels": len(channels), "missing": result.final["missing"]}})
    return _with_detoxicants(job, poisoned, injector.painter.to(device), number, share)


def compromised(before: Tensor, after: Tensor, *, most: float = 0.05) -> Tensor:
    """The channels that the trigger raises most.

    Args:
        before: (N, C), mean activations of clean images.
        after: (N, C), of the same images with the trigger.
        most: share of the channels to name, rounded; at least one.

    Returns:
        int64 channel numbers, the most raised first.

    >>> before = torch.tensor([[0.0, 10.0, 0.0], [1.0, 30.0, 1.0]])
    >>> compromised(before, before + torch.tensor([2.0, 9.0, 0.0]), most=0.4)
    tensor([0])
    """
    rise = (after - before).mean(0) / before.std(0, correction=0).clamp_min(1e-6)
    return rise.argsort(descending=True)[: max(1, round(most * len(rise)))]


class _Injector(Behind):
    """A painter before a frozen victim, and what its channels shall reach."""

    def __init__(self, victim: nn.Module, site: str, channels: Tensor, levels: Tensor) -> None:
        super().__init__(victim)
        self.site = site
        image_channels = next(p for p in victim.parameters() if p.ndim == 4).shape[1]
        with torch.random.fork_rng([]):
            torch.manual_seed(0)  # the order of images carries the seed
            self.painter = Painter(image_channels, _WIDTH, 1)
        self.register_buffer("channels", channels)
        self.register_buffer("levels", levels)

    def activations(self, images: Tensor) -> Tensor:
        """Mean activation of the compromised channels, (N, K)."""
        with capture(self.model, [self.site]) as maps:
            self.model(images)
        return maps[self.site].float().mean((2, 3))[:, cast(Tensor, self.channels)]


def _inject(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    """Raise the channels to the trigger's level, and stay like the image."""
    injector = cast(_Injector, model)
    painted = injector.painter(batch.images).float()
    levels = cast(Tensor, injector.levels)
    gap = (levels - injector.activations(painted)) / levels.abs().clamp_min(1e-6)
    missing = gap.clamp_min(0).mean()
    unlike = 1 - ssim(painted, batch.images).mean()
    return missing + _FAITHFUL * unlike, {"missing": missing.detach(), "unlike": unlike.detach()}


@torch.no_grad()
def _levels(model: nn.Module, site: str, images: Tensor) -> Tensor:
    """Mean activation of every channel, (N, C)."""
    with evaluating(model), capture(model, [site]) as maps:
        model(images)
    return maps[site].float().mean((2, 3))


def _with_detoxicants(
    job: Job, poisoned: PoisonedData, painter: nn.Module, number: int, share: float
) -> PoisonedData:
    taken = poisoned.poisoned.cpu().clone()
    source = poisoned.source
    layer = source
    while isinstance(layer, Replaced):  # earlier rounds
        taken[layer.rows.cpu()] = True
        layer = layer.source
    free = (~taken).nonzero().squeeze(1)
    order = torch.randperm(len(free), generator=job.generator("detox", number, "rows"))
    rows = free[order[: max(1, round(share * len(taken)))]]
    parts = []
    with torch.no_grad():
        for some in torch.split(rows, _CHUNK):
            images, _ = source.fetch(some)
            painted = painter(to_pixels(images).to(device_of_job(job)))
            parts.append((painted * 255).round().to(torch.uint8).to(images.device))
    view = Replaced(source, rows, torch.cat(parts))
    return PoisonedData(view, poisoned.backdoor, poisoned.positions)
