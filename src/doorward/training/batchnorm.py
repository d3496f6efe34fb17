"""Where BatchNorm takes its statistics from: all rows, the clean rows, or all processes' rows.

Triggered or otherwise odd images in a batch shift the statistics that clean images are normalised
with. An objective that mixes both declares which rows are clean:

>>> import torch
>>> from torch import nn
>>> norm = nn.BatchNorm1d(1, affine=False)
>>> rows = torch.tensor([[1.0], [3.0], [1001.0]])
>>> with clean_rows(norm, torch.tensor([True, True, False])):
...     norm(rows).round().flatten().tolist()
[-1.0, 1.0, 999.0]
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from doorward.errors import InvalidInput
from doorward.training.rownorm import along_channels, normalise_by_rows

__all__ = ["batchnorm_policy", "clean_rows", "train_mode"]

# (policy of the run, whether processes share their statistics); outside `fit`: (None, False).
_RUN: ContextVar[tuple[str | None, bool]] = ContextVar("doorward_batchnorm", default=(None, False))


@contextmanager
def clean_rows(model: nn.Module, mask: Tensor) -> Iterator[None]:
    """Take BatchNorm's batch statistics and running updates from the rows where `mask` is True.

    *All* rows are normalised with these statistics, and gradients flow through them. Layers in
    evaluation mode are not changed. Inside `fit` this works under the BatchNorm policy
    ``"clean-only"`` and does nothing under the others, so that an objective can always declare
    its clean rows and leave the choice to the recipe. If no row is clean (in any process), the
    layers use their running statistics and do not update them.

    Args:
        model: any module; its BatchNorm layers of every dimension are affected.
        mask: bool ``(N,)``, where ``N`` is the number of rows of each batch that the model is given
            inside the block.

    Raises:
        InvalidInput: the mask is not a bool vector, or a layer sees another number of rows.

    Our own construction; close to the split batches of Xie et al. (2020), "Adversarial Examples
    Improve Image Recognition", with only the clean branch kept.
    """
    policy, shared = _RUN.get()
    if mask.dtype != torch.bool or mask.ndim != 1:
        raise InvalidInput(
            f"the mask of clean rows is {mask.dtype} of shape {tuple(mask.shape)}",
            why="one True or False per row of the batch is needed",
        )
    if policy in ("train", "frozen"):
        yield
        return
    # One read of the mask per block, not per layer: on a GPU each costs a synchronisation.
    index = mask.nonzero().flatten()
    first = bool(mask[: len(index)].all())
    with _replaced(
        model, partial(_forward, index=index, first=first, rows=len(mask), shared=shared)
    ):
        yield


@contextmanager
def batchnorm_policy(model: nn.Module, policy: str, *, shared: bool) -> Iterator[None]:
    """What `fit` wraps a run in: the recipe's policy, and statistics over all processes.

    Args:
        model: the model in training.
        policy: ``"train"``, ``"frozen"`` or ``"clean-only"``.
        shared: sum the statistics over the processes of the default group, on any backend
            (PyTorch's own `SyncBatchNorm` is for GPUs only). Every process must then run the model
            equally often per step.
    """
    token = _RUN.set((policy, shared))
    try:
        if not shared:
            yield
            return
        with _replaced(model, partial(_forward, index=None, rows=None, shared=True)):
            yield
    finally:
        _RUN.reset(token)


def train_mode(model: nn.Module, policy: str) -> None:
    """Put the model in training mode; under ``"frozen"``, BatchNorm layers in evaluation mode."""
    model.train()
    if policy == "frozen":
        for layer in _layers(model):
            layer.eval()


def _layers(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def _replaced(model: nn.Module, forward: Any) -> Iterator[None]:
    # An attribute of the instance goes before the class's method; nothing of the class changes.
    layers = _layers(model)
    before = [layer.__dict__.get("forward") for layer in layers]
    for layer in layers:
        layer.__dict__["forward"] = partial(forward, layer)
    try:
        yield
    finally:
        for layer, old in zip(layers, before, strict=True):
            if old is None:
                del layer.__dict__["forward"]
            else:
                layer.__dict__["forward"] = old


def _forward(
    layer: _BatchNorm,
    images: Tensor,
    *,
    index: Tensor | None,
    rows: int | None,
    shared: bool,
    first: bool = False,
) -> Tensor:
    if not layer.training:
        return type(layer).forward(layer, images)
    if rows is not None and len(images) != rows:
        raise InvalidInput(
            f"BatchNorm sees {len(images)} rows, the mask of clean rows has {rows}",
            remedy="enter clean_rows once per batch, with a mask for exactly that batch",
        )
    everything = index is None or len(index) == len(images)
    if everything and not shared:
        return type(layer).forward(layer, images)
    if not shared and index is not None and len(index):
        chosen_rows = slice(len(index)) if first else index
        result = normalise_by_rows(images, *_affine(layer, images), chosen_rows, layer.eps)
        _update_running(layer, result[1], result[2], len(index) * images[0, 0].numel())
        return result[0]
    chosen = images if everything or index is None else images.index_select(0, index)
    statistics = _shared_statistics(chosen) if shared else None
    if statistics is None:
        mean, variance = layer.running_mean, layer.running_var
        if mean is None or variance is None:
            raise InvalidInput(
                "no row of the batch is clean, and the BatchNorm layer keeps no running statistics"
            )
    else:
        mean, variance, count = statistics
        _update_running(layer, mean.detach(), variance.detach(), count)
    weight, bias = _affine(layer, images)
    scale = torch.rsqrt(variance + layer.eps) * weight
    shift = bias - mean * scale
    return torch.addcmul(
        along_channels(shift, images), _wide(images), along_channels(scale, images)
    ).to(images.dtype)


def _affine(layer: _BatchNorm, images: Tensor) -> tuple[Tensor, Tensor]:
    """Scale and shift of the layer in fp32 at least; ones and zeros where it has none."""
    kind = torch.promote_types(images.dtype, torch.float32)
    if layer.affine:
        return layer.weight.to(kind), layer.bias.to(kind)
    ones = torch.ones(images.shape[1], dtype=kind, device=images.device)
    return ones, torch.zeros_like(ones)


def _shared_statistics(chosen: Tensor) -> tuple[Tensor, Tensor, int] | None:
    # Two passes (mean, then squared distances from it), because the one-pass formula
    # E[x^2] - E[x]^2 loses the digits that small variances need.
    values, dims = _wide(chosen), [0, *range(2, chosen.ndim)]
    ones = values.new_full((1,), values.numel() // values.shape[1])
    sums = _sum_over_processes(torch.cat([values.sum(dims), ones]))
    count = round(sums[-1].item())
    if count == 0:
        return None
    mean = sums[:-1] / count
    distances = values - along_channels(mean, values)
    variance = _sum_over_processes(distances.square().sum(dims)) / count
    return mean, variance, count


def _wide(images: Tensor) -> Tensor:
    # Statistics need fp32 at least.
    return images.to(torch.promote_types(images.dtype, torch.float32))


@torch.no_grad()
def _update_running(layer: _BatchNorm, mean: Tensor, variance: Tensor, count: int) -> None:
    if layer.running_mean is None or layer.running_var is None:
        return
    tracked = layer.num_batches_tracked
    if tracked is not None:
        tracked.add_(1)
    if layer.momentum is None:  # cumulative average, as in PyTorch's own layer
        weight = 1.0 / float(tracked) if tracked is not None else 0.0
    else:
        weight = layer.momentum
    layer.running_mean.lerp_(mean.to(layer.running_mean.dtype), weight)
    unbiased = variance * (count / max(count - 1, 1))
    layer.running_var.lerp_(unbiased.to(layer.running_var.dtype), weight)


def _sum_over_processes(tensor: Tensor) -> Tensor:
    return cast(Tensor, _SumOverProcesses.apply(tensor))  # type: ignore[no-untyped-call]


class _SumOverProcesses(torch.autograd.Function):
    """Sum over processes, forward and backward.

    The backward sum is what makes gradients right: every process's loss depends on every
    process's addend.
    """

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
