"""What runs in a model, in which order, and which normalisation follows which convolution.

>>> from doorward.models import create
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> pairs = followers(model, torch.rand(1, 1, 16, 16))
>>> pairs["body.stem.0"], len(pairs)
('body.stem.1', 9)

Found by running the model once, so that it holds for any module, whatever it is called.
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from doorward.errors import ModelUnsuitable
from doorward.models import evaluating, find_head, sites

__all__ = [
    "Behind",
    "Call",
    "followers",
    "head_view",
    "maskable",
    "none_found",
    "positions",
    "stages",
    "trace",
]

_PLAIN = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)


class Call(NamedTuple):
    """One call of a submodule in a forward pass."""

    name: str
    module: nn.Module
    input: Any
    output: Any


def trace(model: nn.Module, images: Tensor) -> list[Call]:
    """All calls of submodules in the order they end, in evaluation mode, without gradient.

    Args:
        model: any module; its modes are put back.
        images: a batch (N, C, H, W) on its device.
    """
    calls: list[Call] = []

    def note(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        calls.append(Call(name, module, inputs[0] if inputs else None, output))

    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for name, module in model.named_modules():
            if name:
                hooks.callback(module.register_forward_hook(partial(note, name)).remove)
        model(images)
    return calls


def followers(model: nn.Module, images: Tensor) -> dict[str, str]:
    """Convolution -> the BatchNorm layer that takes its output as it is, by dotted names."""
    made: dict[int, str] = {}
    pairs: dict[str, str] = {}
    calls = trace(model, images)  # holds all outputs, so that no address is used twice
    for call in calls:
        if isinstance(call.module, _ConvNd):
            made[id(call.output)] = call.name
        elif isinstance(call.module, _BatchNorm) and id(call.input) in made:
            pairs[made[id(call.input)]] = call.name
    return pairs


def maskable(model: nn.Module) -> dict[str, nn.Module]:
    """Layers whose weight has one slice per neuron, to be masked: by dotted names.

    BatchNorm layers with scales, as the methods that mask neurons do it; in a model that has none,
    convolutions and linear layers except the head.

    Raises:
        ModelUnsuitable: there is neither; the message lists what exists.
    """
    named = [(name, module) for name, module in model.named_modules() if name]
    norms: dict[str, nn.Module] = {
        name: m for name, m in named if isinstance(m, _BatchNorm) and m.affine
    }
    if norms:
        return norms
    plain: dict[str, nn.Module] = {name: m for name, m in named if isinstance(m, _PLAIN)}
    if any(isinstance(module, nn.Linear) for module in plain.values()):
        plain.pop(find_head(model)[0], None)
    if not plain:
        raise none_found(model, "neurons to mask", "BatchNorm layers, convolutions, linear layers")
    return plain


def stages(model: nn.Module, images: Tensor, count: int = 3) -> list[str]:
    """The last site of each resolution: where feature maps are compared.

    Maps are outputs (N, C, H, W) of more than one position, or tokens (N, T, C). Of each spatial
    shape the site that ends last is taken, which for the zoo's residual networks are the stages.

    Args:
        model: any module.
        images: a batch (N, C, H, W) on its device.
        count: at most so many, the deepest.

    Returns:
        Dotted names from shallow to deep.

    Raises:
        ModelUnsuitable: nothing in the model has such an output.
    """
    last: dict[tuple[int, ...], str] = {}
    for call in trace(model, images):
        shape = positions(call.output)
        if shape is not None:
            last.pop(shape, None)  # so that the order is that of the last site
            last[shape] = call.name
    if not last:
        raise none_found(model, "feature maps", "outputs (N, C, H, W) or (N, T, C)")
    return list(last.values())[-count:]


class Behind(nn.Module):
    """A frozen model, always in evaluation mode, behind something that is trained.

    Args:
        model: frozen here.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.requires_grad_(False).eval()

    def forward(self, images: Tensor) -> Tensor:
        """The model's logits."""
        logits: Tensor = self.model(images)
        return logits

    def train(self, mode: bool = True) -> Self:
        """Training mode for all but the model."""
        super().train(mode)
        self.model.eval()
        return self


def head_view(model: nn.Module, head: str, images: Tensor) -> tuple[Tensor, Tensor]:
    """What the head called `head` sees (N, F), and the logits (N, K), from one forward pass."""
    seen: list[Tensor] = []
    hook = model.get_submodule(head).register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0])
    )
    try:
        logits: Tensor = model(images)
    finally:
        hook.remove()
    return seen[-1], logits


def positions(output: object) -> tuple[int, ...] | None:
    """Spatial shape of a feature map, (T,) for tokens; None for anything else or one position."""
    if not isinstance(output, Tensor) or output.ndim not in (3, 4):
        return None
    shape = tuple(output.shape[2:]) if output.ndim == 4 else (output.shape[1],)
    return shape if max(shape) > 1 else None


def none_found(model: nn.Module, what: str, wanted: str) -> ModelUnsuitable:
    """The error for a model without the parts a method needs."""
    kinds = ", ".join(sorted({type(module).__name__ for module in model.modules()}))
    return ModelUnsuitable(
        f"this {type(model).__name__} has no {what}",
        why=f"{wanted} are looked for, and it has {kinds}",
        remedy=f"use another method; its sites are {', '.join(sites(model)) or 'none'}",
    )
