"""The tables of README and docs, made from the registries, so that they list what exists.

::

    python docs/tables.py             # renew the tables of README.md
    python docs/tables.py --check     # exit code 1 if one of them is stale

A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``. MkDocs fills those of
the pages while it builds (this file is one of its hooks).
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from doorward.benchmarks import STUDIES, TIERS, Metric, StudyResult
from doorward.benchmarks.results import Row
from doorward.benchmarks.summary import Group, group_rows, show, summarise
from doorward.data import DATASETS
from doorward.extraction import EXTRACTIONS
from doorward.files import read_json
from doorward.hardening import HARDENINGS
from doorward.honeypot.defences import DEFENCES
from doorward.models import ARCHITECTURES
from doorward.poisoning import ATTACKS
from doorward.removal import REMOVALS
from doorward.reporting import power_of_two
from doorward.scanning import SCANNERS
from doorward.triggers import TRIGGERS
from doorward.watermark import EMBEDDINGS

ROOT = Path(__file__).resolve().parent.parent
FILES = [ROOT / "README.md"]
RESULTS = ROOT / "benchmarks" / "results"

MOST_LINES = 20  # of one study in the README; longer ones have their page

# A system is listed once its package is there; its first docstring line says what it does.
SYSTEMS = {
    "watermark": "Adi et al. 2018",
    "trading": "Xu et al. 2024",
    "honeypot": "Wang et al. 2025",
    "scanning": "Qiao et al. 2019",
    "removal": "Qiao et al. 2019",
    "hardening": "Tao et al. 2022",
    "extraction": "Orekondy et al. 2019 and others",
    "poisoning": "Gu et al. 2017 and others",
}

_BLOCK = re.compile(r"(<!-- table: ([a-z]+) -->\n)(.*?)(<!-- end of table -->)", re.DOTALL)


def systems() -> str:
    """The rooms that exist."""
    rows = []
    for name, paper in SYSTEMS.items():
        if importlib.util.find_spec(f"doorward.{name}") is not None:
            module = importlib.import_module(f"doorward.{name}")
            summary = (inspect.getdoc(module) or "").partition("\n")[0]
            _, _, what = summary.partition(": ")
            rows.append([f"`{name}`", what or summary, paper])
    return _table(["system", "what it does", "paper"], rows)


def architectures() -> str:
    """The zoo."""
    rows = []
    for name in ARCHITECTURES:
        facts = ARCHITECTURES.facts(name)
        parameters = f"{facts['parameters'] / 1e6:.2f} M"
        rows.append([f"`{name}`", parameters, ARCHITECTURES.summary(name), facts["paper"]])
    return _table(["architecture", "parameters", "what it is", "paper"], rows)


def triggers() -> str:
    """The triggers."""
    rows = [
        [f"`{name}`", TRIGGERS.summary(name), TRIGGERS.facts(name).get("paper", "")]
        for name in TRIGGERS
    ]
    return _table(["trigger", "what it does", "paper"], rows)


def attacks() -> str:
    """The ready-made attacks."""
    rows = []
    for name in ATTACKS:
        facts = ATTACKS.facts(name)
        rate = f"{facts['rate']:.0%} of {facts['share_of']}"
        rows.append([f"`{name}`", ATTACKS.summary(name), facts["rule"], rate, facts["paper"]])
    return _table(["attack", "trigger", "labels", "poisoned", "paper"], rows)


def removals() -> str:
    """The removal methods."""
    rows = [
        [f"`{name}`", REMOVALS.summary(name), REMOVALS.facts(name)["paper"]] for name in REMOVALS
    ]
    return _table(["method", "what it does", "paper"], rows)


def hardenings() -> str:
    """The hardening methods."""
    rows = [
        [f"`{name}`", HARDENINGS.summary(name), HARDENINGS.facts(name)["paper"]]
        for name in HARDENINGS
    ]
    return _table(["method", "what it does", "paper"], rows)


def defences() -> str:
    """The defences of answers."""
    rows = []
    for name in DEFENCES:
        facts = DEFENCES.facts(name)
        gateway = "yes" if facts["gateway"] else "no"
        rows.append([f"`{name}`", DEFENCES.summary(name), gateway, facts["paper"]])
    return _table(["defence", "what it does", "policy of the gateway", "paper"], rows)


def scanners() -> str:
    """The scanners."""
    rows = []
    for name in SCANNERS:
        facts = SCANNERS.facts(name)
        rows.append(
            [f"`{name}`", facts["finds"], facts["images"], SCANNERS.summary(name), facts["paper"]]
        )
    return _table(["scanner", "finds", "clean images", "how", "paper"], rows)


def extractions() -> str:
    """The extraction attacks."""
    rows = [
        [f"`{name}`", EXTRACTIONS.summary(name), EXTRACTIONS.facts(name).get("paper", "")]
        for name in EXTRACTIONS
    ]
    return _table(["attack", "what it does", "paper"], rows)


def embeddings() -> str:
    """The ways to embed a mark."""
    rows = []
    for name in EMBEDDINGS:
        facts = EMBEDDINGS.facts(name)
        rows.append([f"`{name}`", EMBEDDINGS.summary(name), facts["removal"], facts["paper"]])
    return _table(["method", "what it does", "meant to withstand", "paper"], rows)


def datasets() -> str:
    """The data sets."""
    rows = []
    for name in DATASETS:
        facts = DATASETS.facts(name)
        shape = "x".join(map(str, facts["image_shape"]))
        rows.append([f"`{name}`", str(facts["classes"]), shape, DATASETS.summary(name)])
    return _table(["data set", "classes", "images", "what it is"], rows)


def studies() -> str:
    """The benchmark studies."""
    rows = []
    for name in STUDIES:
        found = STUDIES[name]
        cells = [str(len(found.cells(tier))) for tier in TIERS]
        rows.append([f"`{name}`", found.question, *cells])
    return _table(["study", "question", *(f"cells, {tier}" for tier in TIERS)], rows)


def results() -> str:
    """What the committed studies found, beyond the quick tier: the numbers that matter."""
    rows = []
    for path in sorted(RESULTS.glob("*.json")):  # finished runs: what is committed
        result = StudyResult.from_dict(read_json(path))
        if result.tier == "quick" or result.study not in STUDIES:
            continue
        every = STUDIES[result.study].metrics
        metrics = [m for m in every if m.plot or m.better or m.kind == "yesno"] or list(every)
        groups = group_rows(result.rows)
        if len(groups) > MOST_LINES:
            page = f"docs/benchmarks/{result.study}.md"
            rows.append([f"`{result.study}`", f"[{len(groups)} lines]({page})", "", ""])
            continue
        for group in groups:
            shown = [
                f"{metric.title} {show(summarise(group.numbers(metric.name)), metric)}"
                for metric in metrics
                if group.numbers(metric.name)
            ]
            setting = f"{group.setting}: {group.method}"
            rows.append([f"`{result.study}`", setting, str(len(group.rows)), "; ".join(shown)])
    if not rows:
        return "Nothing yet.\n"
    return _table(["study", "setting and method", "seeds", "mean ± standard deviation"], rows)


def planted() -> str:
    """Every attack on a model, as the study `attacks` measured it."""
    result = _measured("attacks")
    if result is None:
        return "Not measured yet.\n"
    lines = []
    for group in group_rows(result.rows):
        found = {
            name: summarise(group.numbers(name))
            for name in ("attack_success", "robust_accuracy", "accuracy", "cost")
        }
        cells = [
            ""
            if spread is None
            else f"{spread.mean:.1f}"
            if name == "cost"
            else f"{spread.mean:.1%}"
            for name, spread in found.items()
        ]
        strength = [row.strength or {} for row in group.rows]
        visible = [
            f"{sum(seen[name] for seen in strength) / len(strength):.3g}"
            if all(name in seen for seen in strength)
            else ""
            for name in ("l2", "linf", "ssim")
        ]
        lines.append([f"`{group.method}`", *cells, *visible])
    return _table(
        [
            "attack", "success", "robust accuracy", "accuracy", "cost (points)", "L2",
            "largest change", "SSIM",
        ],
        lines,
    )  # fmt: skip


def survival() -> str:
    """Every attack on every kind of mark, as the study `watermark-attacks` measured them."""
    result = _measured("watermark-attacks")
    if result is None:
        return "Not measured yet.\n"
    rows = result.rows
    kinds = list(dict.fromkeys(row.method for row in rows))
    lines: dict[str, dict[str, list[Row]]] = {}
    for row in rows:
        for name in row.metrics:
            if name.endswith(" | log2_p"):
                label = name.removesuffix(" | log2_p")
                lines.setdefault(label, {}).setdefault(row.method, []).append(row)
    return _table(
        ["attack", *kinds],
        [
            [label, *(_outcome(found[kind], label) if kind in found else "" for kind in kinds)]
            for label, found in lines.items()
        ],
    )


def _measured(name: str) -> StudyResult | None:
    """The committed result of a study, in its largest tier."""
    for tier in ("paper", "cpu"):
        path = RESULTS / f"{name}-{tier}.json"
        if path.exists():
            return StudyResult.from_dict(read_json(path))
    return None


def _outcome(rows: list[Row], label: str) -> str:
    """Accuracy, triggers matched (with their spread) and the weakest proof, of one attack."""
    group = Group("", "", "", tuple(rows))
    accuracy = summarise(group.numbers(f"{label} | accuracy"))
    matched = summarise(group.numbers(f"{label} | matches"))
    if matched is None:
        return ""
    proofs = [_proof(row, label) for row in rows]
    share = Metric("share", "Share", "percent")
    task = "" if accuracy is None else f"{show(accuracy, share)}; "
    return f"{task}{show(matched, share)}, {power_of_two(max(proofs))}"


def _proof(row: Row, label: str) -> float:
    """log2 of a seed's p-value: of the stronger way to ask, doubled where both were tried."""
    numbers: dict[str, Any] = dict(row.metrics)
    alone, through = numbers[f"{label} | log2_p"], numbers.get(f"{label} | blended_log2_p")
    return float(alone if through is None else min(0.0, 1 + min(alone, through)))


def commands() -> str:
    """All commands with their options, as the command line itself describes them."""
    from typer.main import get_command

    from doorward.cli import app

    return "\n".join(_describe(get_command(app), "doorward"))


def _describe(command: Any, path: str) -> list[str]:
    inner = getattr(command, "commands", None)
    if inner is not None:
        return [line for name in inner for line in _describe(inner[name], f"{path} {name}")]
    rows = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            rows.append([f"`{parameter.name.upper()}`", getattr(parameter, "help", "") or ""])
        elif parameter.name != "help":
            names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
            rows.append([names, parameter.help or ""])
    example = (command.epilog or "").removeprefix("Example: ")
    return [
        f"## {path}",
        "",
        inspect.cleandoc(command.help or ""),
        "",
        f"```sh\n{example}\n```",
        "",
        _table(["option", "meaning"], rows),
    ]


TABLES: dict[str, Callable[[], str]] = {
    "systems": systems,
    "architectures": architectures,
    "triggers": triggers,
    "attacks": attacks,
    "planted": planted,
    "scanners": scanners,
    "defences": defences,
    "hardenings": hardenings,
    "removals": removals,
    "extractions": extractions,
    "embeddings": embeddings,
    "datasets": datasets,
    "studies": studies,
    "results": results,
    "survival": survival,
    "commands": commands,
}


def fill(text: str) -> str:
    """A text with all of its tables made anew."""
    return _BLOCK.sub(lambda m: f"{m[1]}\n{TABLES[m[2]]()}\n{m[4]}", text)


def on_page_markdown(markdown: str, **_context: Any) -> str:
    """MkDocs' hook: called with the source of every page."""
    return fill(markdown)


def main(arguments: list[str]) -> int:
    """Renew the tables, or check them."""
    stale = 0
    for path in FILES:
        old = path.read_text(encoding="utf-8")
        new = fill(old)
        if new == old:
            continue
        stale += 1
        if "--check" in arguments:
            sys.stderr.write(f"{path} is stale: run `make tables`\n")
        else:
            path.write_text(new, encoding="utf-8")
    return int(bool(stale) and "--check" in arguments)


def _table(columns: list[str], rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(columns), line(["---"] * len(columns)), *map(line, rows)]) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
