"""A sub-model of MESA's staircase: a generator whose triggers reach one level for one class.

    generator = fit_submodel(model, clean, context, Constants(), target=3, level=0.9)

Two networks are trained in turns by the one training loop: the generator on even steps, the
statistics network on odd ones. Adam leaves out whatever has no gradient, moments, step count and
all, so that one Adam over both is the reference code's two.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import Tensor, nn

from doorward.data import Batch, ImageData
from doorward.models.layers import Behind
from doorward.randomness import generator as seeded
from doorward.scanning.mesa.generators import Generators
from doorward.scanning.mesa.reference.constants import Constants, offsets
from doorward.scanning.mesa.reference.mine import BiasCorrection, StatisticsNetwork, information
from doorward.scanning.mesa.stamping import paste
from doorward.training import Recipe
from doorward.training.context import Context

__all__ = ["SubModel", "Turns", "capped", "fit_submodel"]


class SubModel(Behind):
    """A generator and its statistics network before the frozen model under suspicion.

    Args:
        model: the suspect; frozen here.
        constants: `size`, `noise_size`, `hidden`, `prior` and `leaky_output` are read.
        channels: of the patches.
        draw: of the first weights.
    """

    def __init__(
        self, model: nn.Module, constants: Constants, channels: int, draw: torch.Generator
    ) -> None:
        super().__init__(model)
        size, noise, hidden = constants.size, constants.noise_size, constants.hidden
        self.generator = Generators(
            1,
            channels=channels,
            size=size,
            noise=noise,
            hidden=hidden,
            norm="batch",
            prior=constants.prior,
            draw=draw,
        )
        self.statistics = StatisticsNetwork(
            noise, channels * size * size, hidden, draw=draw, leaky_output=constants.leaky_output
        )

    def noise(self, count: int, draw: torch.Generator) -> Tensor:
        """Noise (count, noise) for as many patches, on the device."""
        return self.generator.noise(count, draw)[0]

    def patches(self, noise: Tensor) -> Tensor:
        """Patches (N, C, s, s) in (0, 1), in fp32 under any autocast."""
        with torch.autocast(noise.device.type, enabled=False):
            made: Tensor = self.generator(noise[None])[0]
            return made


def capped(probabilities: Tensor, level: float, hinge: str, counted: Tensor) -> Tensor:
    """What the generator gains: success up to the level, ``level`` minus the hinge loss.

    ``min(p, level) = level - max(0, level - p)``, averaged over images (``hinge="sample"``) or
    taken of the average (``"mean"``).

    Args:
        probabilities: of the target class, (N,).
        level: in (0, 1].
        hinge: ``"sample"`` or ``"mean"``.
        counted: bool (N,), the images that count; if there are none, the gain is 0.

    >>> p, everyone = torch.tensor([0.25, 1.0]), torch.tensor([True, True])
    >>> capped(p, 0.5, "sample", everyone).item(), capped(p, 0.5, "mean", everyone).item()
    (0.375, 0.5)
    """
    share = counted.to(probabilities.dtype) / counted.sum().clamp_min(1)
    if hinge == "sample":
        return (probabilities.clamp_max(level) * share).sum()
    return (probabilities * share).sum().clamp_max(level)


class Turns:
    """The reference code's iteration as an objective: even steps train G, odd ones T.

    Args:
        constants: all switches.
        target: the class that triggers shall lead to.
        level: beta, the success that is asked of them.
        seed: of noise and places.

    Attributes:
        correction: the statistics network's running mean.
    """

    def __init__(self, constants: Constants, *, target: int, level: float, seed: int) -> None:
        self.constants, self.target, self.level, self.seed = constants, target, level, seed
        self.correction = BiasCorrection()

    def __call__(self, model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of whoever's turn it is; the other one gets no gradient at all."""
        pair, draw = cast(SubModel, model), seeded(self.seed, "turn", batch.step)
        turn = self._generator if batch.step % 2 == 0 else self._statistics
        return turn(pair, batch, draw)

    def _generator(
        self, pair: SubModel, batch: Batch, draw: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        noise, other = pair.noise(len(batch), draw), pair.noise(len(batch), draw)
        patches = pair.patches(noise)
        noisy = self._noisy(patches, draw)
        rows, columns = offsets(self.constants, batch.images, draw)
        logits = pair(paste(batch.images, noisy, rows, columns)).float()
        others = batch.labels != self.target
        counted = torch.ones_like(others) if self.constants.include_target else others
        probabilities = logits.softmax(1)[:, self.target]
        gain = capped(probabilities, self.level, self.constants.hinge, counted)
        seen = noisy if self.constants.noisy_statistics else patches
        with _fixed(pair.statistics):
            estimate = information(pair.statistics(noise, seen), pair.statistics(other, seen))
        hits = (logits.detach().argmax(1) == self.target) & others
        return -gain - self.constants.alpha * estimate, {
            "gain": gain.detach(),
            "information": estimate.detach(),
            "success": hits.sum() / others.sum().clamp_min(1),
        }

    def _statistics(
        self, pair: SubModel, batch: Batch, draw: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        noise, other = pair.noise(len(batch), draw), pair.noise(len(batch), draw)
        with torch.no_grad():
            patches = pair.patches(noise)
            if self.constants.noisy_statistics:
                patches = self._noisy(patches, draw)
        joint, marginal = pair.statistics(noise, patches), pair.statistics(other, patches)
        return self.correction(joint, marginal), {}

    def _noisy(self, patches: Tensor, draw: torch.Generator) -> Tensor:
        shift = torch.randn(patches.shape, generator=draw).to(patches.device)
        noisy = patches + self.constants.trigger_noise * shift
        return noisy.clamp(0, 1) if self.constants.clamp else noisy


def fit_submodel(
    model: nn.Module,
    clean: ImageData,
    context: Context,
    constants: Constants,
    *,
    target: int,
    level: float,
) -> Generators:
    """Fit one generator of the staircase.

    Args:
        model: the suspect, on the context's device; frozen by this.
        clean: images to stamp. With fewer than a batch of them, batches are smaller.
        context: device, seeds and history.
        constants: of the fit.
        target: the class.
        level: beta, in (0, 1].

    Returns:
        A stack of one generator, in evaluation mode, on the context's device.

    Qiao et al. (2019), reference code, iteration by iteration. A turn of the statistics network
    takes a batch from the shuffled images, too, and leaves it unused, so that a pass over them
    gives each network half the batches; the code gives the generator all of them, and makes half
    as many passes.
    """
    name = (target, f"{level:g}")
    draw = context.generator("sub-model", *name)
    pair = SubModel(model, constants, clean.image_shape[0], draw).to(context.device)
    size = min(constants.batch_size, len(clean))
    steps = 2 * constants.iterations
    recipe = Recipe(
        epochs=float(math.ceil(steps / (len(clean) // size))),
        max_steps=steps,
        batch_size=size,
        drop_last=True,
        optimizer="adam",
        lr=constants.lr,
        betas=constants.betas,
        schedule="constant",
        divergence=1e9,  # the losses of two networks in turns say nothing about divergence
        seed=context.seed_of("turns", *name),
    )
    turns = Turns(constants, target=target, level=level, seed=context.seed_of("draws", *name))
    context.fit(f"class {target}, level {level:g}", pair, turns, clean, recipe)
    return pair.generator.requires_grad_(False).eval()


@contextmanager
def _fixed(module: nn.Module) -> Iterator[None]:
    """Let gradients pass through a module without reaching its parameters."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
