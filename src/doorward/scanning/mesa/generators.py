"""A stack of tiny generator networks, from noise to patches, that run as one.

>>> stack = Generators(3, channels=1, size=2, noise=8, hidden=4)
>>> stack(stack.noise(5, torch.Generator())).shape      # 3 generators, 5 patches from each
torch.Size([3, 5, 1, 2, 2])
>>> stack.pick([2]).count
1

Every weight has a leading axis, one entry per generator, and a layer is one batched product: a
scan of all classes, sizes, levels and restarts costs the launches of a single network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from doorward.errors import InvalidInput

__all__ = ["Generators", "Norm", "Prior"]

Norm = Literal["layer", "batch"]
Prior = Literal["uniform", "normal"]

SLOPE = 0.2
MOMENTUM, EPSILON = 0.1, 1e-5
LARGEST = 2**28
"""Weights of a stack, so that a damaged description cannot ask for terabytes."""


class Generators(nn.Module):
    """MLPs with the noise fed into every layer, as in MESA.

    Qiao et al. (2019), reference code: the noise is split into four parts; three hidden layers
    and the output each see one of them beside the layer below; normalisation, then LeakyReLU(0.2);
    a sigmoid at the end. With ``norm="batch"``, ``prior="uniform"``, ``noise=64`` and
    ``hidden=512`` a stack of one is the reference's generator for CIFAR-10. Stacking is ours, and
    so is the layer norm, which needs no statistics of its own.

    Args:
        count: how many generators.
        channels: of the patches.
        size: side of the patches.
        noise: dimension of the noise, a multiple of 4.
        hidden: units of each hidden layer.
        norm: ``"layer"``, or ``"batch"`` (statistics of the batch while training, running ones in
            evaluation mode).
        prior: of the noise: uniform in [0, 1], or standard normal.
        draw: of the first weights (PyTorch's defaults for linear layers); a fixed seed if None.

    Raises:
        InvalidInput: a number is out of range.
    """

    means: Tensor
    variances: Tensor

    def __init__(
        self,
        count: int,
        *,
        channels: int,
        size: int,
        noise: int = 64,
        hidden: int = 64,
        norm: Norm = "layer",
        prior: Prior = "normal",
        draw: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        named = {"count": count, "channels": channels, "size": size, "hidden": hidden}
        for name, value in {**named, "noise": noise}.items():
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name} is {value!r}", why="a whole number from 1 is expected")
        if noise % 4:
            raise InvalidInput(f"noise is {noise}", why="a multiple of 4 is expected")
        if norm not in ("layer", "batch") or prior not in ("uniform", "normal"):
            raise InvalidInput(
                f"norm is {norm!r}, prior is {prior!r}",
                why="'layer' and 'batch', 'uniform' and 'normal' are known",
            )
        self.count, self.channels, self.size = count, channels, size
        self.noise_size, self.hidden, self.norm, self.prior = noise, hidden, norm, prior
        draw = draw if draw is not None else torch.Generator().manual_seed(0)
        part, out = noise // 4, channels * size * size
        shapes = [(part, hidden), *2 * [(hidden + part, hidden)], (hidden + part, out)]
        if count * sum(a * b for a, b in shapes) > LARGEST:
            raise InvalidInput(f"{count} generators of {shapes} weights are too large to be meant")
        self.weights = nn.ParameterList(_uniform((count, *s), s[0], draw) for s in shapes)
        self.biases = nn.ParameterList(_uniform((count, 1, s[1]), s[0], draw) for s in shapes)
        self.scales = nn.ParameterList(torch.ones(count, 1, hidden) for _ in range(3))
        self.shifts = nn.ParameterList(torch.zeros(count, 1, hidden) for _ in range(3))
        if norm == "batch":
            self.register_buffer("means", torch.zeros(3, count, 1, hidden))
            self.register_buffer("variances", torch.ones(3, count, 1, hidden))

    def options(self) -> dict[str, Any]:
        """The constructor's options that do not depend on how many there are, or of what size."""
        return {
            "noise": self.noise_size,
            "hidden": self.hidden,
            "norm": self.norm,
            "prior": self.prior,
        }

    def noise(self, count: int, draw: torch.Generator, members: int | None = None) -> Tensor:
        """Noise (members, count, noise) for `count` patches of each generator.

        Args:
            count: patches per generator.
            draw: on the CPU; the noise is brought to the weights' device.
            members: generators to draw for; all if None.
        """
        shape = (self.count if members is None else members, count, self.noise_size)
        fill = torch.rand if self.prior == "uniform" else torch.randn
        return fill(shape, generator=draw).to(self.weights[0].device)

    def forward(self, noise: Tensor, member: int | None = None) -> Tensor:
        """Patches in (0, 1).

        Args:
            noise: (M, b, noise), for each of all M generators; (1, b, noise) for one of them.
            member: that one; None for all.

        Returns:
            (M or 1, b, channels, size, size).
        """
        rows = slice(None) if member is None else slice(member, member + 1)
        parts = noise.chunk(4, dim=2)
        below = parts[0]
        for layer in range(3):
            below = torch.baddbmm(self.biases[layer][rows], below, self.weights[layer][rows])
            below = self._normalised(below, layer, rows)
            below = F.leaky_relu(below, SLOPE)
            below = torch.cat([below, parts[layer + 1]], 2)
        raw = torch.baddbmm(self.biases[3][rows], below, self.weights[3][rows])
        return raw.sigmoid().view(*noise.shape[:2], self.channels, self.size, self.size)

    def pick(self, members: Sequence[int]) -> Generators:
        """A new stack of some of these, in this order (one may be named several times)."""
        chosen = torch.tensor(list(members), device=self.weights[0].device)
        return self._made_of(
            len(chosen),
            {
                name: tensor.index_select(_axis(name), chosen)
                for name, tensor in self.state_dict().items()
            },
        )

    @staticmethod
    def join(stacks: Sequence[Generators]) -> Generators:
        """One stack of several that differ in nothing but their number of generators."""
        states = [stack.state_dict() for stack in stacks]
        return stacks[0]._made_of(
            sum(stack.count for stack in stacks),
            {name: torch.cat([s[name] for s in states], _axis(name)) for name in states[0]},
        )

    def _made_of(self, count: int, state: dict[str, Tensor]) -> Generators:
        options: Any = self.options()
        found = Generators(count, channels=self.channels, size=self.size, **options)
        found.load_state_dict(state)
        return found.to(self.weights[0].device).train(self.training)

    def _normalised(self, below: Tensor, layer: int, rows: slice) -> Tensor:
        if self.norm == "layer":
            variance, mean = torch.var_mean(below, 2, correction=0, keepdim=True)
        elif self.training:
            variance, mean = torch.var_mean(below, 1, correction=0, keepdim=True)
            with torch.no_grad():
                count = below.shape[1]
                unbiased = variance * (count / max(1, count - 1))
                self.means[layer, rows].lerp_(mean, MOMENTUM)
                self.variances[layer, rows].lerp_(unbiased, MOMENTUM)
        else:
            mean, variance = self.means[layer, rows], self.variances[layer, rows]
        standard = (below - mean) * (variance + EPSILON).rsqrt()
        moved: Tensor = standard * self.scales[layer][rows] + self.shifts[layer][rows]
        return moved


def _axis(name: str) -> int:
    """Of the generators in a tensor of the stack's state."""
    return 1 if name in ("means", "variances") else 0


def _uniform(shape: tuple[int, ...], fan_in: int, draw: torch.Generator) -> nn.Parameter:
    """PyTorch's default for linear layers: uniform within 1 / sqrt(fan in)."""
    return nn.Parameter((torch.rand(shape, generator=draw) * 2 - 1) / math.sqrt(fan_in))
