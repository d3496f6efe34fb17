"""The old head as a private key: verify a model whose output layer was exchanged.

>>> import torch
>>> from doorward.models import create
>>> model = create("resnet8", classes=10, width=4)
>>> private = keep_head(model)
>>> view = with_head(model, private)
>>> _ = model.head.weight.data.zero_()            # the model changes: the view has its own head
>>> images = torch.rand(2, 3, 32, 32)
>>> bool((model.eval()(images) == view.eval()(images)).all())
False

Attacks that draw the output layer anew (RTLL, RTAL), and every transfer to other classes, leave
nothing that could answer with the old classes. Adi et al. keep the marked model's output layer and
put it back for the verification. That takes access to the suspect's insides, or its features.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import nn

from doorward.errors import InvalidInput
from doorward.models import Classifier, find_head
from doorward.models.classifier import class_names

__all__ = ["keep_head", "with_head"]


def keep_head(model: nn.Module, name: str | None = None) -> nn.Linear:
    """A copy of a model's head, on the CPU, that no training changes.

    Args:
        model: any module that has a head (see `models.find_head`).
        name: the head's dotted name, if it should not be guessed.

    Raises:
        ModelUnsuitable, UnknownName: as `models.find_head`.
    """
    return copy.deepcopy(find_head(model, name)[1]).cpu().requires_grad_(False)


def with_head(
    model: nn.Module,
    head: nn.Linear,
    name: str | None = None,
    *,
    classes: Sequence[str] | None = None,
) -> nn.Module:
    """A view of a model with another head; the body is shared, the model is not touched.

    What happens to the model's body later (training, another device) shows in the view. The view's
    head is a copy on the body's device.

    Args:
        model: any module that has a head.
        head: features ``(N, F)`` to logits ``(N, K)``.
        name: the model's head, if it should not be guessed.
        classes: K names for a `Classifier`; None keeps the model's if there are as many, and
            numbers them otherwise.

    Returns:
        A module of the same type.

    Raises:
        InvalidInput: the head takes another number of features, or has other classes.
        ModelUnsuitable, UnknownName: as `models.find_head`.
    """
    found, present = find_head(model, name)
    if head.in_features != present.in_features:
        raise InvalidInput(
            f"the head takes {head.in_features} features",
            why=f"the model makes {present.in_features}",
            remedy="give the head of the model that this one descends from",
        )
    own = copy.deepcopy(head).to(present.weight.device, present.weight.dtype)
    view = _replaced(model, found.split("."), own.requires_grad_(False))
    if isinstance(view, Classifier):
        count = head.out_features
        if classes is None:
            classes = view.classes if len(view.classes) == count else class_names(count)
        if len(class_names(classes)) != count:
            raise InvalidInput(f"{len(classes)} classes for a head with {count} outputs")
        view.classes = class_names(classes)
    return view


def _replaced(module: nn.Module, path: list[str], head: nn.Linear) -> nn.Module:
    """A shallow copy of the modules on the way to the head; everything beside it is shared."""
    view = copy.copy(module)
    # copy.copy shares the dict of submodules, which must not be changed for the original.
    view._modules = dict(module._modules)
    first, *rest = path
    child = view._modules[first]
    view._modules[first] = _replaced(child, rest, head) if rest and child is not None else head
    return view
