"""A frozen model whose BatchNorm layers are disturbed a little, by shares that are trained.

noisy = NoisyNorms(model, bound=0.3, draw=torch.Generator())
logits = noisy(images)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from doorward.models.layers import Behind

__all__ = ["NoisyNorms", "norms_of"]


class NoisyNorms(Behind):
    """A frozen model whose BatchNorm scales and shifts are changed by trainable shares.

    ``scale * (1 + a)`` and ``shift * (1 + b)``, with a and b per channel in [-bound, bound].

    Args:
        model: frozen here.
        bound: of the shares.
        draw: of the first ones, uniform within the bound.
    """

    def __init__(self, model: nn.Module, bound: float, draw: torch.Generator) -> None:
        super().__init__(model)
        self.bound, self.norms = bound, norms_of(model)
        shares = []
        for name in self.norms:
            own = model.get_parameter(name)
            first = (2 * torch.rand(own.shape, generator=draw) - 1) * bound
            shares.append(nn.Parameter(first.to(own.device)))
        self.shares = nn.ParameterList(shares)

    def forward(self, images: Tensor) -> Tensor:
        """The noisy model's logits."""
        changed = {
            name: self.model.get_parameter(name) * (1 + share)
            for name, share in zip(self.norms, self.shares, strict=True)
        }
        logits: Tensor = functional_call(self.model, changed, (images,))
        return logits

    @torch.no_grad()
    def clamp(self) -> None:
        """Back within the bound."""
        for share in self.shares:
            share.clamp_(-self.bound, self.bound)


def norms_of(model: nn.Module) -> list[str]:
    """Names of all scales and shifts of BatchNorm layers."""
    return [
        f"{name}.{part}" if name else part
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and module.affine
        for part in ("weight", "bias")
    ]
