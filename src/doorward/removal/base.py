"""What every removal method is: a frozen record of parameters with one hook.

A method of your own is the numbers it needs and `repair`, which gets a copy to work on:

>>> from pydantic.dataclasses import dataclass
>>> from doorward.models import create, find_head
>>> @dataclass(frozen=True, kw_only=True, config=STRICT)
... class Forget(Removal):
...     "Set the head's bias to a number."
...     bias: float = 0.0
...     def repair(self, model, clean, context):
...         _ = torch.nn.init.constant_(find_head(model)[1].bias, self.bias)
...         return model
>>> from doorward.data import load
>>> digits = load("digits").sample(20, seed=0).resized(16)
>>> model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)
>>> repaired, result = Forget(bias=2.0)(model, digits)
>>> repaired.head.bias[0].item(), model.head.bias[0].item(), result.method
(2.0, 0.0, 'Forget')

`Removal.__call__` is the frame around every hook: it checks, copies, times, and puts modes back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, cast, final

import torch
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.records import STRICT, Record, environment, measure
from doorward.registry import Registry
from doorward.training.context import Context, Labels, usable_images
from doorward.training.distributed import resolve_device

__all__ = [
    "REMOVALS",
    "Labels",
    "Removal",
    "RemovalResult",
    "file_removal",
    "removal",
    "restore_modes",
]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RemovalResult(Record):
    """What a removal did.

    Attributes:
        method: its name in `REMOVALS`, where ``removal(result.method, **result.parameters)`` makes
            it again; of a method that is not registered, the name of its class.
        parameters: all of its parameters.
        recipe_digest: names exactly these parameters.
        data: name of the set of clean images.
        images: how many of them there were.
        labels: ``"given"``, or ``"model"`` if the model's own answers stood in for them.
        seed: of everything random.
        device: where it ran.
        seconds: wall-clock time.
        peak_memory_mib: largest resident set (CPU) or allocation (CUDA) meanwhile.
        history: one entry per epoch of every training phase, in order; ``phase`` says which.
        details: what the method found or chose: thresholds, counts of pruned channels, ...
        environment: versions and hardware.
    """

    method: str
    parameters: dict[str, Any]
    recipe_digest: str
    data: str
    images: int
    labels: Labels
    seed: int
    device: str
    seconds: float
    peak_memory_mib: float
    history: list[dict[str, Any]]
    details: dict[str, Any]
    environment: dict[str, Any]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Removal(Record, ABC):
    """A way to take a backdoor or watermark out of a model. Subclasses write `repair`."""

    name: ClassVar[str] = ""

    @abstractmethod
    def repair(self, model: nn.Module, clean: ImageData, context: Context) -> nn.Module:
        """The method itself.

        Args:
            model: a copy on ``context.device``, in evaluation mode, every parameter trainable;
                to be changed in place or replaced.
            clean: clean images with the labels to use, on the CPU or where the caller has them.
            context: seed, device, the training loop, and where to note what was found.

        Returns:
            The repaired model.
        """

    def check(self, model: nn.Module, clean: ImageData) -> None:
        """Raise if this method cannot work on such a model or data; called before `repair`."""

    @final
    def __call__(
        self,
        model: nn.Module,
        clean: ImageData,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        labels: Labels = "given",
        progress: bool = False,
    ) -> tuple[nn.Module, RemovalResult]:
        """Apply this method to a copy of `model`; see `doorward.removal.remove`."""
        return self.framed(
            self.repair,
            model,
            clean,
            seed=seed,
            device=device,
            labels=labels,
            progress=progress,
        )

    @final
    def framed(
        self,
        repair: Callable[[nn.Module, ImageData, Context], nn.Module],
        model: nn.Module,
        clean: ImageData,
        *,
        seed: int = 0,
        device: str | torch.device = "auto",
        labels: Labels = "given",
        progress: bool = False,
    ) -> tuple[nn.Module, RemovalResult]:
        """Apply another hook than `repair`, one that knows more, within the same frame."""
        target = resolve_device(device)
        clean = usable_images(model, clean, labels)
        self.check(model, clean)
        context = Context(model, seed=seed, device=target, progress=progress)
        origin = next((tensor.device for tensor in model.state_dict().values()), None)
        with measure() as meter:
            working = context.copy_of_original()
            repaired = repair(working, clean, context)
        if origin is not None:
            repaired.to(origin)
        restore_modes(repaired, model)
        known = self.name in REMOVALS and REMOVALS[self.name] is type(self)
        result = RemovalResult(
            method=self.name if known else type(self).__name__,
            parameters=self.to_dict(),
            recipe_digest=self.digest(),
            data=clean.name,
            images=len(clean),
            labels=labels,
            seed=seed,
            device=str(target),
            seconds=meter.seconds,
            peak_memory_mib=meter.peak_memory_mib,
            history=context.history,
            details=context.details,
            environment=environment(),
        )
        return repaired, result


REMOVALS: Registry[type[Removal]] = Registry("removal method")
"""All methods by name; facts: ``paper``, and ``needs``, what a model must have."""

C = TypeVar("C")


def file_removal(name: str, *, paper: str, needs: str) -> Callable[[C], C]:
    """Class decorator: register a method and tell it its name.

    Args:
        name: for `REMOVALS` and results.
        paper: authors, year, title.
        needs: what a model must have for it, in a few words.
    """

    def file(cls: C) -> C:
        cast(type[Removal], cls).name = name
        return REMOVALS.register(name, paper=paper, needs=needs)(cls)

    return file


def removal(name: str, **parameters: Any) -> Removal:
    """A method by name, with these parameters and its defaults for all others.

    Raises:
        UnknownName: there is no such method; the message lists those that exist.
        InvalidInput: a parameter is unknown or out of range; the message names it.

    >>> from doorward.removal import removal
    >>> removal("fine-tuning", layers="last").layers
    'last'
    """
    return REMOVALS[name].from_dict(parameters)


def restore_modes(repaired: nn.Module, model: nn.Module) -> None:
    """Every submodule and parameter as it was found; what is new follows the model as a whole."""
    modes = {name: module.training for name, module in model.named_modules()}
    for name, module in repaired.named_modules():
        module.training = modes.get(name, model.training)
    trained = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    for name, parameter in repaired.named_parameters():
        parameter.requires_grad_(trained.get(name, True))
        parameter.grad = None
