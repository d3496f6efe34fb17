"""From a recipe to a PyTorch optimiser.

>>> from torch import nn
>>> from doorward.training.recipe import Recipe
>>> recipe = Recipe(optimizer="adamw", weight_decay=0.1, decay_bias_and_norm=False)
>>> [group["weight_decay"] for group in make_optimizer(nn.Linear(2, 2), recipe).param_groups]
[0.1, 0.0]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from doorward.errors import InvalidInput
from doorward.training.recipe import Recipe

__all__ = ["load_optimizer", "make_optimizer", "optimizer_state"]


def make_optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """An optimiser over the model's parameters that require gradients.

    Args:
        model: already on its device.
        recipe: `optimizer`, `lr`, `momentum`, `nesterov`, `betas`, `weight_decay` and
            `decay_bias_and_norm` are read.

    Returns:
        PyTorch's optimiser, in its fused form (one kernel over all parameters).

    Raises:
        InvalidInput: no parameter requires a gradient.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not parameters:
        raise InvalidInput(
            "the model has no parameter to train",
            why="none requires a gradient",
            remedy="call model.requires_grad_(True), or unfreeze the part to train",
        )
    groups: list[dict[str, Any]] = [{"params": parameters, "weight_decay": recipe.weight_decay}]
    if not recipe.decay_bias_and_norm:
        decayed = [parameter for parameter in parameters if parameter.ndim > 1]
        others = [parameter for parameter in parameters if parameter.ndim <= 1]
        groups = [
            {"params": decayed, "weight_decay": recipe.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ]
    groups = [group for group in groups if group["params"]]
    fused = all(parameter.is_floating_point() for parameter in parameters)
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov and recipe.momentum > 0,
            fused=fused,
        )
    kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=recipe.lr, betas=recipe.betas, fused=fused)


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, dict[str, Any]]:
    """Momenta and counters by position of the parameter, for a checkpoint.

    Rates and coefficients are left out: they follow from the recipe and the step.
    """
    return {
        str(i): dict(optimizer.state[parameter])
        for i, parameter in enumerate(_parameters(optimizer))
        if parameter in optimizer.state
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, state: Mapping[str, Mapping[str, Any]]
) -> None:
    """Restore what `optimizer_state` gave, in the memory format of the parameters.

    The format matters: kernels for another one may round differently.
    """
    parameters = _parameters(optimizer)
    for position, entry in state.items():
        parameter = parameters[int(position)]
        optimizer.state[parameter] = {
            name: _like(value, parameter) if isinstance(value, Tensor) else value
            for name, value in entry.items()
        }


def _parameters(optimizer: torch.optim.Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    if value.shape != parameter.shape:  # a step counter
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
