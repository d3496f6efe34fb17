"""``doorward scan``: does a model that you received have a backdoor?

::

    doorward scan theirs.model --data my-photos --out scan
    doorward scan nets:make=theirs.safetensors --data cifar10 --images 500 --labels model
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from doorward.cli.common import Device, Json, Root, Seed, answer, table
from doorward.cli.options import Channels, Size, TrustFactory
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
from doorward.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from doorward.data import ImageData
    from doorward.scanning import Controls, Recovered, ScanResult

__all__ = ["add_to", "verdict_lines"]

_SHOWN = 20  # classes in the printed table
_FEW = 100  # clean images
_RESULT = "result.json"


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command(epilog="Example: doorward scan theirs.model --data my-photos --out scan")(scan)


def scan(
    model: Model,
    data: CleanData,
    scanner: ScannerName = "mesa",
    scanner_option: ScannerOptions = None,
    batch_size: AtOnce = None,
    labels: Labelled = "given",
    images: Limit = None,
    controls: ControlsFile = None,
    control_model: ControlModels = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the result, the recovered triggers and pictures of them.",
            show_default=False,
        ),
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
    """Look for a backdoor in a model: 1 if a class is attacked, 0 if nothing is found.

    A few hundred clean images are enough. "Nothing found" holds for the triggers that the scanner
    searches, and it says which these are. With clean models of the same kind (--control-model) the
    verdict is a p-value.
    """
    from doorward.cli.options import require_writable
    from doorward.cli.suspects import clean_images, controls_for, make_scanner, open_suspect
    from doorward.scanning import scan as look

    if out is not None:
        _require_scan_folder(out)
        require_writable(out)
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
    result, recovered = look(
        suspect.model,
        clean,
        looker,
        seed=seed,
        device=device,
        labels=labels,  # type: ignore[arg-type]
        controls=known,
        progress=True,
    )
    lines = verdict_lines(result)
    if out is not None:
        _write(out, model, result, recovered, known)
        lines.append(f"Result, triggers and pictures: {out}")
    if report is not None:
        _report(report, model, result, recovered, clean, seed)
        lines.append(f"Report: {report}")
    answer(
        {
            "model": model,
            "found": result.found,
            "decision": result.decision,
            **result.to_dict(),
            "out": None if out is None else str(out),
            "report": None if report is None else str(report),
        },
        as_json=as_json,
        lines=lines,
        yes=not result.found,
    )


def verdict_lines(result: ScanResult) -> list[str]:
    """A scan for the terminal: the classes, the verdict, what was searched."""
    from doorward.scanning import SCANNERS

    order = sorted(range(len(result.findings)), key=lambda row: -result.findings[row].statistic)[
        :_SHOWN
    ]
    rows = []
    for row in sorted(order):
        finding = result.findings[row]
        p = None if result.p_values is None else result.p_values[row]
        success = finding.attack_success
        rows.append(
            [
                f"{finding.target} {result.classes[finding.target]}",
                f"{finding.statistic:.3g}",
                f"{result.robust_z[row]:.1f}",
                "-" if p is None else f"{p:.3f}",
                "-" if success is None else f"{success:.1%}",
                "attacked" if finding.target in result.accused else "",
            ]
        )
    lines = [
        table(["class", "statistic", "robust z", "p", "success of its triggers", ""], rows),
        f"Searched: {result.searched}.",
    ]
    if len(result.findings) > len(rows):
        lines.insert(1, f"(the {len(rows)} most suspicious of {len(result.findings)} classes)")
    bar = (
        f"p <= 0.05 against {result.controls} clean models"
        if result.decided_by == "controls"
        else f"a statistic above {result.alarm:.3g}"
    )
    if result.images < _FEW and SCANNERS.facts(result.scanner).get("images") != "none":
        lines.append(f"Only {result.images} clean images: a few hundred make this more certain.")
    if not result.found:
        lines.append(f"No backdoor found in {result.seconds:.0f} s: no class has {bar}.")
    else:
        names = ", ".join(f"{k} ({result.classes[k]})" for k in result.accused)
        lines.append(f"BACKDOOR FOUND in {result.seconds:.0f} s: class {names} has {bar}.")
    lines.append(result.decision)
    return lines


def _require_scan_folder(out: Path) -> None:
    occupied = out.is_file() or (
        out.is_dir() and any(out.iterdir()) and not (out / _RESULT).is_file()
    )
    if occupied:
        raise InvalidInput(
            f"{out} exists and does not hold a scan",
            why="writing would replace it",
            remedy="choose another --out",
        )


def _write(
    out: Path,
    model: str,
    result: ScanResult,
    recovered: Mapping[int, Recovered],
    controls: Controls | None,
) -> None:
    """The folder of a scan, whole or not at all."""
    from doorward.data import grid
    from doorward.files import atomic_folder, write_json
    from doorward.randomness import generator
    from doorward.scanning import save_recovered

    with atomic_folder(out) as place:
        content: dict[str, Any] = {"model": model, "found": result.found, **result.to_dict()}
        write_json(place / _RESULT, content)
        if controls is not None:
            write_json(place / "controls.json", controls.to_dict())
        for target, triggers in sorted(recovered.items()):
            save_recovered(triggers, place / "recovered" / str(target))
            pictures = triggers.pictures(16, generator(result.seed, "pictures", target))
            scale = max(1, 64 // max(pictures.shape[2:]))
            grid(pictures, columns=8, scale=scale).save(place / f"class-{target}.png", format="PNG")


def _report(
    path: Path,
    model: str,
    result: ScanResult,
    recovered: Mapping[int, Recovered],
    clean: ImageData,
    seed: int,
) -> None:
    from doorward.reporting import Report, environment_table, scan_section

    page = Report("A model under suspicion", model)
    page.add(scan_section(result, recovered, clean, seed=seed))
    page.section("Environment", environment_table(result.environment))
    page.write(path)
