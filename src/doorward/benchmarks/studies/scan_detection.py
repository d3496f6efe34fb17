"""Study `scan-detection`: which scanner names the attacked class, and does it accuse clean models?

    doorward bench run scan-detection --tier cpu

Clean models of every architecture come first: they are the controls. Localised triggers of several
kinds follow on the same architectures, then every attack of `ATTACKS` on one of them. Scans are
kept on disk beside the models, so that each clean model is scanned once by each scanner.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.suspects import Suspect, suspect_of
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, Value, study
from doorward.data import ImageData
from doorward.files import canonical_json, home_folder, read_json, write_json
from doorward.poisoning import ATTACKS
from doorward.randomness import derive_seed
from doorward.scanning import SCANNERS, Controls, ScanResult, controls_from, scan, scanner

__all__ = ["METHODS", "PATCHES", "scan_detection"]

METHODS = tuple(name for name in SCANNERS.names() if name != "mesa-reference")
"""All but the faithful MESA, which takes many times as long (see the study `scan-speed`)."""

PATCHES: dict[str, dict[str, Any]] = {
    "white corner": {"size": 3},
    "white anywhere": {"size": 3, "position": "random"},
    "checkerboard": {"size": 3, "position": "top-left", "margin": 1, "pattern": "checkerboard"},
    "coloured noise": {"size": 4, "position": "center", "pattern": "noise"},
    "black anywhere": {"size": 3, "position": "random", "colour": 0.0},
}
"""Localised triggers: one victim of each on every architecture, each with a target of its own."""

COPIES = 5
"""Clean models of each architecture."""

_NETWORKS: dict[str, list[tuple[str, int | None]]] = {
    "cpu": [("resnet8", 16), ("vgg11-bn", 16), ("wrn-16-1", None), ("resnet20", 8)],
    "paper": [("resnet18", None), ("preact-resnet18", None), ("vgg16-bn", None),
              ("mobilenetv2", None)],
}  # fmt: skip


def _grid(tier: str) -> Grid:
    if tier == "quick":
        return _quick()
    small = tier == "cpu"
    networks = [list(network) for network in _NETWORKS[tier]]
    settings: dict[str, dict[str, Any]] = {}
    attacked: dict[str, dict[str, Any]] = {}
    for place, (architecture, width) in enumerate(_NETWORKS[tier]):
        base = task("cifar10", architecture, width=width, epochs=5.0 if small else 100.0)
        base |= {
            "tuning": {
                **base["recipe"],
                "epochs": 0.5 if small else 10.0,
                "batch_size": 128,
                "lr": 0.05,
            },
            "images": 250,
            "scanners": _SHRUNK if small else {},
            "controls": {"networks": networks, "copies": COPIES},
        }
        for copy in range(COPIES):
            what: dict[str, Any] = {"kind": "clean", "copy": copy}
            settings[f"clean {copy + 1}, {architecture}"] = {**base, "suspect": what}
        for number, (name, patch) in enumerate(PATCHES.items()):
            what = {
                "kind": "patch",
                "patch": {**patch, "seed": number},
                "target": (2 * number + place) % 10,
                "rate": 0.2 if small else 0.1,  # more of them, since they are seen less often
            }
            attacked[f"{name}, {architecture}"] = {**base, "suspect": what}
        for name in ATTACKS.names() if place == 0 else ():
            what = {"kind": "attack", "name": name}
            attacked[f"attack {name}, {architecture}"] = {**base, "suspect": what, "target": 0}
    settings |= attacked
    return Grid(
        methods=METHODS,
        settings=settings,
        shrinks="Narrow networks trained for 5 epochs. One seed: what is repeated are models, 20 "
        "clean and 20 with localised triggers, trained on from one clean network for each "
        "architecture for half an epoch, attacked ones with 20 % poisoned instead of 10 %. Neural "
        "Cleanse, Pixel and MM-BD have fewer images and steps. One victim "
        "of every other attack, those of the study `attacks`."
        if small
        else "",
    )


_SHRUNK: dict[str, dict[str, Any]] = {
    "neural-cleanse": {"epochs": 30, "batch_size": 20, "patience": 3},
    "pixel": {"images": 50, "epochs": 80, "batch_size": 25, "patience": 5, "stall": 25},
    "mm-bd": {"images": 10, "steps": 150},
}


def _quick() -> Grid:
    base = task("digits", "resnet8", width=8, size=16, epochs=5.0)
    base |= {
        "images": 60,
        "tuning": {**base["recipe"], "epochs": 4.0, "lr": 0.1},
        "scanners": {
            "neural-cleanse": {"epochs": 30, "batch_size": 24, "patience": 3},
            "pixel": {"images": 20, "epochs": 60, "batch_size": 20, "patience": 4},
            "mm-bd": {"images": 4, "steps": 40},
            "ban": {"mask_steps": 40},
            "mesa": {
                "sizes": [3],
                "rules": ["fixed"],
                "levels": [0.9],
                "restarts": 1,
                "rounds": 2,
                "look_steps": 20,
                "look_images": 6,
                "steps": 10,
                "images": 8,
                "most": 1,
            },
        },
    }
    base["controls"] = {"networks": [["resnet8", 8]], "copies": 2}
    clean = {"kind": "clean", "copy": 0}
    patch = {"kind": "patch", "patch": PATCHES["white corner"], "target": 3, "rate": 0.15}
    return Grid(
        methods=METHODS,
        settings={
            "clean, digits 16x16": {**base, "suspect": clean},
            "white corner, digits 16x16": {**base, "suspect": patch},
        },
        shrinks="Two clean networks and an attacked one of a quarter of the width, on digits of "
        "16x16 pixels; 60 clean images; few steps. So few controls give no small p-value.",
    )


@study(
    "scan-detection",
    version=1,
    title="Scanning: is the attacked class found, and is a clean model left in peace?",
    question="Which scanner names the attacked class of which attack, and which accuses clean "
    "models?",
    grid=_grid,
    prepare=require_data,
    notes="A class is accused where its statistic is above the scanner's alarm. Largest on clean "
    "is over all clean models but the one in the row, of all architectures; the p-value "
    "compares the statistic of the attacked class (of a clean model: its largest) with them, so "
    "that it needs no alarm: it is smallest where no clean model came near. Clean models are "
    "trained on from one network for each architecture, as are those with localised triggers; so "
    "clean ones of an architecture resemble each other more than strangers' would. Of all-to-all "
    "attacks any accused class is the right one. Clean images are drawn from the test images.",
    metrics=(
        Metric("named", "Attacked class named", "yesno"),
        Metric("falsely", "Others accused"),
        Metric("suspect", "Most suspicious class"),
        Metric("target", "Attacked class"),
        Metric("statistic", "Its statistic", plot=True),
        Metric("alarm", "Alarm"),
        Metric("largest_clean", "Largest on clean"),
        Metric("p_value", "p-value"),
        Metric("found_success", "Success of recovered triggers", "percent"),
        Metric("attack_success", "Attack success", "percent"),
        Metric("accuracy", "Accuracy", "percent"),
        Metric("seconds", "Seconds"),
    ),
)
def scan_detection(cell: Cell) -> Outcome:
    """Scan the cell's model, and the controls if nobody has yet."""
    under = suspect_of(cell)
    result = _scanned(cell, under)
    controls = _controls(cell)
    judged = [f for f in result.findings if f.target in under.targets] or result.findings
    chief = max(judged, key=lambda finding: finding.statistic)
    metrics: dict[str, Value] = {
        "named": bool(set(result.accused) & set(under.targets)) if under.targets else None,
        "falsely": len(set(result.accused) - set(under.targets)),
        "suspect": result.suspect,
        "target": chief.target if len(under.targets) == 1 else None,
        "statistic": chief.statistic,
        "alarm": result.alarm,
        "largest_clean": None if controls is None else max(controls.statistics),
        "p_value": None if controls is None else controls.p_value(chief.statistic),
        "found_success": chief.attack_success,
        "attack_success": under.attack_success,
        "accuracy": under.accuracy,
        "seconds": result.seconds,
        "controls": 0 if controls is None else len(controls.statistics),
        "peak_memory_mib": result.peak_memory_mib,
    }
    metrics |= {f"statistic of class {f.target}": f.statistic for f in result.findings}
    return Outcome(metrics=metrics, note=result.searched)


def _controls(cell: Cell) -> Controls | None:
    """Of all clean models but the cell's own: none is a control of itself."""
    clean = {}
    for architecture, width in cell.options["controls"]["networks"]:
        for copy in range(cell.options["controls"]["copies"]):
            changes = {
                "architecture": architecture,
                "width": width,
                "suspect": {"kind": "clean", "copy": copy},
            }
            if not changes.items() <= cell.options.items():
                control = dataclasses.replace(cell, options={**cell.options, **changes})
                clean[f"{architecture} {copy}"] = _scanned(control, suspect_of(control))
    return controls_from(clean) if clean else None


def _scanned(cell: Cell, under: Suspect) -> ScanResult:
    """One scan, made once."""
    method = scanner(cell.method, **cell.options["scanners"].get(cell.method, {}))
    images = _clean_images(cell)
    facts = {
        "model": under.digest,
        "scanner": [cell.method, method.digest(), cell.version],
        "images": images.digest(),
        "seed": cell.seed,
    }
    name = hashlib.sha256(canonical_json(facts)).hexdigest()
    file = home_folder() / "studies" / "scans" / f"{name}.json"
    if not file.is_file():
        seed = derive_seed(cell.seed, "scan", under.digest)
        result, _ = scan(under.model, images, method, seed=seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, result.to_dict())
    return ScanResult.from_dict(read_json(file))


def _clean_images(cell: Cell) -> ImageData:
    _, test = load_pair(cell)
    return test.sample(cell.options["images"], seed=cell.seed)
