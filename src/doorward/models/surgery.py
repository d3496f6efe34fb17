"""Reaching into a model: its head, its features, its named sites.

>>> import torch
>>> from doorward.models import create
>>> model = create("resnet8", classes=10, width=4)
>>> find_head(model)
('head', Linear(in_features=16, out_features=10, bias=True))
>>> with capture(model, ["body.stage1"]) as maps:
...     _ = model(torch.rand(2, 3, 32, 32))
>>> maps["body.stage1"].shape
torch.Size([2, 4, 32, 32])

Everything works on zoo models and on any other `nn.Module`; a name that does not exist is an error
that lists those that do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from doorward.errors import DoorwardError, InvalidInput, ModelUnsuitable, UnknownName
from doorward.models.classifier import Classifier, class_names
from doorward.models.modes import evaluating

__all__ = ["capture", "features", "find_head", "replace_head", "site", "sites"]


def sites(model: nn.Module) -> list[str]:
    """Dotted names of all submodules, in the order they were registered.

    >>> sites(nn.Sequential(nn.Flatten(), nn.Linear(4, 2)))
    ['0', '1']
    """
    return [name for name, _ in model.named_modules() if name]


def site(model: nn.Module, name: str) -> nn.Module:
    """The submodule called `name`.

    Raises:
        UnknownName: there is none; the message lists those that exist.
    """
    modules: dict[str, nn.Module] = dict(model.named_modules())
    if name not in modules or not name:
        raise UnknownName.of("site of this model", name, sites(model))
    return modules[name]


@contextmanager
def capture(model: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Collect the outputs of named sites while the block runs the model.

    Args:
        model: any module.
        names: dotted names of sites.

    Yields:
        name -> the site's output in the latest forward pass, part of the autograd graph; a site
        that did not run is absent.

    Raises:
        UnknownName: a site does not exist.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs[name] = output

    with ExitStack() as hooks:
        for name in names:
            hook = site(model, name).register_forward_hook(partial(keep, name))
            hooks.callback(hook.remove)
        yield outputs


def find_head(
    model: nn.Module, name: str | None = None, *, images: Tensor | None = None
) -> tuple[str, nn.Linear]:
    """The linear layer that makes the logits, and its dotted name.

    Args:
        model: any module.
        name: the head's name, if it is known.
        images: a batch ``(N, C, H, W)`` the model takes. With it (or a model that has an
            `input_shape`) the head is the `nn.Linear` that runs last; without it, the one
            registered last.

    Raises:
        UnknownName: no site is called `name`; the message lists the linear layers.
        ModelUnsuitable: `name` is not an `nn.Linear`, or there is none at all.
    """
    linear = _linear_layers(model)
    if name is not None:
        if name not in linear and name in sites(model):
            raise ModelUnsuitable(
                f"{name!r} is a {type(site(model, name)).__name__}",
                why="a head is an nn.Linear",
                remedy=f"linear layers of this model: {', '.join(linear) or 'none'}",
            )
        if name not in linear:
            raise UnknownName.of("linear layer", name, linear)
        return name, linear[name]
    if not linear:
        kinds = sorted({type(module).__name__ for module in model.modules()})
        raise ModelUnsuitable(
            f"{type(model).__name__} has no head",
            why=f"there is no nn.Linear among its modules ({', '.join(kinds)})",
            remedy="end the model in an nn.Linear",
        )
    if isinstance(model, Classifier) and "head" in linear:
        return "head", linear["head"]
    found = _last_to_run(model, linear, images) or list(linear)[-1]
    return found, linear[found]


def replace_head(
    model: nn.Module,
    new: nn.Module,
    name: str | None = None,
    *,
    classes: int | Sequence[str] | None = None,
) -> nn.Module:
    """Put `new` in the place of the head, in the model itself.

    Args:
        model: any module that has a head (see `find_head`).
        new: features ``(N, F)`` to logits ``(N, K)``.
        name: the head's name, if `find_head` should not guess.
        classes: the new classes of a `Classifier`, when their number changes.

    Returns:
        The old head, to put back later.

    Raises:
        InvalidInput: an `nn.Linear` of other input width, or other classes than outputs.
    """
    found, old = find_head(model, name)
    if isinstance(new, nn.Linear) and new.in_features != old.in_features:
        raise InvalidInput(
            f"the new head takes {new.in_features} features",
            why=f"the model makes {old.in_features}",
        )
    if isinstance(model, Classifier):
        names = model.classes if classes is None else class_names(classes)
        if isinstance(new, nn.Linear) and new.out_features != len(names):
            raise InvalidInput(
                f"the new head has {new.out_features} outputs for {len(names)} classes",
                remedy="name the new classes (classes=...)",
            )
        model.classes = names
    parent, _, last = found.rpartition(".")
    setattr(site(model, parent) if parent else model, last, new)
    return old


def features(model: nn.Module, images: Tensor, head: str | None = None) -> Tensor:
    """What the head of `model` sees for `images`.

    Args:
        model: any module that has a head.
        images: float ``(N, C, H, W)`` in ``[0, 1]``.
        head: the head's name, if `find_head` should not guess.

    Returns:
        Features ``(N, F)``, part of the autograd graph.

    Raises:
        ModelUnsuitable: there is no head, or it does not run in the forward pass.
    """
    if isinstance(model, Classifier) and head in (None, "head"):
        return model.features(images)
    name, layer = find_head(model, head, images=images)
    seen: list[Tensor] = []
    hook = layer.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    try:
        model(images)
    finally:
        hook.remove()
    if not seen:
        raise ModelUnsuitable(
            f"the layer {name!r} does not run in the forward pass",
            remedy=f"name another head; linear layers: {', '.join(_linear_layers(model))}",
        )
    return seen[-1]


def _linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    return {
        name: module
        for name, module in model.named_modules()
        if name and isinstance(module, nn.Linear)
    }


def _last_to_run(
    model: nn.Module, layers: dict[str, nn.Linear], images: Tensor | None
) -> str | None:
    """Name of the layer that runs last in a forward pass; None if no pass can be made."""
    if images is None:
        shape = getattr(model, "input_shape", None)
        if shape is None:
            return None
        weight = next(iter(layers.values())).weight
        images = torch.zeros((1, *shape), device=weight.device, dtype=weight.dtype)
    order: list[str] = []

    def note(name: str, *_: Any) -> None:
        order.append(name)

    with ExitStack() as hooks:
        for name, layer in layers.items():
            hooks.callback(layer.register_forward_hook(partial(note, name)).remove)
        with evaluating(model), torch.no_grad():
            try:
                model(images[:1])
            except DoorwardError:
                raise
            except Exception as error:  # foreign code may raise anything
                raise ModelUnsuitable(
                    f"{type(model).__name__} fails on images {tuple(images.shape)}",
                    why=f"{type(error).__name__}: {error}",
                    remedy="name the head, or give images of the size it takes",
                ) from error
    return order[-1] if order else None
