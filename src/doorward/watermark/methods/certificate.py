"""How far may the weights be moved before the mark may go? A certificate, by noise on the weights.

>>> import torch
>>> from torch import nn
>>> from doorward.watermark.key import WatermarkKey
>>> key = WatermarkKey.new(n=10, classes=10, image_shape=(1, 16, 16))
>>> model = nn.Sequential(nn.Flatten(), nn.Linear(256, 10))
>>> certificate = certify(model, key, sigma=0.01, samples=100)
>>> certificate.n, certificate.radius(11), certificate.radius(0) > 0
(10, 0.0, True)

What is certified, exactly. Write m(w) for the number of triggers that the model with parameters w
gives the key's label, and M(w) for the *median* of m(w + z) over Gaussian noise z, independent and
of standard deviation sigma on every parameter: the matches of the smoothed model. Then, with the
stated confidence (over the draws made here), M(w + d) >= k for every change d of the parameters
whose L2 norm is at most `radius(k)`, whoever made it and however. It says nothing of m(w + d)
itself, of changed BatchNorm statistics, of changed architectures, or of extraction.

Bansal et al. (2022, ICML), after Chiang et al. (2020) and Cohen et al. (2019): if m(w + z) >= k
has probability q, then m(w + d + z) >= k has at least Phi(Phi^-1(q) - |d| / sigma), which is one
half at |d| = sigma Phi^-1(q). As in their code, q is estimated from samples with an exact bound.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.func import functional_call

from doorward.errors import InvalidInput
from doorward.metrics import clopper_pearson
from doorward.models import require_model
from doorward.models.modes import evaluating
from doorward.randomness import generator
from doorward.records import STRICT, Record
from doorward.watermark.methods.certified import noisy
from doorward.watermark.triggerset import TriggerSet

__all__ = ["Certificate", "certify", "matches_under_noise"]

_ROWS = 512


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Certificate(Record):
    """What `certify` found. Each answer holds with `confidence` if it was asked for in advance.

    Attributes:
        n: triggers.
        classes: classes L of the key.
        parameters: how many numbers the noise was added to.
        sigma: its standard deviation.
        confidence: of `radius` and of `matches_within`, for one number that was not chosen by
            looking at the results.
        draws: ``draws[k]``: how many draws of the noise left exactly k matches, k from 0 to n.
        matches: of the model itself, without noise.
        seed: of the noise.
    """

    n: Annotated[int, Field(ge=1)]
    classes: Annotated[int, Field(ge=2)]
    parameters: Annotated[int, Field(ge=1)]
    sigma: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    draws: tuple[Annotated[int, Field(ge=0)], ...]
    matches: Annotated[int, Field(ge=0)]
    seed: int

    def __post_init__(self) -> None:
        if len(self.draws) != self.n + 1 or not sum(self.draws) or self.matches > self.n:
            raise InvalidInput(
                f"{sum(self.draws)} draws over {len(self.draws)} numbers of matches, and "
                f"{self.matches} matches, are not those of {self.n} triggers"
            )

    @property
    def samples(self) -> int:
        """Draws of the noise."""
        return sum(self.draws)

    @property
    def median(self) -> int:
        """The median number of matches under noise, as observed (the lower one of two)."""
        return self._quantile((self.samples + 1) // 2)

    def radius(self, matches: int) -> float:
        """How far the weights may be moved, in L2 norm, with a median of `matches` or more.

        Args:
            matches: of the smoothed model, for example what the claim needs.

        Returns:
            The radius; 0.0 if nothing is certified, infinity for 0 matches.
        """
        if matches <= 0:
            return math.inf
        hits = sum(self.draws[matches:])
        # Two-sided intervals of confidence 2c - 1 have a one-sided lower bound of confidence c.
        chance = clopper_pearson(hits, self.samples, 2 * self.confidence - 1)[0]
        return max(0.0, self.sigma * _normal_quantile(chance)) if chance > 0 else 0.0

    def matches_within(self, radius: float) -> int:
        """The median matches that are certified for all weights within a radius, 0 to n.

        Args:
            radius: L2 norm of the change of the parameters, at least 0.
        """
        if not radius >= 0:
            raise InvalidInput(f"the radius is {radius}", why="a length is 0 or more")
        low, high = 0, self.n + 1
        while high - low > 1:
            middle = (low + high) // 2
            reached = self.radius(middle)
            certain = reached >= radius and reached > 0
            low, high = (middle, high) if certain else (low, middle)
        return low

    def explain(self, matches: int) -> str:
        """The certificate for a number of matches, in plain words."""
        radius = self.radius(matches)
        found = (
            f"The model answers {self.matches} of {self.n} triggers with the key's label. With "
            f"Gaussian noise of standard deviation {self.sigma:g} on its {self.parameters} "
            f"parameters it was the median of {self.median}, in {self.samples} draws."
        )
        if radius <= 0:
            return f"{found} A median of {matches} is not certified for any change of the weights."
        return (
            f"{found} However the parameters are changed, if the change has an L2 norm of at most "
            f"{radius:.4g}, the median under such noise is {matches} or more (confidence "
            f"{self.confidence:.4g}). This says nothing of the changed model without noise, nor of "
            "changed BatchNorm statistics."
        )

    def _quantile(self, place: int) -> int:
        seen = 0
        for matches, count in enumerate(self.draws):
            seen += count
            if seen >= place:
                return matches
        return self.n


def certify(
    model: nn.Module,
    key: TriggerSet,
    *,
    sigma: float,
    samples: int = 1000,
    confidence: float = 0.99,
    seed: int = 0,
) -> Certificate:
    """Certify the mark of a model against bounded changes of its weights (see this module).

    Args:
        model: the marked model; it is not changed.
        key: what it was marked with.
        sigma: standard deviation of the noise, on every parameter. The radius cannot exceed about
            3 times this with 1,000 draws; with too much noise nothing is certified.
        samples: draws. They bound the largest radius: n draws without a miss certify
            sigma Phi^-1((1 - confidence) ** (1 / n)).
        confidence: above 0.5, below 1.
        seed: of the noise.

    Raises:
        InvalidInput: a number is out of range.
        ModelUnsuitable: the model does not take the triggers, or has other classes.

    Bansal et al. (2022): 1,000 draws, confidence 0.99, sigma 1. They read a lower bound of the
    median accuracy off the sorted samples; the bound on the probability used here is its dual and
    gives the same answers.
    """
    if not (sigma > 0 and math.isfinite(sigma)):
        raise InvalidInput(f"sigma is {sigma}", why="noise has a standard deviation above 0")
    if samples < 1:
        raise InvalidInput(f"{samples} draws of the noise", why="at least one is needed")
    if not 0.5 < confidence < 1:
        raise InvalidInput(f"confidence is {confidence}", why="it lies between 0.5 and 1")
    require_model(model, input_shape=key.image_shape, classes=key.classes, head=False)
    noisy_matches = matches_under_noise(model, key, sigma=sigma, samples=samples, seed=seed)
    return Certificate(
        n=key.n,
        classes=key.classes,
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        sigma=sigma,
        confidence=confidence,
        draws=tuple(noisy_matches.bincount(minlength=key.n + 1).tolist()),
        matches=int(matches_under_noise(model, key, sigma=0.0, samples=1, seed=seed)),
        seed=seed,
    )


def matches_under_noise(
    model: nn.Module, key: TriggerSet, *, sigma: float, samples: int, seed: int = 0
) -> Tensor:
    """Matches of a model with Gaussian noise on its parameters, one number per draw.

    Args:
        model: not changed; run in evaluation mode, in the precision of its weights.
        key: whose triggers.
        sigma: standard deviation of the noise; 0 for none.
        samples: draws.
        seed: of the noise; draw i is the same for every `samples`.

    Returns:
        int64 (samples,), on the CPU.
    """
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}
    device = next(iter(parameters.values())).device
    images, labels = key.triggers()
    batches = [
        (part.to(device).float() / 255, answers.to(device))
        for part, answers in zip(
            torch.split(images, _ROWS), torch.split(labels, _ROWS), strict=True
        )
    ]
    found = torch.zeros(samples, dtype=torch.int64, device=device)
    with evaluating(model), torch.no_grad():
        for number in range(samples):
            draw = generator(seed, "certificate", number, device=device)
            changed = noisy(parameters, sigma, draw) if sigma else parameters
            for part, answers in batches:
                logits = functional_call(model, changed, (part,))
                # Where noise makes a network overflow, it answers nothing.
                right = (logits.argmax(1) == answers) & logits.isfinite().all(1)
                found[number] += right.sum()
    return found.cpu()


def _normal_quantile(chance: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(chance))
