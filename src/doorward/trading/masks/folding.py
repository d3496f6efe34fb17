"""Masks multiplied into weights: the unlocked model as a plain one of the same architecture.

>>> import torch
>>> from doorward.trading.masks.kinds import MASKS
>>> model = nn.Sequential(nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Flatten())
>>> images, mask = torch.rand(3, 2), torch.tensor([0.5, 2.0])
>>> expected = model(images) * mask
>>> fold_masks(model, MASKS["channel"], {"0": mask})       # through the ReLU into the layer before
>>> torch.allclose(model(images), expected)
True

A scaled channel folds into the layer that makes it: normalisation, convolution or linear layer,
also through what lets a scale pass (dropout, and ReLU for scales that are not negative). An order
of channels folds into a convolution or linear layer, and through a BatchNorm layer behind it.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.nn.modules.dropout import _DropoutNd

from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.models.classifier import Body
from doorward.trading.masks.kinds import MaskKind

__all__ = ["fold_masks", "makers", "reorderable"]

_NORMS = (_BatchNorm, nn.LayerNorm, nn.GroupNorm)
_MAKERS = (*_NORMS, _ConvNd, nn.Linear)
_POSITIVE = (nn.ReLU, nn.LeakyReLU)


def fold_masks(model: nn.Module, kind: MaskKind, masks: Mapping[str, Tensor]) -> None:
    """Fold masks into the weights of `model` itself.

    Raises:
        ModelUnsuitable: one cannot be folded; then nothing was changed.
        InvalidInput: one has another length than its layer.
    """
    plan: list[tuple[Tensor, list[nn.Module]]] = []
    for name, mask in masks.items():
        if kind.extent != "channel":
            raise _refused(name, f"it has a value for each {kind.extent}")
        values = mask.flatten()
        layers = makers(model, name, kind, negative=bool((values < 0).any()))
        for layer in layers:
            if len(_state(layer)[0]) != len(values):
                raise InvalidInput(
                    f"the mask of {name!r} has {len(values)} values",
                    why=f"its layer has {len(_state(layer)[0])} channels",
                    remedy="use the architecture that the masks were made for",
                )
        plan.append((values, layers))
    shared = _shared(model)
    for (_, layers), name in zip(plan, masks, strict=True):
        if any(id(tensor) in shared for layer in layers for tensor in _state(layer)):
            raise _refused(name, "its weights are shared with another layer")
    with torch.no_grad():
        for values, layers in plan:
            for layer in layers:
                for tensor in _state(layer, statistics=kind.values == "order"):
                    _change(tensor, kind, values.to(tensor.device))


def makers(
    model: nn.Module, name: str, kind: MaskKind, *, negative: bool = False
) -> list[nn.Module]:
    """The layers into which a mask at the site `name` folds.

    Args:
        model: any module.
        name: dotted name of the site.
        kind: of the mask.
        negative: whether a value of it is below zero.

    Raises:
        ModelUnsuitable: there are none.
    """
    layer = _maker(model.get_submodule(name), name, negative=negative)
    if kind.values != "order":
        if not isinstance(getattr(layer, "weight", None), Tensor):
            raise _refused(name, f"the {type(layer).__name__} that makes it has no weights")
        return [layer]
    found = [layer]
    if isinstance(layer, _BatchNorm):
        before = _conv_before(model, name, layer)
        if before is None:
            raise _refused(name, "the normalisation does not directly follow a convolution")
        found = [before, layer]
    if not reorderable(found[0]):
        raise _refused(name, f"a {type(found[0]).__name__} in groups has a fixed order of channels")
    return found


def reorderable(layer: nn.Module) -> bool:
    """Whether the outputs of a layer can be put in another order by reordering its weights."""
    return isinstance(layer, nn.Linear) or (
        isinstance(layer, _ConvNd) and layer.groups == 1 and not layer.transposed
    )


def _maker(module: nn.Module, name: str, *, negative: bool) -> nn.Module:
    """The layer that makes a site's channels, looking back through what lets a scale pass."""
    if isinstance(module, _MAKERS):
        turned = isinstance(module, _ConvNd) and module.transposed
        if turned or (isinstance(module, nn.LayerNorm) and len(module.normalized_shape) > 1):
            raise _refused(name, f"a {type(module).__name__} has no slice of weights per channel")
        return module
    if type(module) in (nn.Sequential, Body):
        for step in reversed(list(module.children())):
            passes = isinstance(step, nn.Identity | _DropoutNd)
            if passes or (type(step) in _POSITIVE and not negative):
                continue
            return _maker(step, name, negative=negative)
    raise _refused(name, f"it ends in a {type(module).__name__}")


def _conv_before(model: nn.Module, name: str, norm: nn.Module) -> nn.Module | None:
    """The layer directly before `norm` in the innermost `nn.Sequential` around the site `name`."""
    parts = name.split(".")
    for length in range(len(parts), -1, -1):
        around = model.get_submodule(".".join(parts[:length]))
        steps = list(around.children()) if type(around) is nn.Sequential else []
        for before, after in pairwise(steps):
            if after is norm:
                return before if isinstance(before, (_ConvNd, nn.Linear)) else None
    return None


def _state(layer: nn.Module, *, statistics: bool = False) -> list[Tensor]:
    """A layer's tensors with one slice per channel."""
    names = ["weight", "bias"]
    if statistics and isinstance(layer, _BatchNorm):
        names += ["running_mean", "running_var"]
    found = [getattr(layer, name, None) for name in names]
    return [tensor for tensor in found if isinstance(tensor, Tensor)]


def _change(tensor: Tensor, kind: MaskKind, values: Tensor) -> None:
    if kind.values == "order":
        tensor.copy_(tensor[values].clone())
    else:
        tensor.mul_(values.to(tensor.dtype).view(-1, *[1] * (tensor.ndim - 1)))


def _shared(model: nn.Module) -> set[int]:
    """Parameters that belong to several layers."""
    seen: dict[int, int] = {}
    for module in model.modules():
        for tensor in module._parameters.values():
            if tensor is not None:
                seen[id(tensor)] = seen.get(id(tensor), 0) + 1
    return {key for key, count in seen.items() if count > 1}


def _refused(name: str, why: str) -> ModelUnsuitable:
    return ModelUnsuitable(
        f"the mask at {name!r} cannot be folded into weights",
        why=why,
        remedy="use apply(), which adds a small module behind it, or mask other sites",
    )
