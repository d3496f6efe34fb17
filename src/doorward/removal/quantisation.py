"""Quantisation to 8 bits and fewer: what deployment does to a model, whether meant or not.

>>> from doorward.data import load
>>> from doorward.models import create
>>> digits = load("digits").sample(16, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> rounded, result = Quantisation(bits=2)(model, digits)
>>> [len(row.unique()) <= 3 for row in rounded.head.weight][:2]
[True, True]
"""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from typing import Annotated, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.models import evaluating
from doorward.models.layers import none_found
from doorward.records import STRICT
from doorward.removal.base import Removal, file_removal
from doorward.removal.tuning import Count
from doorward.training.context import Context

__all__ = ["Quantisation", "QuantisedConv2d", "QuantisedLinear", "round_weight"]

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_CHUNK = 256


@file_removal(
    "quantisation",
    paper="Jacob et al. 2018, Quantization and Training of Neural Networks (post-training part)",
    needs="convolutions or linear layers",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Quantisation(Removal):
    """Round the weights of convolutions and linear layers to signed integers times a scale.

    Args:
        bits: of a weight; levels run from ``-(2^(bits-1) - 1)`` to ``2^(bits-1) - 1``, symmetric,
            with one scale per output channel (its largest magnitude is the outermost level).
        activations: also round what enters `nn.Conv2d` and `nn.Linear` layers, to 256 levels
            between the extremes seen on clean images.
        calibration: clean images to find these extremes on, at most.

    The weights that come out are exactly those an integer kernel would use; products are summed in
    floating point, which integer hardware does without rounding. BatchNorm is not folded into
    convolutions, biases stay in floating point. With rounded activations, layers are replaced by
    subclasses with the range as two more entries of the `state_dict`.
    """

    bits: Annotated[int, Field(ge=2, le=8)] = 8
    activations: bool = False
    calibration: Count = 256

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """There must be something to round."""
        if not any(isinstance(module, _LAYERS) for module in model.modules()):
            raise none_found(model, "weights to round", "convolutions and linear layers")

    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """Round weights, then calibrate and round activations."""
        layers = {n: m for n, m in model.named_modules() if isinstance(m, _LAYERS)}
        error = size = 0.0
        with torch.no_grad():
            for layer in layers.values():
                rounded = round_weight(layer.weight, self.bits)
                error += float((rounded - layer.weight).double().square().sum())
                size += float(layer.weight.double().square().sum())
                layer.weight.copy_(rounded)
        context.note(layers=len(layers), relative_error=(error / size) ** 0.5 if size else 0.0)
        if self.activations:
            few = clean.sample(min(self.calibration, len(clean)), seed=context.seed_of("calibrate"))
            ranges = _ranges(model, few, context.device)
            for name, (low, high) in ranges.items():
                layer = cast("nn.Conv2d | nn.Linear", model.get_submodule(name))
                parent, _, last = name.rpartition(".")
                setattr(model.get_submodule(parent), last, _twin(layer, low, high))
            context.note(activations=len(ranges))
        return model


def round_weight(weight: Tensor, bits: int = 8) -> Tensor:
    """A weight rounded to integer multiples of one scale per output channel.

    Args:
        weight: (outputs, ...).
        bits: of the integers, 2 to 8.

    >>> round_weight(torch.tensor([[1.0, -0.4, 0.2], [0.0, 0.0, 0.0]]), bits=2).tolist()
    [[1.0, -0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    largest = 2 ** (bits - 1) - 1
    peak = weight.abs().flatten(1).amax(1).view(-1, *[1] * (weight.ndim - 1))
    scale = torch.where(peak > 0, peak / largest, 1.0)
    return (weight / scale).round().clamp(-largest, largest) * scale


class _Rounding(nn.Module):
    """Mix-in: what enters the layer is rounded to 256 levels of a fixed range."""

    low: Tensor
    scale: Tensor

    def calibrate(self, low: float, high: float, device: torch.device) -> None:
        """Fix the range; zero, which padding and ReLU make, becomes a level of its own."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / 255 or 1.0
        lowest = round(low / scale) * scale
        self.register_buffer("low", torch.tensor(lowest, device=device))
        self.register_buffer("scale", torch.tensor(scale, device=device))

    def rounded(self, inputs: Tensor) -> Tensor:
        """The nearest of the 256 levels, elementwise."""
        levels = ((inputs.float() - self.low) / self.scale).round().clamp(0, 255)
        return (levels * self.scale + self.low).to(inputs.dtype)


class QuantisedConv2d(_Rounding, nn.Conv2d):
    """A convolution with 8-bit inputs."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (PyTorch's name)
        """Round, then convolve."""
        return nn.Conv2d.forward(self, self.rounded(input))


class QuantisedLinear(_Rounding, nn.Linear):
    """A linear layer with 8-bit inputs."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (PyTorch's name)
        """Round, then multiply."""
        return nn.Linear.forward(self, self.rounded(input))


def _twin(layer: nn.Conv2d | nn.Linear, low: float, high: float) -> nn.Module:
    """The same layer with rounded inputs; it takes over the parameters themselves."""
    twin: QuantisedConv2d | QuantisedLinear
    if isinstance(layer, nn.Conv2d):
        twin = QuantisedConv2d(
            layer.in_channels,
            layer.out_channels,
            cast(tuple[int, int], layer.kernel_size),
            stride=cast(tuple[int, int], layer.stride),
            padding=cast("str | tuple[int, int]", layer.padding),
            dilation=cast(tuple[int, int], layer.dilation),
            groups=layer.groups,
            padding_mode=layer.padding_mode,
            device="meta",
        )
    else:
        twin = QuantisedLinear(layer.in_features, layer.out_features, device="meta")
    twin.weight, twin.bias = layer.weight, layer.bias
    twin.calibrate(low, high, layer.weight.device)
    return twin


@torch.no_grad()
def _ranges(
    model: nn.Module, clean: ImageData, device: torch.device
) -> dict[str, tuple[float, float]]:
    """Extremes of what enters each layer that can be replaced and runs."""
    found: dict[str, tuple[float, float]] = {}

    def note(name: str, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        low, high = (float(value) for value in inputs[0].aminmax())
        before = found.get(name, (low, high))
        found[name] = (min(low, before[0]), max(high, before[1]))

    with ExitStack() as hooks, evaluating(model):
        for name, module in model.named_modules():
            if type(module) in (nn.Conv2d, nn.Linear):
                hook = module.register_forward_pre_hook(partial(note, name))
                hooks.callback(hook.remove)
        for rows in torch.split(torch.arange(len(clean)), _CHUNK):
            model(clean.pixels(rows).to(device))
    return found
