"""What is shown and written of class distances: by ``doorward distance`` and ``doorward harden``.

::

    lines = distance_lines(result)
    write_distances(Path("distances"), "mine.model", result, found, clean)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from doorward.cli.common import table

if TYPE_CHECKING:
    from torch import nn

    from doorward.data import ImageData
    from doorward.hardening import DistanceResult, Enlargement, Measuring, PairAttack

__all__ = [
    "RESULT",
    "Compared",
    "attacks_of",
    "compared",
    "distance_lines",
    "distances_of",
    "report_distances",
    "write_distances",
]

RESULT = "distances.json"
_SHOWN = 15  # classes in the printed matrix
_CLOSEST = 5


def distance_lines(result: DistanceResult) -> list[str]:
    """Distances for the terminal: the matrix, the mean, the closest pairs."""
    names = [name[:8] for name in result.classes]
    lines = []
    if len(names) <= _SHOWN:
        rows = [
            [name, *(_cell(result, s, t) for t in range(len(names)))]
            for s, name in enumerate(names)
        ]
        lines.append(table(["from \\ to", *names], rows))
    else:
        lines.append(f"({len(names)} classes: the whole matrix is in --json and --out)")
    mean = result.mean
    if mean.mean is not None:
        lines.append(
            f"Mean {result.kind} distance {mean.mean:.3g} (95 % over the pairs: {mean.low:.3g} to "
            f"{mean.high:.3g}), {mean.count} of {len(result.pairs)} pairs reached, in "
            f"{result.seconds:.0f} s."
        )
    if result.unreachable:
        lines.append(f"{len(result.unreachable)} pairs out of reach (x).")
    closest = result.closest(_CLOSEST)
    if closest:
        rows = [
            [
                f"{result.classes[close.source]} to {result.classes[close.target]}",
                f"{close.distance:.3g}",
                f"{close.success:.0%}",
            ]
            for close in closest
        ]
        lines.append(table(["closest pairs", result.kind, "success"], rows))
    return lines


def _cell(result: DistanceResult, source: int, target: int) -> str:
    value = result.distances[source][target]
    if value is not None:
        return f"{value:.3g}"
    return "x" if result.censored[source][target] else ""


def write_distances(
    out: Path, model: str, result: DistanceResult, found: PairAttack, clean: ImageData
) -> None:
    """The folder of a measurement, whole or not at all."""
    from doorward.files import atomic_folder, write_json
    from doorward.reporting.hardening import close_pairs, heat_map

    with atomic_folder(out) as place:
        write_json(place / RESULT, {"model": model, **result.to_dict()})
        heat_map(result).save(place / "distances.png", format="PNG")
        picture = close_pairs(result, found, clean)
        if picture is not None:
            picture.save(place / "closest.png", format="PNG")


def report_distances(
    path: Path, model: str, result: DistanceResult, found: PairAttack, clean: ImageData
) -> None:
    """A page about a measurement."""
    from doorward.reporting import Report, environment_table
    from doorward.reporting.hardening import distance_section

    page = Report("Class distances", model)
    page.add(distance_section(result, found, clean))
    page.section("Environment", environment_table(result.environment))
    page.write(path)


class Compared(NamedTuple):
    """One kind of distance, before and after hardening.

    Attributes:
        before: of the original.
        found: the changes behind it.
        after: of the hardened model, by the same attack.
        grown: from one to the other.
        survive: for each row of `found`, its success on the hardened model.
    """

    before: DistanceResult
    found: PairAttack
    after: DistanceResult
    grown: Enlargement
    survive: list[float]


def attacks_of(kinds: list[str] | None, options: dict[str, Any]) -> list[Measuring]:
    """The measuring attacks of --kind and --measure-option."""
    from doorward.hardening import measuring

    named = kinds or ["pixel"]
    return [] if named == ["none"] else [measuring(name, **options) for name in named]  # type: ignore[arg-type]


def distances_of(
    model: nn.Module, held: ImageData, attack: Measuring, shared: dict[str, Any]
) -> tuple[DistanceResult, PairAttack]:
    """All distances by one attack; `shared` are seed, device and progress."""
    from doorward.hardening import measure_distances

    return measure_distances(model, held, attack=attack, kind=attack.kind, **shared)


def compared(
    hardened: nn.Module,
    held: ImageData,
    before: DistanceResult,
    found: PairAttack,
    shared: dict[str, Any],
) -> Compared:
    """Measure the hardened model as the original was measured, and try the old changes on it."""
    from doorward.hardening import Measuring, enlargement, success_on

    after, _ = distances_of(hardened, held, Measuring.from_dict(before.measuring), shared)
    survive = success_on(hardened, found, held, seed=shared["seed"], device=shared["device"])
    return Compared(before, found, after, enlargement(before, after), survive.tolist())
