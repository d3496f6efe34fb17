"""Bending the probabilities: reverse sigmoid, and adaptive misinformation.

>>> import torch
>>> answers, secret = torch.tensor([[1.0, 0.0, 0.0]]), Secret(bytes(32))
>>> told = ReverseSigmoid().answer(answers, answers, secret)
>>> bool(told.isfinite().all()), round(float(told.sum()), 4)
(True, 1.0)
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.honeypot.defences.base import DEFENCES, Defence
from doorward.randomness import Secret
from doorward.records import STRICT

__all__ = ["AdaptiveMisinformation", "ReverseSigmoid"]

_EDGE = 1e-6  # probabilities are kept this far from 0 and 1, where the logit is infinite


@DEFENCES.register("reverse-sigmoid", paper="Lee et al. 2019", gateway=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReverseSigmoid(Defence):
    """``y_k - beta (s(gamma s^-1(y_k)) - 1/2)``, made positive and to sum to 1.

    Lee et al. (2019), *Defending Against Neural Network Model Stealing Attacks Using Deceptive
    Perturbations*. Probabilities that differ are told alike, so the slope that a thief learns is
    wrong. The clipping at the edges is ours (and ART's): public code is infinite at 0 and 1.

    Args:
        beta: size of the bend.
        gamma: steepness of the inner sigmoid.
    """

    beta: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    gamma: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.2

    def answer(self, probabilities: Tensor, images: Tensor, secret: Secret) -> Tensor:
        """The bent probabilities."""
        inside = probabilities.double().clamp(_EDGE, 1 - _EDGE)
        bend = (self.gamma * inside.logit()).sigmoid() - 0.5
        told = (inside - self.beta * bend).clamp_min(_EDGE)
        return (told / told.sum(1, keepdim=True)).to(probabilities.dtype)


@DEFENCES.register("adaptive-misinformation", paper="Kariyappa and Qureshi 2020", gateway=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdaptiveMisinformation(Defence):
    """Lie about whatever the model is not sure of: ``(1 - h) y + h f_mis(x)``.

    Kariyappa and Qureshi (CVPR 2020), *Defending Against Model Stealing Attacks with Adaptive
    Misinformation*. Reproduced: the mixture, with ``h = 1 / (1 + exp(-nu (tau - max y)))``. Ours:
    the paper trains a second network to be wrong, and the first with outlier exposure; here it is
    the answer itself with its ranking reversed, so that any model can be served so, at once.

    Args:
        tau: confidence below which it lies. Which one is low goes by the model.
        nu: steepness of the change.
    """

    tau: Annotated[float, Field(ge=0, le=1)] = 0.7
    nu: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1000.0

    def answer(self, probabilities: Tensor, images: Tensor, secret: Secret) -> Tensor:
        """The mixture."""
        order = probabilities.argsort(dim=1, stable=True)
        lie = probabilities.scatter(1, order, probabilities.gather(1, order).flip(1))
        sure = probabilities.amax(1, keepdim=True)
        h = (self.nu * (self.tau - sure)).double().sigmoid().to(probabilities)
        return (1 - h) * probabilities + h * lie
