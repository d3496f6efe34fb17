"""Channel Lipschitzness pruning: backdoor channels amplify more than their neighbours do.

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(4, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=16)
>>> with torch.no_grad():
...     _ = model.body.stage1[0].conv1[0].weight[5].mul_(20)
>>> pruned, result = LipschitzPruning()(model, digits)
>>> result.details["pruned_neurons"]["body.stage1.0.conv1.0"]
[5]
"""

from __future__ import annotations

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from doorward.data import ImageData
from doorward.models.layers import followers, none_found
from doorward.records import STRICT
from doorward.removal.base import Removal, file_removal
from doorward.removal.tuning import NonNegative
from doorward.training.context import Context

__all__ = ["LipschitzPruning", "lipschitz"]


@file_removal(
    "clp",
    paper="Zheng et al. 2022, Data-free Backdoor Removal based on Channel Lipschitzness",
    needs="convolutions",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class LipschitzPruning(Removal):
    """Prune convolution channels whose Lipschitz bound stands out from their layer's (CLP).

    A channel's bound is the largest singular value of its kernel, as a matrix (inputs, positions),
    times ``|scale| / deviation`` of the BatchNorm that follows it. Channels above mean plus `u`
    standard deviations of their layer lose weight and bias of that BatchNorm (or, without one, of
    the convolution).

    Args:
        u: how many standard deviations.

    As in the authors' code, with ``u=3``. It looks at no image: one is passed through the model
    only to see which BatchNorm follows which convolution. Of n channels none can stand out by more
    than ``(n - 1) / sqrt(n)`` deviations, so with ``u=3`` layers of ten channels or fewer are never
    pruned.
    """

    u: NonNegative = 3.0

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """There must be convolutions."""
        if not any(isinstance(module, _ConvNd) for module in model.modules()):
            raise none_found(model, "channels to prune", "convolutions")

    @torch.no_grad()
    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Prune."""
        pairs = followers(model, clean.pixels([0]).to(context.device))
        named = dict(model.named_modules())
        found: dict[str, list[int]] = {}
        channels = 0
        for name, conv in named.items():
            if not isinstance(conv, _ConvNd) or conv.transposed:
                continue
            norm = named.get(pairs.get(name, ""))
            bounds = lipschitz(conv, norm if isinstance(norm, _BatchNorm) else None)
            channels += len(bounds)
            loud = bounds > bounds.mean() + self.u * bounds.std()
            if len(bounds) > 1 and bool(loud.any()):
                _silence(norm if isinstance(norm, _BatchNorm) and norm.affine else conv, loud)
                found[name] = loud.nonzero().flatten().tolist()
        pruned = sum(map(len, found.values()))
        context.note(pruned=pruned, channels=channels, pruned_neurons=found)
        return model


def lipschitz(conv: _ConvNd, norm: _BatchNorm | None = None) -> Tensor:
    """Upper bounds on how much each output channel amplifies its input.

    Args:
        conv: weight (outputs, inputs per group, ...).
        norm: the BatchNorm that takes its output, if there is one.

    Returns:
        (outputs,), float32.

    >>> conv = nn.Conv2d(2, 1, (1, 2))
    >>> with torch.no_grad():
    ...     _ = conv.weight.copy_(torch.tensor([[[[3.0, 0.0]], [[0.0, 4.0]]]]))
    >>> lipschitz(conv).tolist()
    [4.0]
    """
    kernels = conv.weight.detach().float().flatten(2)
    bounds: Tensor = torch.linalg.matrix_norm(kernels, ord=2)
    if norm is not None and norm.running_var is not None:
        bounds = bounds * torch.rsqrt(norm.running_var.float() + norm.eps)
        if norm.affine:
            bounds = bounds * norm.weight.detach().float().abs()
    return bounds


def _silence(layer: nn.Module, loud: Tensor) -> None:
    for parameter in layer.parameters(recurse=False):
        parameter[loud] = 0
