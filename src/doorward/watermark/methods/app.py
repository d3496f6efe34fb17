"""Adversarial parametric perturbation: learn the mark where a small change of the weights hurts it.

>>> from doorward.watermark.methods import make_embedding
>>> make_embedding("app", {"eps": 0.05}).alpha
1.0

A marked model that is fine-tuned or pruned moves a little way in weight space. APP looks, in every
step, for the nearby weights at which the triggers do worst, and learns them there as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from doorward.records import STRICT
from doorward.watermark.methods.base import EMBEDDINGS, Embedding, Weight
from doorward.watermark.methods.step import MarkStep, Slope

__all__ = ["App", "adversarial_shift", "adversarial_slope"]

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


@EMBEDDINGS.register("app", paper="Gan et al. 2023 (ICCV)", removal="fine-tuning, pruning")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class App(Embedding):
    """Triggers are learnt at the weights, and at the worst weights nearby (Gan et al. 2023).

    Args:
        eps: L2 norm of the change of each weight tensor, relative to the tensor's own.
        alpha: what a trigger at the changed weights counts in the loss, where a clean image
            counts 1.
        every: only every so manieth step has the second term, which then counts as many times.

    From the paper and its code: the direction (the gradient of the triggers' loss, normalised for
    each tensor), no change of normalisation layers, BatchNorm statistics from clean
    samples that pass along (there 64), triggers in the ordinary batch as well. There 64 watermark
    images at weight 0.01 stand beside a batch of which one image in a hundred is a watermark: both
    terms weigh the same, as with alpha 1 here. Ours: scales and biases of BatchNorm learn from the
    second term too; it is taken every other step, which in first trials on digits was as good as
    the paper's every step, at half the cost. The paper's size is 0.02, in ResNet-18 trained for 100
    epochs. In a short training of ResNet-8 on CIFAR-10 (5 epochs, one seed) triggers were never
    learnt at weights so far away (9 % right, 7 points of accuracy lost); at 0.005, begun after 30 %
    of the training, 60 % were, at a cost of one point. Both are parameters.
    """

    exposures: ClassVar[int] = 100
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.3
    eps: Annotated[float, Field(gt=0, le=10, allow_inf_nan=False)] = 0.005
    alpha: Weight = 1.0
    every: Annotated[int, Field(ge=1, strict=True)] = 2

    def besides(self, step: MarkStep, images: Tensor, targets: Tensor) -> Slope | None:
        """The triggers' slope at the worst weights nearby."""
        if step.number % self.every:
            return None
        return adversarial_slope(step, images, targets, self.eps).scaled(self.alpha * self.every)


def adversarial_slope(step: MarkStep, images: Tensor, targets: Tensor, eps: float) -> Slope:
    """Loss and gradient of the triggers at the weights that `adversarial_shift` leads to."""
    gradient = step.over_processes(step.slope(images, targets).gradient)
    pushes = dict(zip(step.parameters, gradient, strict=True))
    for name in _of_norms(step.model):
        pushes.pop(name, None)
    if not pushes:  # nothing but normalisation layers is trained
        return step.slope(images, targets)
    weights = [step.parameters[name] for name in pushes]
    shifts = adversarial_shift(weights, list(pushes.values()), eps)
    with torch.no_grad():
        changed = torch._foreach_add(weights, shifts)
    places = {**step.parameters, **dict(zip(pushes, changed, strict=True))}
    return step.slope(images, targets, places)


def adversarial_shift(
    weights: Sequence[Tensor], gradient: Sequence[Tensor], eps: float
) -> list[Tensor]:
    """A step up the gradient, of `eps` times the length of each weight tensor.

    Args:
        weights: tensors of any shapes.
        gradient: of the loss by them, in the same shapes.
        eps: relative L2 norm of the step. Where weights or gradient are zero, there is none.

    >>> adversarial_shift([torch.tensor([3.0, 4.0])], [torch.tensor([0.0, -9.0])], 0.1)
    [tensor([ 0.0000, -0.5000])]
    """
    with torch.no_grad():
        lengths = torch.stack(torch._foreach_norm(list(weights)))
        slopes = torch.stack(torch._foreach_norm(list(gradient)))
        factors = torch.where(slopes > 0, eps * lengths / slopes, 0.0)
        return list(torch._foreach_mul(list(gradient), list(factors.unbind())))


def _of_norms(model: nn.Module) -> list[str]:
    """Names of the parameters of normalisation layers."""
    return [
        f"{name}.{own}".lstrip(".")
        for name, layer in model.named_modules()
        if isinstance(layer, _NORMS)
        for own, _ in layer.named_parameters(recurse=False)
    ]
