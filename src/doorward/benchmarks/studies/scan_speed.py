"""Study `scan-speed`: our scanner against MESA as its authors run it, on the same model.

    doorward bench run scan-speed --tier cpu

Both scan all classes in one process: ours, the reference, ours again, so that a machine that slows
down slows down both. The victim's trigger goes anywhere, as the reference takes for granted; only
the reference is told its size. Where time allows, the clean network of the same seed is scanned.
"""

from __future__ import annotations

from doorward.benchmarks.studies.common import load_pair, require_data, task
from doorward.benchmarks.studies.injected import injected_model
from doorward.benchmarks.studies.planted import clean_model
from doorward.benchmarks.study import Cell, Grid, Metric, Outcome, study
from doorward.metrics import attack_success
from doorward.scanning import ScanResult, scan, scanner
from doorward.scanning.mesa.reference import pattern_trigger

__all__ = ["GOALS", "scan_speed"]

GOALS = (60.0, 10.0)
"""Seconds of a scan of ten classes on two cores, and how many times the reference takes."""

PATTERN = 170  # 010/101/010, the paper's example


def _grid(tier: str) -> Grid:
    if tier == "quick":
        options = task("digits", "resnet8", width=8, size=16, epochs=6.0)
        options |= {
            "clean": 200,
            "injection": {"images": None, "probability": 0.3, "epochs": 16.0, "lr": 2e-2},
            "reference": {"iterations": 25, "batch_size": 24, "hidden": 32, "lr": 1e-2,
                          "levels": [0.9]},
            "ours": {"sizes": [3], "rules": ["anywhere"], "restarts": 1, "look_steps": 20,
                     "steps": 40},
        }  # fmt: skip
        name, seeds, shrinks = "digits 16x16, resnet8 (width 8)", 1, (
            "Digits of 16x16 pixels, a quarter of the network's width, 25 iterations of the "
            "reference instead of 620, and a short search of ours for one known size: this checks "
            "that the study works; its ratio means nothing."
        )  # fmt: skip
    elif tier == "cpu":
        options = task("cifar10", "resnet8", epochs=5.0)
        options |= {
            "clean": 4000,
            "injection": {"images": 20_000, "probability": 0.05, "epochs": 5.0, "lr": 5e-3},
            "reference": {},
            "ours": {},
        }
        name, seeds, shrinks = "cifar10, resnet8", 3, (
            "ResNet-8 instead of ResNet-18, no clean networks, 4,000 clean images instead of "
            "8,000; planted with 20,000 images for 5 epochs at 5 % and a rate of 5e-3 instead of "
            "all for 10 at 1 % and 1e-3. The reference does all its 620 iterations of 128 images "
            "per class."
        )  # fmt: skip
    else:
        options = task("cifar10", "resnet18", epochs=60.0)
        options |= {
            "clean": 8000,
            "injection": {"images": None, "probability": 0.01},
            "reference": {},
            "ours": {},
        }
        name, seeds, shrinks = "cifar10, resnet18", 3, ""
    return Grid(
        methods=("mesa and mesa-reference, one after the other",),
        settings={
            f"{kind}; {name}": {**options, "target": 0, "kind": kind}
            for kind in (("backdoored",) if tier == "cpu" else ("backdoored", "clean"))
        },
        seeds=seeds,
        shrinks=shrinks,
    )


@study(
    "scan-speed",
    version=1,
    title="Scanning: speed",
    question="How long does a scan take, and how many times longer does MESA's own way?",
    grid=_grid,
    prepare=require_data,
    notes="Seconds of ours are the mean of a scan before and one after the reference's. The "
    "reference fits one sub-model per class, one class after another, and the other levels for "
    "classes that stand out; it is told the size of the trigger, ours is not. Verdicts are equal "
    "if both accuse the same classes; they are right if these are the attacked one and no other "
    "(in a clean model: none). The goal, meant for two cores and ResNet-8, is 60 s and ten times.",
    metrics=(
        Metric("ratio", "Reference / ours", "ratio", "higher", plot=True),
        Metric("scan_seconds", "Ours (s)", "number", "lower"),
        Metric("reference_seconds", "Reference (s)"),
        Metric("goal_met", "Goal met", "yesno"),
        Metric("same_verdict", "Verdicts equal", "yesno"),
        Metric("right", "Ours right", "yesno"),
        Metric("reference_right", "Reference right", "yesno"),
        Metric("scan_memory_mib", "Memory of ours (MiB)", "number", "lower"),
        Metric("reference_memory_mib", "of the reference (MiB)"),
        Metric("attack_success", "Attack success", "percent"),
    ),
)
def scan_speed(cell: Cell) -> Outcome:
    """Scan the cell's model by both, ours first and last."""
    train, test = load_pair(cell)
    clean, unseen = test.split(cell.options["clean"], len(test) - cell.options["clean"], seed=0)
    victim = injected_model(cell, train, pattern_trigger(PATTERN))
    attacked = cell.options["kind"] == "backdoored"
    model = victim.model if attacked else clean_model(cell, train).model
    truth = [int(cell.options["target"])] if attacked else []
    default = scanner("mesa", **cell.options["ours"])

    def ours() -> ScanResult:
        return scan(model, clean, default, seed=cell.seed)[0]

    first = ours()
    paper = scanner("mesa-reference", **cell.options["reference"])
    reference = scan(model, clean, paper, seed=cell.seed)[0]
    second = ours()
    seconds = (first.seconds + second.seconds) / 2
    ratio, same = reference.seconds / seconds, sorted(first.accused) == sorted(reference.accused)
    return Outcome(
        metrics={
            "ratio": ratio,
            "scan_seconds": seconds,
            "reference_seconds": reference.seconds,
            "goal_met": seconds <= GOALS[0] and ratio >= GOALS[1] and same,
            "same_verdict": same,
            "right": first.accused == truth,
            "reference_right": reference.accused == truth,
            "scan_memory_mib": max(first.peak_memory_mib, second.peak_memory_mib),
            "reference_memory_mib": reference.peak_memory_mib,
            "attack_success": attack_success(model, unseen, victim.backdoor),
            "accused": ", ".join(map(str, first.accused)) or "none",
            "reference_accused": ", ".join(map(str, reference.accused)) or "none",
            "suspect": first.suspect,
            "reference_suspect": reference.suspect,
            "reference_statistic": max(f.statistic for f in reference.findings),
        }
    )
