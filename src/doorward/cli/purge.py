"""``doorward purge``: take what a scan finds out of a model, within a budget of accuracy.

::

    doorward purge theirs.model --data my-photos --budget-accuracy 1 --out clean.model
    doorward purge nets:make=theirs.safetensors --data cifar10 --images 2500 --out clean.model
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from doorward.cli.common import Device, Json, Root, Seed, answer, note
from doorward.cli.options import Channels, Out, Size, TrustFactory
from doorward.cli.suspects import (
    AtOnce,
    CleanData,
    ControlModels,
    ControlsFile,
    Labelled,
    Limit,
    Model,
    ScannerName,
    ScannerOptions,
    Split,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from doorward.data import ImageData
    from doorward.removal import PurgeResult
    from doorward.scanning import Recovered, ScanResult

__all__ = ["add_to"]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(
        epilog="Example: doorward purge theirs.model --data my-photos --budget-accuracy 1 "
        "--out clean.model"
    )(purge)


def _complete_method(incomplete: str) -> list[str]:
    from doorward.removal import REMOVALS

    return [name for name in REMOVALS if name.startswith(incomplete)]


def purge(
    model: Model,
    data: CleanData,
    out: Out,
    budget_accuracy: Annotated[
        float,
        typer.Option(help="Points of accuracy that may be lost, on held-out images.", min=0),
    ] = 1.0,
    finish: Annotated[
        list[str] | None,
        typer.Option(
            help="A method that needs no trigger, after unlearning; may be repeated, the first "
            "that is acceptable counts; none for none. Default: fst, then ft-sam.",
            autocompletion=_complete_method,
            show_default=False,
        ),
    ] = None,
    always_finish: Annotated[
        bool, typer.Option("--always-finish", help="Finish even where nothing is found.")
    ] = False,
    rounds: Annotated[int, typer.Option(help="Most repairs.", min=1)] = 3,
    scanner: ScannerName = "mesa",
    scanner_option: ScannerOptions = None,
    batch_size: AtOnce = None,
    labels: Labelled = "given",
    images: Limit = None,
    held_out: Annotated[
        float, typer.Option(help="Share of the images that only serve to judge.", min=0, max=1)
    ] = 0.2,
    controls: ControlsFile = None,
    control_model: ControlModels = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder for finished steps, to go on after a stop.", show_default=False),
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
    """Scan, unlearn what is found, finish, scan again: 0 if the last scan finds nothing, else 1.

    The model that is written never loses more than the budget on images held out for that; what
    costs more is undone. A model in which nothing is found is written as it was.
    """
    from doorward.cli.options import require_free, require_writable
    from doorward.cli.suspects import (
        clean_images,
        controls_for,
        make_scanner,
        open_suspect,
        save_repaired,
    )
    from doorward.removal import purge as clean_up

    require_free(out)
    if report is not None:
        require_writable(report, file=True)
    looker = make_scanner(scanner, scanner_option, batch_size)
    suspect = open_suspect(model, trust_factory=trust_factory)
    clean = clean_images(
        suspect, data, split=split, root=root, size=size, channels=channels, labels=labels,
        count=images, seed=seed,
    )  # fmt: skip
    known = controls_for(
        looker, clean, file=controls, models=control_model, labels=labels, seed=seed,
        device=device, trust_factory=trust_factory,
    )  # fmt: skip
    judges = round(held_out * len(clean))
    if 0 < judges * budget_accuracy < 100:
        note(
            f"A budget of {budget_accuracy:g} points is less than one of {judges} held-out images: "
            "no repair may lose any. Give more images or a larger budget."
        )
    scans: list[tuple[ScanResult, Mapping[int, Recovered]]] = []

    def told(verdict: ScanResult, recovered: Mapping[int, Recovered]) -> None:
        found = ", ".join(str(target) for target in verdict.accused) or "nothing"
        note(f"Scan {len(scans) + 1} ({verdict.scanner}, {verdict.seconds:.0f} s) found: {found}")
        scans.append((verdict, recovered))

    named = finish or ["fst", "ft-sam"]
    purged, result = clean_up(
        suspect.model,
        clean,
        budget_accuracy=budget_accuracy,
        scanner=looker,
        finish=None if named == ["none"] else named,
        rounds=rounds,
        always_finish=always_finish,
        held_out=held_out,
        seed=seed,
        device=device,
        labels=labels,  # type: ignore[arg-type]
        controls=known,
        progress=True,
        checkpoint=checkpoint,
        on_scan=told,
    )
    save_repaired(
        suspect,
        purged,
        clean,
        out,
        metrics={f"held_out_{_measured(result)}": result.accuracy_after},
        evidence={"purge.json": result.to_dict()},
    )
    if report is not None:
        _report(report, model, result, scans[0], clean, seed)
    answer(
        {
            "model": str(out),
            "report": None if report is None else str(report),
            "found": result.found,
            "clean": result.clean,
            "changed": result.changed,
            **result.to_dict(),
        },
        as_json=as_json,
        lines=[*_lines(result), f"Model: {out}", *([f"Report: {report}"] if report else [])],
        yes=result.clean,
    )


def _lines(result: PurgeResult) -> list[str]:
    """A purge for the terminal."""
    from doorward.cli.common import table

    rows = [
        [
            str(number),
            f"{step.kind}: {step.method}",
            "-" if step.accuracy is None else f"{step.accuracy:.2%}",
            "-" if not step.success else f"{max(step.success.values()):.1%}",
            f"{step.seconds:.0f} s",
            ("kept: " if step.accepted else "undone: ") + step.why,
        ]
        for number, entry in enumerate(result.rounds, start=1)
        for step in entry.steps
    ]
    heads = ["round", "repair", _measured(result), "triggers still work", "time", ""]
    return ([table(heads, rows)] if rows else []) + [
        result.told(),
        f"Searched: {result.verdict.searched}.",
    ]


def _measured(result: PurgeResult) -> str:
    """What images without labels can tell is only whether the model still says the same."""
    return "accuracy" if result.labels == "given" else "agreement"


def _report(
    path: Path,
    model: str,
    result: PurgeResult,
    scanned: tuple[ScanResult, Mapping[int, Recovered]],
    clean: ImageData,
    seed: int,
) -> None:
    from doorward.reporting import Report, environment_table, purge_section, scan_section

    verdict, recovered = scanned
    page = Report("A model purged", model)
    page.add(scan_section(verdict, recovered, clean, seed=seed), purge_section(result))
    page.section("Environment", environment_table(result.environment))
    page.write(path)
