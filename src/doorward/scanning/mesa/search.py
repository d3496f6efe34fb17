"""The search: every generator of a stack fills the set of triggers that reach its level.

    plan = Plan(targets=[0, 1], sizes=[3, 3], levels=[0.9, 0.9], rules=["anywhere"] * 2)
    hunt = Hunt(model, Generators(2, channels=3, size=3))
    staircase = Staircase(plan, Places(plan, coarse_grid(3, device)), channels=3, seed=0, alpha=0.1)
    context.fit("search", hunt, staircase, clean, recipe)

The sum of all generators' losses is one objective of the one training loop; they share no weight.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from doorward.data import Batch
from doorward.models.layers import Behind
from doorward.randomness import generator
from doorward.scanning.mesa.entropy import knn_entropy
from doorward.scanning.mesa.generators import Generators
from doorward.scanning.mesa.placing import Places
from doorward.scanning.mesa.pressing import Plan, foreign_rows, press
from doorward.scanning.mesa.reference.mine import BiasCorrection, StatisticsNetwork, information

__all__ = ["Hunt", "Mine", "Multiplier", "Staircase", "active"]

WEIGHTS = (1e-4, 10.0)
"""Range of the entropy's weight, per pixel value."""


class Hunt(Behind):
    """A frozen classifier behind a stack of generators.

    Args:
        model: frozen here.
        generators: what is trained.
        mine: networks that bound the generators' entropy, trained beside them; None for the
            entropy from nearest neighbours.
    """

    def __init__(self, model: nn.Module, generators: Generators, mine: Mine | None = None) -> None:
        super().__init__(model)
        self.generators, self.mine = generators, mine


class Mine(nn.Module):
    """MINE's statistics networks, one per generator; see `doorward.scanning.mesa.reference`.

    Args:
        generators: whose entropy is bounded.
        draw: of the first weights.
    """

    def __init__(self, generators: Generators, draw: torch.Generator) -> None:
        super().__init__()
        inputs = generators.channels * generators.size**2
        self.networks = nn.ModuleList(
            StatisticsNetwork(generators.noise_size, inputs, generators.hidden, draw=draw)
            for _ in range(generators.count)
        )
        self.corrections = [BiasCorrection() for _ in self.networks]

    def bound(self, noise: Tensor, other: Tensor, points: Tensor) -> Tensor:
        """Information of noise (M, b, n) about points (M, b, d), (M,); for the generators."""
        found = []
        for m, network in enumerate(self.networks):
            fixed = {name: p.detach() for name, p in network.named_parameters()}
            joint = functional_call(network, fixed, (noise[m], points[m]))
            found.append(information(joint, functional_call(network, fixed, (other[m], points[m]))))
        return torch.stack(found)

    def loss(self, noise: Tensor, other: Tensor, points: Tensor) -> Tensor:
        """What the networks minimise; the points are given."""
        losses = [
            correct(network(noise[m], points[m]), network(other[m], points[m]))
            for m, (network, correct) in enumerate(
                zip(self.networks, self.corrections, strict=True)
            )
        ]
        return torch.stack(losses).sum()


class Staircase:
    """Reach the level, then be as spread out as the level allows.

    Minimised for each generator G with class c and level beta:
    ``mean max(0, log beta - log P_c(stamped)) - alpha * h(G) / pixels``. Qiao et al. (2019) have
    the hinge of the probability itself: the same sets, but without a gradient where the class is
    still unlikely. alpha, there a constant, is the multiplier of the constraint
    ``share of P_c >= beta at least valid``, found by dual ascent; h, there a bound from a second
    network, is the entropy from nearest neighbours. Images of class c itself are never stamped.

    Args:
        plan: what the generators are to find.
        places: where fixed triggers go; learnt meanwhile.
        channels: of the patches.
        seed: of noise and places.
        images: b, stamped images per generator and step; 2 at least.
        batch_size: stamped images per pass through the classifier.
        alpha: first weight of the entropy; 0 for none at all.
        valid: share of the stamped images that shall reach the level.
        rate: of the dual ascent, per step; 0 keeps `alpha`.
        jitter: deviation of normal noise on the patches, so that no single shade matters.
    """

    def __init__(
        self,
        plan: Plan,
        places: Places,
        *,
        channels: int,
        seed: int,
        images: int = 16,
        batch_size: int = 256,
        alpha: float = 0.0,
        valid: float = 0.95,
        rate: float = 0.1,
        jitter: float = 0.0,
    ) -> None:
        self.plan, self.places, self.seed = plan, places, seed
        self.images, self.batch_size, self.jitter = images, batch_size, jitter
        device = places.loss.device
        self.targets = torch.tensor(plan.targets, device=device)
        self.levels = torch.tensor(plan.levels, device=device)[:, None]
        self.pixels = channels * torch.tensor(plan.sizes, device=device).square()
        self.multiplier = Multiplier(len(plan), device, alpha, valid, rate)

    def __call__(
        self, model: nn.Module, batch: Batch
    ) -> tuple[Tensor, Mapping[str, Tensor | float]]:
        """The sum of the generators' losses: they share no weight, so none disturbs another."""
        hunt = cast(Hunt, model)
        device = batch.images.device
        draw = generator(self.seed, batch.step)
        noise = hunt.generators.noise(self.images, draw)
        with torch.autocast(device.type, enabled=False):
            patches = hunt.generators(noise)
            spread, aside = self._spread(hunt, noise, patches, draw)
        rows, usable = foreign_rows(batch.labels, self.targets, self.images, draw)
        height, width = batch.images.shape[2:]
        corners, number, trying = self.places.draw(self.images, (height, width), draw)
        shown = patches.detach()
        if self.jitter:
            shades = torch.randn(shown.shape, generator=draw).to(device)
            shown = (shown + self.jitter * shades).clamp(0, 1)
        done = press(
            hunt.model,
            batch.images,
            shown,
            rows,
            corners,
            self.plan,
            batch_size=self.batch_size,
            slope=True,
        )
        self.places.learn(number, done.hinge)
        counted = (~trying).float() / (~trying).sum(1, keepdim=True).clamp_min(1)
        share = counted * usable[:, None]
        hinge = (done.hinge * share).sum(1)
        # The classifier's gradient is known already; this passes it on to the generators.
        pull = (patches * done.slope * share[..., None, None, None]).sum()
        loss = hinge.sum() - (self.multiplier.alpha * spread).sum() + pull - pull.detach() + aside
        self.multiplier.learn(((done.chance >= self.levels) * counted).sum(1))
        return loss, {"hinge": hinge.mean(), "hit": done.hit.float().mean()}

    def _spread(
        self, hunt: Hunt, noise: Tensor, patches: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Entropy per pixel value (M,), and what the estimator's own networks minimise."""
        nothing = torch.zeros((), device=patches.device)
        if not self.multiplier.on:
            return torch.zeros_like(self.multiplier.alpha), nothing
        points = active(patches, self.plan.sizes).flatten(2)
        if hunt.mine is None:
            return knn_entropy(points, dimensions=self.pixels) / self.pixels, nothing
        other = hunt.generators.noise(self.images, draw)
        bound = hunt.mine.bound(noise, other, points) / self.pixels
        return bound, hunt.mine.loss(noise, other, points.detach())


class Multiplier:
    """The weight of the entropy, raised where the constraint has slack, lowered where it fails.

    Args:
        count: generators M.
        device: of all tensors.
        alpha: first weight; 0 for no entropy at all.
        valid: share of stamped images that shall reach the level, in (0, 1).
        rate: largest change of the logarithm per step.
    """

    def __init__(
        self, count: int, device: torch.device, alpha: float, valid: float, rate: float
    ) -> None:
        self.alpha = torch.full((count,), alpha, device=device)
        self.reached = torch.zeros(count, device=device)
        self.valid, self.rate, self.on = valid, rate, alpha > 0

    def learn(self, reached: Tensor) -> None:
        """Note the share of this step's images that reached the level, (M,)."""
        self.reached = self.reached.lerp(reached, 0.2)
        slack = self.reached - self.valid
        slack = torch.where(slack > 0, slack / (1 - self.valid), slack / self.valid)
        if self.on:
            self.alpha = (self.alpha * (self.rate * slack).exp()).clamp(*WEIGHTS)


def active(patches: Tensor, sizes: list[int]) -> Tensor:
    """Patches (M, b, C, S, S) with zeros beyond each generator's own size."""
    side = torch.arange(patches.shape[3], device=patches.device)
    inside = side < torch.tensor(sizes, device=patches.device)[:, None]  # (M, S)
    return patches * (inside[:, None, None, :, None] & inside[:, None, None, None, :])
