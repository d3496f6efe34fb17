"""What an embedding method may do within one training step: ask for slopes, at any weights.

>>> import torch
>>> from torch import nn
>>> model = nn.Linear(1, 2, bias=False)
>>> step = MarkStep(model, number=0, seed=0)
>>> slope = step.slope(torch.tensor([[1.0]]), torch.tensor([1]))
>>> slope.logits.shape, [tensor.shape for tensor in slope.gradient]
(torch.Size([1, 2]), [torch.Size([2, 1])])

Nothing of the model is changed: other weights are put in its place for the length of a call
(`torch.func.functional_call`), so there is nothing to restore and nothing that rounding could
leave behind. Gradients are taken at once and handed to the loop with `attach`, so that memory does
not grow with the number of places a method looks at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from doorward.models.modes import evaluating
from doorward.randomness import generator
from doorward.training import clean_rows
from doorward.training.batchnorm import batchnorm_policy

__all__ = ["MarkStep", "Slope", "attach", "processes"]


class Slope(NamedTuple):
    """A loss with its gradient, taken at once.

    Attributes:
        loss: scalar, detached.
        gradient: one tensor per entry of `MarkStep.parameters`, in their order and shapes.
        logits: float (N, K), detached.
    """

    loss: Tensor
    gradient: list[Tensor]
    logits: Tensor

    def __add__(self, other: object) -> Slope:
        """The sum of both losses; the logits are the first one's."""
        if not isinstance(other, Slope):
            return NotImplemented
        gradient = torch._foreach_add(self.gradient, other.gradient)
        return Slope(self.loss + other.loss, list(gradient), self.logits)

    def scaled(self, weight: float) -> Slope:
        """The same, `weight` times."""
        gradient = torch._foreach_mul(self.gradient, weight)
        return Slope(self.loss * weight, list(gradient), self.logits)


class MarkStep:
    """One step, as an embedding method sees it.

    Args:
        model: the network in training, or its compiled form.
        number: of the step, from 0.
        seed: of the training.
        company: clean images (M, C, H, W) of the batch, which BatchNorm layers take statistics
            from; None for a network without such layers. (Statistics that were constants to the
            gradient would let it run off: it pushes along directions, such as the scale of a
            convolution, that the next batch's statistics cancel.)

    Attributes:
        parameters: the trainable ones by name.
    """

    def __init__(
        self, model: nn.Module, *, number: int, seed: int, company: Tensor | None = None
    ) -> None:
        # Compiled code has the module's own weights built in; its original takes others.
        self.model = cast(nn.Module, getattr(model, "_orig_mod", model))
        self.number, self.seed = number, seed
        named = self.model.named_parameters()
        self.parameters: dict[str, Tensor] = {
            name: parameter for name, parameter in named if parameter.requires_grad
        }
        self._norms = {
            name: layer
            for name, layer in self.model.named_modules()
            if isinstance(layer, _BatchNorm) and layer.training
        }
        self._company = company if self._norms else None

    def generator(self, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
        """Random numbers of this step alone, the same in every process and after a resumption."""
        return generator(self.seed, purpose, self.number, device=device)

    def slope(
        self, images: Tensor, targets: Tensor, parameters: Mapping[str, Tensor] | None = None
    ) -> Slope:
        """Summed cross-entropy and its gradient by the weights.

        BatchNorm normalises the images with the statistics of the clean company, at the same
        weights; the gradient flows through them, and running statistics stay as they are.

        Args:
            images: float (N, C, H, W); with several processes N may be 0.
            targets: int64 labels (N,), or probabilities (N, K).
            parameters: other weights to take both at, by name; the model's own if None.
        """
        places = {
            name: tensor.detach().requires_grad_()
            for name, tensor in (parameters or self.parameters).items()
        }
        company = images[:0] if self._company is None else self._company
        rows = torch.cat([company, images])
        clean = torch.arange(len(rows), device=rows.device) < len(company)
        with (
            batchnorm_policy(self.model, "clean-only", shared=processes()[1] > 1),
            clean_rows(self.model, clean),
        ):
            replaced = {**self._copied_statistics(), **places}
            logits = cast(Tensor, functional_call(self.model, replaced, (rows,))).float()
        logits = logits[len(company) :]
        loss = F.cross_entropy(logits, targets, reduction="sum")
        leaves = list(places.values())
        found = torch.autograd.grad(loss, leaves, allow_unused=True)
        gradient = [
            torch.zeros_like(leaf) if given is None else given
            for given, leaf in zip(found, leaves, strict=True)
        ]
        return Slope(loss.detach(), gradient, logits.detach())

    def image_gradient(self, images: Tensor, targets: Tensor) -> Tensor:
        """Gradient of the summed cross-entropy by the images, in their shape.

        The network is asked as a judge will ask it, in evaluation mode.
        """
        fixed = {name: parameter.detach() for name, parameter in self.parameters.items()}
        moving = images.detach().requires_grad_()
        with evaluating(self.model):
            logits = cast(Tensor, functional_call(self.model, fixed, (moving,))).float()
        loss = F.cross_entropy(logits, targets, reduction="sum")
        return torch.autograd.grad(loss, moving)[0]

    def over_processes(self, gradient: Sequence[Tensor]) -> list[Tensor]:
        """The sum of a gradient over all processes; itself if there is only one."""
        if processes()[1] == 1:
            return list(gradient)
        flat = torch.cat([tensor.flatten() for tensor in gradient])
        dist.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in gradient])
        return [part.view_as(tensor) for part, tensor in zip(parts, gradient, strict=True)]

    def _copied_statistics(self) -> dict[str, Tensor]:
        return {
            f"{name}.{kind}".lstrip("."): buffer.clone()
            for name, layer in self._norms.items()
            for kind, buffer in layer.named_buffers(recurse=False)
        }


def processes() -> tuple[int, int]:
    """Rank of this process and number of processes."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


def attach(slope: Slope, parameters: Mapping[str, Tensor]) -> Tensor:
    """The loss of a slope as a scalar whose backward pass hands out the gradient it came with.

    >>> weight = torch.nn.Parameter(torch.ones(1))
    >>> attach(Slope(torch.tensor(5.0), [torch.tensor([3.0])], weight), {"w": weight}).backward()
    >>> weight.grad.item()
    3.0
    """
    return cast(Tensor, _Attached.apply(slope.loss, slope.gradient, *parameters.values()))  # type: ignore[no-untyped-call]


class _Attached(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, loss: Tensor, gradient: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.gradient = gradient
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        return (None, None, *torch._foreach_mul(ctx.gradient, upstream))
