"""``doorward harden``: make a model's classes harder to lead into each other, within a budget.

::

    doorward harden mine.model --data my-photos --budget-accuracy 1 --out hard.model
    doorward harden nets:make=mine.safetensors --data cifar10 --validation cifar10 --out hard.model
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Device, Json, Root, Seed, answer, note, table
from doorward.cli.distances import Compared, attacks_of, compared, distances_of
from doorward.cli.options import Channels, Out, Size, TrustFactory
from doorward.cli.suspects import CleanData, Labelled, Limit, Model, Split

if TYPE_CHECKING:
    from doorward.data import ImageData
    from doorward.hardening import DistanceResult, HardeningResult

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog="Example: doorward harden mine.model --data my-photos --budget-accuracy 1 "
        "--out hard.model --report hard.html"
    )(harden)


def _complete_method(incomplete: str) -> list[str]:
    from doorward.hardening import HARDENINGS

    return [name for name in HARDENINGS if name.startswith(incomplete)]


def harden(
    model: Model,
    data: CleanData,
    out: Out,
    budget_accuracy: Annotated[
        float,
        typer.Option(
            help="Points of accuracy that may be lost, on held-out images.", min=0, max=100
        ),
    ] = 1.0,
    method: Annotated[
        str, typer.Option(help="How to harden.", autocompletion=_complete_method)
    ] = "deck",
    option: Annotated[
        list[str] | None,
        typer.Option(
            help="A parameter of the method, as name=value (steps=800); may be repeated.",
            show_default=False,
        ),
    ] = None,
    validation: Annotated[
        str | None,
        typer.Option(
            help="Hold the budget by this data set's test images, and measure on them. Default: "
            "a fifth of --data.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Of distance to measure before and after: pixel, patch, ssim, lpips, "
            "parameters, or none; may be repeated. Default: pixel.",
            show_default=False,
        ),
    ] = None,
    measure_option: Annotated[
        list[str] | None,
        typer.Option(
            help="A number of the measuring attack, as name=value (starts=3); may be repeated.",
            show_default=False,
        ),
    ] = None,
    labels: Labelled = "given",
    images: Limit = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder for finished parts, to go on after a stop.", show_default=False),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML report.", show_default=False)
    ] = None,
    split: Split = None,
    size: Size = None,
    channels: Channels = None,
    trust_factory: TrustFactory = False,
    root: Root = None,
    seed: Seed = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a copy of a model on changes that lead its classes astray: 0, or 1 if nothing was kept.

    The model that is written has lost no more than the budget on images that it was not trained on;
    parts of the training that cost more are undone. Distances are measured before and after by a
    fixed attack that is not the one trained with.
    """
    from doorward.cli.options import parse_options, require_free, require_writable
    from doorward.cli.suspects import clean_images, open_suspect, save_repaired
    from doorward.hardening import harden as apply
    from doorward.hardening import hardening
    from doorward.randomness import derive_seed
    from doorward.training.context import usable_images

    require_free(out)
    if report is not None:
        require_writable(report, file=True)
    chosen = hardening(method, **parse_options(option))
    attacks = attacks_of(kind, parse_options(measure_option))
    suspect = open_suspect(model, trust_factory=trust_factory)
    taken: dict[str, Any] = {"root": root, "size": size, "channels": channels, "seed": seed}
    clean = clean_images(suspect, data, split=split, labels=labels, count=images, **taken)
    if validation is None:
        count = max(1, round(chosen.held_out * len(clean)))
        apart = derive_seed(seed, "harden", "hold out")
        clean, held = clean.split(len(clean) - count, count, seed=apart)
    else:
        held = clean_images(suspect, validation, split="test", labels=labels, count=None, **taken)
    if 0 < len(held) * budget_accuracy < 100:
        note(
            f"A budget of {budget_accuracy:g} points is less than one of {len(held)} held-out "
            "images: none may be lost. Give more images or a larger budget."
        )
    # Before and after are judged by the same labels: the original's, where the model gives them.
    held = usable_images(suspect.model, held, labels)  # type: ignore[arg-type]
    shared: dict[str, Any] = {"seed": seed, "device": device, "progress": True}
    before = [distances_of(suspect.model, held, attack, shared) for attack in attacks]
    hardened, result = apply(
        suspect.model,
        clean,
        chosen,
        budget_accuracy=budget_accuracy,
        validation=held,
        labels=labels,  # type: ignore[arg-type]
        checkpoint=checkpoint,
        **shared,
    )
    measured = [compared(hardened, held, *pair, shared) for pair in before]
    distances = [
        {
            "before": entry.before.to_dict(),
            "after": entry.after.to_dict(),
            "enlargement": entry.grown.to_dict(),
        }
        for entry in measured
    ]
    save_repaired(
        suspect,
        hardened,
        clean,
        out,
        metrics={"held_out_accuracy": result.accuracy_after},
        evidence={"harden.json": {**result.to_dict(), "distances": distances}},
    )
    if report is not None:
        _report(report, model, result, measured, held)
    answer(
        {
            "model": str(out),
            "report": None if report is None else str(report),
            **result.to_dict(),
            "distances": distances,
        },
        as_json=as_json,
        lines=[
            *_lines(result, measured),
            f"Model: {out}",
            *([f"Report: {report}"] if report else []),
        ],
        yes=result.kept_steps > 0,
    )


def _lines(result: HardeningResult, measured: list[Compared]) -> list[str]:
    """A hardening for the terminal."""
    rows = [
        [
            f"{check.steps}",
            "diverged" if check.accuracy is None else f"{check.accuracy:.2%}",
            "" if check.success is None else f"{check.success:.0%}",
            "kept" if check.kept else "undone",
            f"{check.seconds:.0f} s",
        ]
        for check in result.checks
    ]
    lines = [table(["steps", "accuracy", "led astray", "", "time"], rows), result.told()]
    for entry in measured:
        grown = entry.grown.relative.mean
        lines.append(
            f"Mean {entry.before.kind} distance {_short(entry.before)} -> {_short(entry.after)}"
            + ("" if grown is None else f", {grown:+.0%} over the pairs")
            + (f"; {entry.grown.escaped} pairs went out of reach" if entry.grown.escaped else "")
        )
    return lines


def _short(result: DistanceResult) -> str:
    return "-" if result.mean.mean is None else f"{result.mean.mean:.3g}"


def _report(
    path: Path,
    model: str,
    result: HardeningResult,
    measured: list[Compared],
    held: ImageData,
) -> None:
    from doorward.reporting import Report, environment_table
    from doorward.reporting.hardened import hardening_section, natural_section

    page = Report("A model hardened", model)
    page.add(hardening_section(result, [(entry.before, entry.after) for entry in measured]))
    for entry in measured:
        page.add(natural_section(entry.before, entry.found, held, entry.survive))
    page.section("Environment", environment_table(result.environment))
    page.write(path)
