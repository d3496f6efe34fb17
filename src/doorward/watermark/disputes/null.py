"""Random keys on models that never saw them: is the p-value what it says?

Draw keys, count what each would "prove" on an innocent model, and compare with the binomial law:

>>> import torch
>>> from doorward.watermark.derivation import KeyParameters
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> parameters = KeyParameters(n=10, classes=10, image_shape=(1, 8, 8))
>>> matches = matches_of_random_keys({"always 0": innocent}, parameters, keys=50, seed=0)
>>> result = calibrate(matches["always 0"], n=10, classes=10, suspect="always 0")
>>> result.keys, result.at_or_below(-20.0), result.ks_p > 0.01
(50, 0, True)

For one fixed model the matches of random keys are independent draws from Binomial(n, 1/L), exactly,
because labels are keyed hashes. P-values are then uniform as far as their discreteness allows. The
tests here take the discreteness in their stride: their own p-values come from draws of the same
binomial law, so they hold for any number of keys. Keys shared by several models (as here, where
drawing the pictures is most of the work) make the models' results dependent on each other, so
every model is judged by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from doorward.bundles import open_black_box
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.metrics import binomial_tail_log2, clopper_pearson
from doorward.models import BlackBox
from doorward.randomness import Secret, derive_seed, numpy_generator
from doorward.records import STRICT, Record
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.key import WatermarkKey

__all__ = ["Calibration", "calibrate", "matches_of_random_keys", "random_keys"]

_BATCH = 2000
"""Trigger images that are drawn, and shown to every model, at a time."""

_DRAWS = 9999
"""Samples of the binomial law that a test's p-value comes from; 1e-4 is then the smallest."""

_EXPECTED = 5.0
"""Keys expected in a bin of the chi-square statistic, at least."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Calibration(Record):
    """Random keys on one model, against the binomial law.

    Attributes:
        suspect: what the model is called.
        keys: how many keys were tried.
        n: triggers of each.
        classes: number of classes L.
        counts: position m holds how many keys had m matches; ``n + 1`` numbers.
        smallest_log2_p: log2 of the smallest p-value of any key.
        ks: largest distance between the observed and the exact distribution of p-values.
        ks_p: chance of a distance as large, for random keys.
        chi_square: distance of the counts from the expected ones, rare counts joined.
        chi_square_p: chance of a distance as large, for random keys.
    """

    suspect: str
    keys: Annotated[int, Field(ge=1)]
    n: Annotated[int, Field(ge=1)]
    classes: Annotated[int, Field(ge=2)]
    counts: tuple[int, ...]
    smallest_log2_p: float
    ks: float
    ks_p: float
    chi_square: float
    chi_square_p: float

    def at_or_below(self, log2_alpha: float) -> int:
        """Keys whose p-value is at most ``2**log2_alpha``: false claims by that rule."""
        return sum(
            count
            for matches, count in enumerate(self.counts)
            if count and binomial_tail_log2(matches, self.n, 1 / self.classes) <= log2_alpha
        )

    def tail_points(self) -> list[dict[str, float]]:
        """The p-values against the uniform, ready to be drawn on two logarithmic axes.

        Returns:
            One point per number of matches that occurred: ``log2_p``, its exact p-value;
            ``share``, the share of keys with this p-value or a smaller one; ``low`` and ``high``,
            the exact 95 % interval of that share. On a sound test the points lie on the diagonal.
        """
        points, above = [], 0
        for matches in range(self.n, -1, -1):
            above += self.counts[matches]
            if self.counts[matches]:
                low, high = clopper_pearson(above, self.keys)
                log2_p = binomial_tail_log2(matches, self.n, 1 / self.classes)
                share = above / self.keys
                points.append({"log2_p": log2_p, "share": share, "low": low, "high": high})
        return points


def random_keys(
    parameters: KeyParameters, count: int, *, seed: int | None = None
) -> Iterator[WatermarkKey]:
    """Keys as `WatermarkKey.new` draws them, one after another.

    Args:
        parameters: of every key.
        count: how many.
        seed: makes an experiment's keys repeatable; None draws them from the operating system.
    """
    for number in range(count):
        secret = Secret.new()
        if seed is not None:
            name = f"random key {derive_seed(seed, 'random keys', number)}"
            secret = Secret(hashlib.sha256(name.encode()).digest())
        yield WatermarkKey(secret, parameters)


def matches_of_random_keys(
    suspects: Mapping[str, Any],
    parameters: KeyParameters,
    keys: int = 1000,
    *,
    seed: int | None = None,
) -> dict[str, Tensor]:
    """How many triggers of each of many random keys each model answers with the key's label.

    Every picture is drawn once and shown to all models, many keys at a time; what a thousand keys
    of 100 triggers cost is drawing 100,000 pictures (about a minute at 32x32 on one core) and one
    pass of each model over them. Memory stays bounded.

    Args:
        suspects: name -> model: a module, a bundle's folder, an ``.onnx`` file, an ``http(s)://``
            endpoint, or a callable (as in `watermark.verify`).
        parameters: of the keys, with the models' image shape and number of classes.
        keys: how many.
        seed: see `random_keys`.

    Returns:
        name -> int64 ``(keys,)``, each 0 to ``parameters.n``.

    Raises:
        InvalidInput: no suspects or keys, or a suspect takes images of another shape.
        ModelUnsuitable: a suspect has another number of classes, or answers nonsense.
        EndpointFailed: an endpoint does not answer.
    """
    if not suspects or keys < 1:
        raise InvalidInput(f"{keys} keys on {len(suspects)} models", why="1 and 1 are the least")
    boxes = {name: open_black_box(suspect) for name, suspect in suspects.items()}
    found: dict[str, list[Tensor]] = {name: [] for name in boxes}
    drawn = random_keys(parameters, keys, seed=seed)
    while chunk := [key.triggers() for key in islice(drawn, max(1, _BATCH // parameters.n))]:
        images = torch.cat([images for images, _ in chunk]).float().div_(255)
        labels = torch.stack([labels for _, labels in chunk])
        for name, box in boxes.items():
            answers = _answers(name, box, images, parameters.classes)
            found[name].append((answers.view_as(labels) == labels).sum(1))
    return {name: torch.cat(parts) for name, parts in found.items()}


def calibrate(
    matches: Tensor, *, n: int, classes: int, suspect: str = "suspect", seed: int = 0
) -> Calibration:
    """Compare the matches of random keys on one model with the exact law.

    Args:
        matches: int ``(K,)``, one number per key (see `matches_of_random_keys`).
        n: triggers of each key.
        classes: number of classes L.
        suspect: what to call the model.
        seed: of the samples that the two tests' p-values come from.

    Raises:
        InvalidInput: no keys, or matches outside ``0..n``.
    """
    if not len(matches) or int(matches.min()) < 0 or int(matches.max()) > n:
        raise InvalidInput(f"matches of {n} triggers are needed", why="each counts 0 to n")
    from scipy.stats import binom

    keys = len(matches)
    counts = torch.bincount(matches, minlength=n + 1).numpy()
    law = binom.pmf(np.arange(n + 1), n, 1 / classes)
    law = law / law.sum()
    draws = numpy_generator(seed, "calibration", keys, n, classes)
    samples = draws.multinomial(keys, law, size=_DRAWS)
    edges = _edges(law * keys)
    ks, ks_law = _distance(counts[None], law), _distance(samples, law)
    chi, chi_law = _chi_square(counts[None], law, edges), _chi_square(samples, law, edges)
    return Calibration(
        suspect=suspect,
        keys=keys,
        n=n,
        classes=classes,
        counts=tuple(counts.tolist()),
        smallest_log2_p=binomial_tail_log2(int(matches.max()), n, 1 / classes),
        ks=float(ks[0]),
        ks_p=_share_above(ks_law, ks[0]),
        chi_square=float(chi[0]),
        chi_square_p=_share_above(chi_law, chi[0]),
    )


def _answers(name: str, box: BlackBox, images: Tensor, classes: int) -> Tensor:
    answers = box.labels(images)
    outside = bool((answers < 0).any() or (answers >= classes).any())
    if outside or box.num_classes not in (None, classes):
        raise ModelUnsuitable(
            f"{name} answers other classes than 0 to {classes - 1}",
            why=f"the keys are for {classes} classes",
            remedy="draw keys for the model's own number of classes",
        )
    return answers


def _distance(counts: Any, law: Any) -> Any:
    """Kolmogorov and Smirnov's statistic of each row of counts."""
    share = counts.cumsum(1) / counts.sum(1, keepdims=True)
    return np.abs(share - law.cumsum()).max(1)


def _edges(expected: Any) -> list[int]:
    """First position of each bin: neighbours are joined until enough keys are expected in it."""
    edges, gathered = [0], 0.0
    for place, value in enumerate(expected):
        if gathered >= _EXPECTED and expected[place:].sum() >= _EXPECTED:
            edges.append(place)
            gathered = 0.0
        gathered += float(value)
    return edges


def _chi_square(counts: Any, law: Any, edges: list[int]) -> Any:
    expected = np.add.reduceat(law, edges) * counts.sum(1, keepdims=True)
    observed = np.add.reduceat(counts, edges, axis=1)
    return ((observed - expected) ** 2 / expected).sum(1)


def _share_above(samples: Any, observed: Any) -> float:
    """The observed value counts as one of the samples, which makes the test exact."""
    nearly = float(observed) * (1 - 1e-9)  # equal counts may differ in the last bit
    return float((1 + (samples >= nearly).sum()) / (1 + len(samples)))
