"""The tables and charts of one result, as report blocks; pages turn them into HTML or markdown.

>>> study_of("no-such-study") is None
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from doorward.benchmarks.results import StudyResult
from doorward.benchmarks.study import STUDIES, Metric, Study
from doorward.benchmarks.summary import Group, group_rows, show, show_value, summarise
from doorward.reporting import Dots, Table

__all__ = [
    "charts",
    "environments",
    "failures",
    "heading",
    "metrics_of",
    "overview",
    "per_seed",
    "stale",
    "study_of",
]

_SECONDS = Metric("seconds", "Seconds")
_MEMORY = Metric("peak_memory_mib", "Memory (MiB)")


def study_of(name: str) -> Study | None:
    """The registered study, or None if its module is not loaded."""
    return STUDIES[name] if name in STUDIES else None  # noqa: SIM401 - it has no get


def heading(name: str) -> tuple[str, str, str]:
    """Title, question and notes of a study."""
    study = study_of(name)
    return (study.title, study.question, study.notes) if study else (name, "", "")


def metrics_of(result: StudyResult) -> list[Metric]:
    """The study's metrics that the result holds; all that it holds if the study is unknown."""
    present = list(dict.fromkeys(name for row in result.rows for name in row.metrics))
    study = study_of(result.study)
    if study is None:
        return [Metric(name, name.replace("_", " ")) for name in present]
    return [metric for metric in study.metrics if metric.name in present]


def overview(result: StudyResult) -> Table:
    """One line per setting and method: means and spreads over the seeds."""
    metrics, groups = metrics_of(result), group_rows(result.rows)
    many = len(result.environments) > 1
    strengths = list(dict.fromkeys(k for row in result.rows for k in row.strength or {}))
    columns = [
        "Setting",
        "Method",
        *(_title(metric) for metric in metrics),
        *(f"Trigger {name}" for name in strengths),
        _SECONDS.title,
        _MEMORY.title,
        "Seeds",
        *(["Environment"] if many else []),
    ]
    rows = [
        [
            group.setting,
            group.method,
            *(_summary(group, metric) for metric in metrics),
            *(_strength(group, name) for name in strengths),
            show(summarise(row.seconds for row in group.rows), _SECONDS),
            f"{max(row.peak_memory_mib for row in group.rows):.0f}",
            len(group.rows),
            *([group.environment] if many else []),
        ]
        for group in groups
    ]
    note = "Mean ± sample standard deviation over the seeds; memory is the largest of them."
    if many:
        note += " The rows come from different environments: compare no speeds between them."
    return Table(columns, rows, f"{heading(result.study)[0]}, tier {result.tier}", note)


def per_seed(result: StudyResult) -> Table:
    """One line per row."""
    metrics = metrics_of(result)
    columns = [
        "Setting",
        "Method",
        "Seed",
        *(metric.title for metric in metrics),
        _SECONDS.title,
        _MEMORY.title,
        "Environment",
        "Finished (UTC)",
    ]
    rows = [
        [
            row.setting,
            row.method,
            row.seed,
            *(show_value(row.metrics.get(metric.name), metric) for metric in metrics),
            f"{row.seconds:.1f}",
            f"{row.peak_memory_mib:.0f}",
            row.environment,
            row.made[:16].replace("T", " "),
        ]
        for group in group_rows(result.rows)
        for row in group.rows
    ]
    notes = "; ".join(
        f"{row.method}, {row.setting}, seed {row.seed}: {row.note}"
        for row in result.rows
        if row.note
    )
    return Table(columns, rows, "Every run", notes)


def failures(result: StudyResult) -> Table | None:
    """The cells that could not be measured, and why."""
    if not result.failures:
        return None
    rows = [[f.setting, f.method, f.seed, f.error, f.where] for f in result.failures]
    return Table(["Setting", "Method", "Seed", "Error", "Where"], rows, "Not measured")


def charts(result: StudyResult) -> list[tuple[str, Dots]]:
    """A dot chart for each metric that the study wants drawn, with the metric's name."""
    drawn = []
    groups = group_rows(result.rows)
    labels = _labels(groups)
    for metric in metrics_of(result):
        scale = 100.0 if metric.kind == "percent" else 1.0
        values = {
            label: [scale * value for value in group.numbers(metric.name)]
            for label, group in zip(labels, groups, strict=True)
        }
        if metric.plot and any(values.values()):
            unit = " (%)" if metric.kind == "percent" else ""
            unit = " (log2)" if metric.kind == "log2" else unit
            drawn.append((metric.name, Dots(values, _title(metric) + unit)))
    return drawn


def environments(result: StudyResult) -> list[tuple[str, Mapping[str, Any]]]:
    """Captions and contents of the environments."""
    return [(f"Environment {key}", content) for key, content in result.environments.items()]


def stale(result: StudyResult) -> str:
    """A warning if the rows were made by another version of the study than this one."""
    study = study_of(result.study)
    if study is None or study.version == result.version:
        return ""
    return (
        f"These rows were made by version {result.version} of the study; the present one is "
        f"version {study.version}. Run it again."
    )


def _title(metric: Metric) -> str:
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[metric.better]
    return metric.title + arrow


def _labels(groups: Sequence[Group]) -> list[str]:
    """What tells each group from the others: parts that are the same for all are left out."""
    parts = [(group.setting, group.method, group.environment) for group in groups]
    varying = [place for place in range(3) if len({part[place] for part in parts}) > 1]
    return [" · ".join(part[place] for place in varying or [0]) for part in parts]


def _summary(group: Group, metric: Metric) -> str:
    numbers = group.numbers(metric.name)
    if numbers:
        return show(summarise(numbers), metric)
    words = dict.fromkeys(str(v) for v in group.values(metric.name) if v is not None)
    return ", ".join(words) or show(None, metric)


def _strength(group: Group, name: str) -> str:
    values = [row.strength[name] for row in group.rows if row.strength and name in row.strength]
    return show(summarise(values), Metric(name, name))
