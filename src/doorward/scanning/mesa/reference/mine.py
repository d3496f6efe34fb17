"""MINE, the neural estimate of mutual information that keeps MESA's generators spread out.

>>> joint, marginal = torch.tensor([1.0, 3.0]), torch.zeros(2)
>>> float(information(joint, marginal))
2.0
>>> loss = BiasCorrection()(joint, marginal)            # what the statistics network minimises
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.scanning.mesa.generators import SLOPE

__all__ = ["BiasCorrection", "StatisticsNetwork", "information"]

GUARD = 1e-8
"""Added within the logarithm, as in the reference code."""


class StatisticsNetwork(nn.Module):
    """T: one number for a pair of noise and patch, large for pairs that belong together.

    Qiao et al. (2019), reference code: a sum of two linear maps, two fully connected layers,
    LeakyReLU(0.2) after each of them, the last included. Weights begin as PyTorch's linear layers
    do.

    Args:
        noise: its dimension.
        inputs: numbers in a patch.
        hidden: units.
        draw: of the first weights.
        leaky_output: LeakyReLU on the answer, too.
    """

    def __init__(
        self,
        noise: int,
        inputs: int,
        hidden: int,
        *,
        draw: torch.Generator,
        leaky_output: bool = True,
    ) -> None:
        super().__init__()
        self.leaky_output = leaky_output
        with torch.random.fork_rng([]):  # what layers draw for themselves is drawn again below
            self.of_noise = nn.Linear(noise, hidden, bias=False)
            self.of_patch = nn.Linear(inputs, hidden, bias=False)
            self.middle, self.last = nn.Linear(hidden, hidden), nn.Linear(hidden, 1)
        self.bias = nn.Parameter(torch.zeros(hidden))
        with torch.no_grad():
            for layer in (self.of_noise, self.of_patch, self.middle, self.last):
                bound = 1 / math.sqrt(layer.in_features)
                for parameter in layer.parameters():
                    parameter.uniform_(-bound, bound, generator=draw)

    def forward(self, noise: Tensor, patches: Tensor) -> Tensor:
        """Noise (N, noise) and patches (N, ...) to numbers (N,), in fp32 under any autocast."""
        with torch.autocast(noise.device.type, enabled=False):
            both = self.of_noise(noise) + self.of_patch(patches.float().flatten(1)) + self.bias
            hidden = F.leaky_relu(self.middle(F.leaky_relu(both, SLOPE)), SLOPE)
            answer: Tensor = self.last(hidden).squeeze(1)
            return F.leaky_relu(answer, SLOPE) if self.leaky_output else answer


def information(joint: Tensor, marginal: Tensor) -> Tensor:
    """The Donsker-Varadhan bound: ``mean T(z, x) - log(mean exp T(z', x) + 1e-8)``, in nats.

    Belghazi et al. (2018), MINE; a lower bound on the mutual information of z and x.

    Args:
        joint: T of pairs that belong together, (N,).
        marginal: T of the same patches with independent noise, (N,).
    """
    return joint.mean() - (marginal.exp().mean() + GUARD).log()


class BiasCorrection:
    """MINE's loss with the gradient whose bias a running mean takes away.

    The slope of ``log mean exp T`` divides by the mean over this batch; MINE divides by a mean over
    all batches so far instead (Belghazi et al. 2018, section 3.2).

    Args:
        rate: of the running mean, which begins at the first batch's value.

    Attributes:
        mean: the running mean of ``mean exp T(z', x)``; None before the first batch.
    """

    def __init__(self, rate: float = 0.001) -> None:
        self.rate = rate
        self.mean: Tensor | None = None

    def __call__(self, joint: Tensor, marginal: Tensor) -> Tensor:
        """What the statistics network minimises; moves the running mean (arguments as above)."""
        exponential = marginal.exp().mean()
        now = exponential.detach()
        self.mean = now if self.mean is None else self.mean + self.rate * (now - self.mean)
        return (exponential + GUARD).log() * (now / self.mean) - joint.mean()
