"""How far apart are the classes of a model? One call, the whole matrix at once.

result = class_distances(model, clean)                       # patches, all pairs, three starts
result = class_distances(model, clean, kind="ssim", pairs=[(3, 5), (5, 3)])
result, found = measure_distances(model, clean)              # with the changes, to look at
found.apply(0, images)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.hardening.aims import Aims
from doorward.hardening.distance.intervals import bootstrap
from doorward.hardening.distance.measuring import Measuring, measuring
from doorward.hardening.distance.results import DistanceResult, Matrix, median
from doorward.hardening.engine import PairAttack, attack_in
from doorward.hardening.measures import Measure
from doorward.hardening.transforms import Coder
from doorward.records import environment, measure
from doorward.training.context import Context, Labels, usable_images
from doorward.training.distributed import resolve_device

__all__ = ["class_distances", "measure_distances"]

Pairs = Literal["all"] | Sequence[tuple[int, int]]


def class_distances(
    model: nn.Module,
    clean: ImageData,
    *,
    kind: Measure = "patch",
    pairs: Pairs = "all",
    seeds: int | None = None,
    attack: Measuring | None = None,
    reference: nn.Module | None = None,
    coder: Coder | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    progress: bool = False,
) -> DistanceResult:
    """Measure the distance of every ordered pair of classes; see `measure_distances`."""
    return measure_distances(
        model,
        clean,
        kind=kind,
        pairs=pairs,
        seeds=seeds,
        attack=attack,
        reference=reference,
        coder=coder,
        seed=seed,
        device=device,
        labels=labels,
        progress=progress,
    )[0]


def measure_distances(
    model: nn.Module,
    clean: ImageData,
    *,
    kind: Measure = "patch",
    pairs: Pairs = "all",
    seeds: int | None = None,
    attack: Measuring | None = None,
    reference: nn.Module | None = None,
    coder: Coder | None = None,
    seed: int = 0,
    device: str | torch.device = "auto",
    labels: Labels = "given",
    progress: bool = False,
) -> tuple[DistanceResult, PairAttack]:
    """Measure class distances, and keep the changes that attain them.

    The distance from a class to another is the size of the smallest change that leads nine in ten
    of its images there. With ``"patch"`` it is MOTH's (Tao et al. 2022): the sum of an inverted
    mask over all channels, the smallest of three starts; unlike in their code a pair that was
    never reached is censored, not 0. The other kinds are for whole-image changes. DECK (Tao et
    al. 2022) reports a distance without saying of what; ours are the mean L2 norm of the change
    (``"pixel"``), ``1 - SSIM``, a distance of feature maps, and the deviation of parameters.
    All pairs and starts share one forward pass.

    Args:
        model: any module from images in [0, 1] to logits; stays as it is.
        clean: images that it was not trained on; MOTH takes 100 of each class.
        kind: of distance.
        pairs: ``"all"``, or ordered pairs (source, target).
        seeds: random starts per pair; None for the attack's own, 3 by default.
        attack: another measuring attack than `measuring(kind)`; it decides the kind.
        reference: whose feature maps ``"lpips"`` compares: before and after hardening it must be
            the same, e.g. the original; the measured model if None.
        coder: for attacks with the latent family.
        seed: of everything random.
        device: ``"auto"``, ``"cpu"``, ``"cuda"``, ...
        labels: ``"given"``, or ``"model"`` to take the model's own answers.
        progress: whether to draw progress bars.

    Returns:
        The result, and the best change of each pair, one row each in the order of
        ``result.pairs``, on the CPU.

    Raises:
        InvalidInput: pairs, images or the attack do not fit.
        ModelUnsuitable: the model does not take the images.
    """
    where = resolve_device(device)
    chosen = attack or measuring(kind)
    if attack is not None and kind not in ("patch", attack.kind):
        raise InvalidInput(f"the attack measures {attack.kind}, the kind is {kind}")
    if seeds is not None:
        chosen = Measuring.from_dict({**chosen.to_dict(), "starts": seeds})
    clean = usable_images(model, clean, labels)
    if isinstance(pairs, str) and pairs != "all":
        raise InvalidInput(f"pairs is {pairs!r}", why="'all' or pairs of classes are expected")
    named: Literal["pairs"] | list[tuple[int | None, int | None]]
    named = "pairs" if isinstance(pairs, str) else sorted(map(_whole_pair, pairs))
    aims = Aims.of(named, clean.num_classes, starts=chosen.starts)
    context = Context(model, seed=seed, device=where, progress=progress, room="measuring")
    measures: tuple[Measure, ...] = ("pixel", "ssim", "lpips")
    if chosen.space is not None:
        measures = (*measures, "parameters")
    with measure() as meter:
        found = attack_in(
            context,
            clean,
            aims,
            chosen.space,
            chosen.settings,
            coder=coder,
            reference=reference,
            measures=measures,
        )
    by_start = _by_start(found, chosen.kind, chosen.starts)
    best = found.taken(_best_rows(by_start, chosen.starts))
    count, order = clean.num_classes, best.aims
    values = best.measures[chosen.kind]
    reached = best.reached
    result = DistanceResult(
        kind=chosen.kind,
        measuring=chosen.to_dict(),
        recipe_digest=chosen.digest(),
        data=clean.name,
        images=len(clean),
        labels=labels,
        classes=clean.classes,
        distances=_matrix(count, order, values, reached),
        censored=[
            [cell is not None for cell in row] for row in _matrix(count, order, values, ~reached)
        ],
        success=_matrix(count, order, best.success, reached),
        measures={
            name: _matrix(count, order, column, reached) for name, column in best.measures.items()
        },
        by_start=[_matrix(count, order, column, column.isfinite()) for column in by_start],
        mean=bootstrap(values[reached].tolist(), seed=seed),
        median=median([float(v) if ok else None for v, ok in zip(values, reached, strict=True)]),
        start_spread=_spread(by_start),
        seed=seed,
        device=str(where),
        seconds=meter.seconds,
        forward_images=found.forward_images,
        peak_memory_mib=meter.peak_memory_mib,
        environment=environment(),
    )
    return result, best


def _whole_pair(pair: tuple[int, int]) -> tuple[int | None, int | None]:
    if not isinstance(pair, tuple | list) or len(pair) != 2 or None in pair:
        raise InvalidInput(f"{pair!r} is no pair of classes", why="(source, target) is expected")
    return pair[0], pair[1]


def _by_start(found: PairAttack, kind: Measure, starts: int) -> Tensor:
    """Distances (S, P), infinite where a start did not reach its target."""
    values = torch.where(found.reached, found.measures[kind], torch.inf)
    return values.view(starts, -1)  # `Aims.of` puts the starts one after another


def _best_rows(by_start: Tensor, starts: int) -> Tensor:
    return by_start.argmin(0) * by_start.shape[1] + torch.arange(by_start.shape[1])


def _matrix(count: int, aims: Aims, values: Tensor, where: Tensor) -> Matrix:
    cells: Matrix = [[None] * count for _ in range(count)]
    for (s, t), value, wanted in zip(aims.pairs, values.tolist(), where.tolist(), strict=False):
        if wanted and s is not None and t is not None:
            cells[s][t] = value
    return cells


def _spread(by_start: Tensor) -> float | None:
    """Median over the pairs that every start reached of their relative standard deviation."""
    sound = by_start[:, by_start.isfinite().all(0)].double()
    if len(sound) < 2 or not sound.shape[1]:
        return None
    return float((sound.std(0) / sound.mean(0).clamp_min(1e-12)).quantile(0.5))
