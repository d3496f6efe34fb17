"""New models from a name and a seed; the global random generator is neither read nor moved.

>>> import torch
>>> a = create("resnet8", classes=10, seed=1)
>>> b = create("resnet8", classes=5, seed=1)
>>> bool((a.body.stem[0].weight == b.body.stem[0].weight).all())
True

Every weight is drawn from the seed and its own name: another head, or one more layer, leaves the
initial weights of all others as they were.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from doorward.errors import InvalidInput
from doorward.models.classifier import Classifier, class_names
from doorward.models.zoo.registry import ARCHITECTURES, MIN_SIZE
from doorward.randomness import generator

__all__ = ["create", "skeleton"]

_LARGEST_OPTION = 4096
"""Of widths and depths: a stranger's model card may not ask for a billion layers."""


def create(
    architecture: str,
    *,
    classes: int | Sequence[str],
    input_shape: tuple[int, int, int] = (3, 32, 32),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    seed: int = 0,
    **options: Any,
) -> Classifier:
    """Make an untrained `Classifier`.

    Args:
        architecture: a name in `ARCHITECTURES`.
        classes: how many classes, or their names.
        input_shape: ``(C, H, W)``: 1 or 3 channels, at least 16 pixels each way.
        mean: per-channel mean of the pixels, in ``[0, 1]``; 0.5 if None.
        std: per-channel standard deviation of the pixels; 0.25 if None.
        seed: of the initial weights.
        options: the architecture's own, e.g. ``width=16``.

    Returns:
        The model on the CPU, in training mode. Convolutions start as He et al. 2015 propose
        (normal, fan-in), linear layers with variance 1/fan-in, biases at zero.

    Raises:
        UnknownName: no such architecture.
        InvalidInput: classes, shape, normalisation or an option is not acceptable.

    >>> create("resnet20", classes=10, input_shape=(1, 8, 8))
    Traceback (most recent call last):
    doorward.errors.InvalidInput: input_shape is (1, 8, 8): models of the zoo take ...
    """
    model = skeleton(
        architecture, classes=classes, input_shape=input_shape, mean=mean, std=std, **options
    )
    model.body.to_empty(device="cpu")
    model.head.to_empty(device="cpu")
    _initialise(model, seed)
    return model


def skeleton(
    architecture: str,
    *,
    classes: int | Sequence[str],
    input_shape: tuple[int, int, int] = (3, 32, 32),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    **options: Any,
) -> Classifier:
    """A `Classifier` whose weights have names and shapes but no memory (arguments as `create`).

    For weights that come from elsewhere: compare the shapes, then ``load_state_dict(assign=True)``.

    Raises:
        UnknownName, InvalidInput: as `create`.

    >>> skeleton("resnet8", classes=2).head.weight.device
    device(type='meta')
    """
    builder = ARCHITECTURES[architecture]
    _check_shape(input_shape)
    _check_options(architecture, options)
    names = class_names(classes)
    channels, height, width = input_shape
    # On the meta device nothing is drawn, so the global generator stays where it is.
    with torch.device("meta"):
        body = builder(channels, (height, width), **options)
        head = nn.Linear(body.out_features, len(names))
    return Classifier(
        body,
        head,
        classes=names,
        input_shape=(channels, height, width),
        mean=mean,
        std=std,
        architecture=architecture,
        options=options,
    )


@torch.no_grad()
def _initialise(model: nn.Module, seed: int) -> None:
    for name, module in model.named_modules():
        draw = generator(seed, "weights", name)
        if isinstance(module, nn.Conv2d):
            # Without a non-linearity behind a convolution the gain of 2 is too large, but every
            # such one here is followed by a normalisation that takes it back.
            std = math.sqrt(2 / module.weight[0].numel())
            module.weight.normal_(0, std, generator=draw)
        elif isinstance(module, nn.Linear):
            module.weight.normal_(0, math.sqrt(1 / module.in_features), generator=draw)
        elif isinstance(module, nn.BatchNorm2d | nn.LayerNorm):
            module.reset_parameters()
            continue
        elif callable(reset := getattr(module, "reset", None)):
            reset(draw)  # modules of the zoo with parameters of their own
            continue
        if isinstance(bias := getattr(module, "bias", None), nn.Parameter):
            bias.zero_()


def _check_shape(shape: Sequence[int]) -> None:
    whole = len(shape) == 3 and all(isinstance(length, int) for length in shape)
    if not whole or shape[0] not in (1, 3) or min(shape[1:]) < MIN_SIZE:
        raise InvalidInput(
            f"input_shape is {tuple(shape)}",
            why="models of the zoo take (channels, height, width) with 1 or 3 channels and at "
            f"least {MIN_SIZE} pixels each way",
            remedy="resize the images (ImageData.resized)",
        )


def _check_options(architecture: str, options: dict[str, Any]) -> None:
    signature = inspect.signature(ARCHITECTURES[architecture])
    known = {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for name, value in options.items():
        if name not in known:
            listed = ", ".join(f"{key}={default}" for key, default in known.items())
            raise InvalidInput(
                f"{architecture} has no option {name!r}",
                remedy=f"its options and defaults: {listed or 'none'}",
            )
        if isinstance(known[name], float):
            fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1
            accepted = "a number in [0, 1)"
        else:
            whole = isinstance(value, int) and not isinstance(value, bool)
            fits = whole and 1 <= value <= _LARGEST_OPTION
            accepted = f"a whole number of 1 to {_LARGEST_OPTION}"
        if not fits:
            raise InvalidInput(f"{architecture} option {name}={value!r}", why=f"takes {accepted}")
