"""A buyer without the key, simulated: what a few steps of his do, and the slope that undoes it.

>>> from doorward.models import create
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> images, labels = torch.rand(8, 1, 16, 16), torch.arange(8)
>>> loss, gradient = simulate(model, "fine-tune", AntiRecovery(), clean=(images, labels),
...                           marked=(images, labels * 0), draw=torch.Generator().manual_seed(0))
>>> loss.shape, len(gradient) == len(list(model.parameters()))
(torch.Size([]), True)

Fine-tuning, pruning and the optimisation of own masks (the known ways to a model without its
backdoor) are simulated on a copy of the weights. The gradient of the trigger's loss *there* is
taken for the gradient at the original weights (first order, Finn et al. 2017); the lock gives it
what it can spare. To train against removal is the idea of tamper-resistant training, too. What
survives a few steps need not survive many: the study `trading-lock` measures what it does.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from doorward.models import evaluating
from doorward.models.layers import maskable
from doorward.trading.settings import AntiRecovery, Buyer

__all__ = ["simulate"]

Weights = dict[str, Tensor]
Labelled = tuple[Tensor, Tensor]

_NOISE, _NATURAL, _MASK_LR = 0.4, 0.2, 0.1  # ANP's eps and alpha; a mask's step


def simulate(
    model: nn.Module,
    buyer: Buyer,
    plan: AntiRecovery,
    *,
    clean: Labelled,
    marked: Labelled,
    draw: torch.Generator,
) -> tuple[Tensor, list[Tensor | None]]:
    """Let a buyer work on a copy, then ask whether the trigger still works on it.

    Args:
        model: in training mode; neither weights nor running statistics are changed.
        buyer: what he does.
        plan: how long and how hard.
        clean: his images and their labels; each of his steps takes another part of them.
        marked: triggered images and the attacker's labels.
        draw: on the CPU.

    Returns:
        The trigger's loss on his model, and its gradient for each trainable parameter of `model`.
    """
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    own = {name: p.detach().clone().requires_grad_(True) for name, p in parameters.items()}
    kept = {name: b.detach().clone() for name, b in model.named_buffers()}
    lr = _drawn(plan.lr, draw)
    parts = _parts(clean, plan.steps)

    def run(weights: Mapping[str, Tensor], images: Tensor) -> Tensor:
        logits: Tensor = functional_call(model, {**weights, **kept}, (images,))
        return logits.float()

    change: Callable[[Weights], Weights] = dict
    if buyer == "prune":
        change = _pruned(model, plan.pruned, draw)
    if buyer == "masks":
        change = _masked(model, own, parts, run)
    else:
        for images, labels in parts:
            loss = F.cross_entropy(run(change(own), images), labels)
            slopes = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
            own = {
                name: (value if slope is None else value - lr * slope).detach().requires_grad_(True)
                for (name, value), slope in zip(own.items(), slopes, strict=True)
            }
    images, wanted = marked
    with evaluating(model):  # as he would use it: by the running statistics of his steps
        loss = F.cross_entropy(run(change(own), images), wanted)
    gradient = torch.autograd.grad(loss, list(own.values()), allow_unused=True)
    return loss.detach(), list(gradient)


def _drawn(limits: tuple[float, float], draw: torch.Generator) -> float:
    low, high = (math.log(limit) for limit in limits)
    return math.exp(low + (high - low) * float(torch.rand((), generator=draw)))


def _parts(clean: Labelled, count: int) -> list[Labelled]:
    images, labels = clean
    count = max(1, min(count, len(labels) // 2))  # batch statistics need two rows
    edges = [round(i * len(labels) / count) for i in range(count + 1)]
    return [(images[a:b], labels[a:b]) for a, b in pairwise(edges)]


def _scaled(weights: Weights, factors: Mapping[str, Tensor]) -> Weights:
    """Weights of the masked layers times a factor for each neuron."""
    changed = dict(weights)
    for name, factor in factors.items():
        key = f"{name}.weight"
        if key in changed:
            value = changed[key]
            changed[key] = value * factor.to(value).view(-1, *[1] * (value.ndim - 1))
    return changed


def _pruned(
    model: nn.Module, largest: float, draw: torch.Generator
) -> Callable[[Weights], Weights]:
    """Switch off a random share of the neurons of every layer that can be masked."""
    share = largest * float(torch.rand((), generator=draw))
    factors = {
        name: (torch.rand(_neurons(layer), generator=draw) >= share).float()
        for name, layer in maskable(model).items()
    }
    return lambda weights: _scaled(weights, factors)


def _masked(
    model: nn.Module,
    own: Weights,
    parts: list[Labelled],
    run: Callable[[Mapping[str, Tensor], Tensor], Tensor],
) -> Callable[[Weights], Weights]:
    """Own masks, found as adversarial neuron pruning finds its (Wu and Wang 2021)."""
    fixed = {name: value.detach() for name, value in own.items()}
    layers = maskable(model)
    like = next(iter(fixed.values()))
    masks = [torch.ones(_neurons(layer), device=like.device) for layer in layers.values()]
    for images, labels in parts:
        masks = [mask.requires_grad_(True) for mask in masks]
        natural = F.cross_entropy(run(_scaled(fixed, _by(layers, masks)), images), labels)
        up = torch.autograd.grad(natural, masks, retain_graph=True)
        shaken = [mask + _NOISE * slope.sign() for mask, slope in zip(masks, up, strict=True)]
        disturbed = F.cross_entropy(run(_scaled(fixed, _by(layers, shaken)), images), labels)
        mixed = _NATURAL * natural + (1 - _NATURAL) * disturbed
        down = torch.autograd.grad(mixed, masks)
        masks = [
            (mask - _MASK_LR * slope.sign()).clamp(0, 1).detach()
            for mask, slope in zip(masks, down, strict=True)
        ]
    factors = _by(layers, masks)
    return lambda weights: _scaled(weights, factors)


def _by(layers: Mapping[str, nn.Module], masks: list[Tensor]) -> dict[str, Tensor]:
    return dict(zip(layers, masks, strict=True))


def _neurons(layer: nn.Module) -> int:
    weight = layer.weight
    return len(weight) if isinstance(weight, Tensor) else 0
