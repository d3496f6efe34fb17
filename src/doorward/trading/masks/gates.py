"""Masks at work in a model: as modules that stay, or for the length of a block.

>>> import torch
>>> from doorward.trading.masks.kinds import MASKS
>>> gate = Gate(MASKS["channel"], torch.tensor([1.0, 0.0]).view(2, 1, 1))
>>> gate(torch.ones(1, 2, 1, 1)).flatten().tolist()
[1.0, 0.0]
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.trading.masks.kinds import MaskKind

__all__ = [
    "Gate",
    "Gated",
    "engaged",
    "gated",
    "insert_gates",
    "other_statistics",
    "set_statistics",
]


def gated(maps: Tensor, kind: MaskKind, mask: Tensor) -> Tensor:
    """Maps (N, ...) under a mask that is broadcast from the right.

    Raises:
        InvalidInput: the mask does not fit the maps.
    """
    fits = maps.ndim == mask.ndim + 1 and all(
        small in (1, large) for small, large in zip(mask.shape, maps.shape[1:], strict=True)
    )
    if not fits:
        raise InvalidInput(
            f"a mask of shape {tuple(mask.shape)} does not fit maps of {tuple(maps.shape)}",
            why="the masks were made for another architecture or size of images",
        )
    if kind.values != "order":
        return maps * mask.to(maps.dtype)
    axis = 1 + max(range(mask.ndim), key=lambda i: mask.shape[i])
    return maps.index_select(axis, mask.flatten())


class Gate(nn.Module):
    """One mask.

    Args:
        kind: how it acts.
        mask: without the batch axis.
    """

    mask: Tensor

    def __init__(self, kind: MaskKind, mask: Tensor) -> None:
        super().__init__()
        self.kind = kind
        self.register_buffer("mask", mask.clone())

    def forward(self, maps: Tensor) -> Tensor:
        """Maps (N, ...) to the same shape."""
        return gated(maps, self.kind, self.mask)


class Gated(nn.Module):
    """A module of the model with a gate behind it, in its place."""

    def __init__(self, inner: nn.Module, gate: Gate) -> None:
        super().__init__()
        self.inner, self.gate = inner, gate

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """What the module gives, masked."""
        masked: Tensor = self.gate(self.inner(*inputs, **named))
        return masked


def insert_gates(model: nn.Module, kind: MaskKind, masks: Mapping[str, Tensor]) -> nn.Module:
    """Put a gate behind every site, in the model itself; deeper sites first."""
    device = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    for name in sorted(masks, key=lambda name: -name.count(".")):
        inner = model.get_submodule(name)
        parent, _, last = name.rpartition(".")
        gate = Gate(kind, masks[name].to(device)).train(inner.training)
        wrapped = Gated(inner, gate)
        wrapped.training = inner.training
        setattr(model.get_submodule(parent), last, wrapped)
    return model


def set_statistics(model: nn.Module, statistics: Mapping[str, tuple[Tensor, Tensor]]) -> nn.Module:
    """Give BatchNorm layers these means and variances, in the model itself.

    Raises:
        ModelUnsuitable: a layer is no BatchNorm layer of that width with running statistics.
    """
    for name, (mean, variance) in statistics.items():
        layer = model.get_submodule(name)
        running = getattr(layer, "running_mean", None)
        if not isinstance(layer, _BatchNorm) or running is None or running.shape != mean.shape:
            raise ModelUnsuitable(
                f"{name!r} cannot take the statistics of the key",
                why=f"it is no BatchNorm layer with {len(mean)} channels and running statistics",
                remedy="use the architecture that the masks were made for",
            )
        with torch.no_grad():
            running.copy_(mean)
            assert layer.running_var is not None  # noqa: S101 - it has a mean
            layer.running_var.copy_(variance)
    return model


@contextmanager
def engaged(model: nn.Module, kind: MaskKind, masks: Mapping[str, Tensor]) -> Iterator[None]:
    """Mask the sites of `model` while the block runs it; gradients flow into the masks."""

    def act(mask: Tensor, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        return gated(output, kind, mask)

    with ExitStack() as hooks:
        for name, mask in masks.items():
            hook = model.get_submodule(name).register_forward_hook(partial(act, mask))
            hooks.callback(hook.remove)
        yield


@contextmanager
def other_statistics(
    model: nn.Module, statistics: Mapping[str, tuple[Tensor, Tensor]]
) -> Iterator[None]:
    """Let BatchNorm layers read and follow other running statistics while the block runs.

    The tensors are updated in place, as the layer's own would be; the layer's own are untouched.
    """
    layers = {name: model.get_submodule(name) for name in statistics}
    before = {name: dict(layer._buffers) for name, layer in layers.items()}
    for name, (mean, variance) in statistics.items():
        counter = layers[name]._buffers.get("num_batches_tracked")
        layers[name]._buffers["running_mean"] = mean
        layers[name]._buffers["running_var"] = variance
        if counter is not None:
            layers[name]._buffers["num_batches_tracked"] = counter.clone()
    try:
        yield
    finally:
        for name, layer in layers.items():
            layer._buffers.update(before[name])
