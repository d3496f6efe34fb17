"""Results as pages: markdown for the documentation, and one HTML board.

    report("benchmarks/results", "docs/benchmarks")

writes ``index.md``, a page with charts per study, and ``board.html``, which holds everything and
opens offline.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from doorward.benchmarks.markdown import code, escape, link, link_target, page, table
from doorward.benchmarks.results import StudyResult, load_results
from doorward.benchmarks.tables import (
    charts,
    environments,
    failures,
    heading,
    overview,
    per_seed,
    stale,
)
from doorward.errors import MissingData
from doorward.files import write_text
from doorward.reporting import (
    Block,
    Code,
    Note,
    Number,
    Numbers,
    Report,
    Section,
    Text,
    environment_table,
)
from doorward.reporting.charts import draw, standalone

__all__ = ["report"]


def report(
    results_dir: str | os.PathLike[str] = "benchmarks/results",
    out_dir: str | os.PathLike[str] = "docs/benchmarks",
) -> list[Path]:
    """Render all results of a folder.

    Args:
        results_dir: holds ``STUDY-TIER.json`` files.
        out_dir: where the pages go; existing ones of the same names are replaced.

    Returns:
        The files written: a page and its charts per study, the index, the board.

    Raises:
        MissingData: there are no results.
        BadFile: one is damaged.
        StorageFailed: a page could not be written.
    """
    results = load_results(results_dir)
    if not results:
        raise MissingData(
            f"there are no results in {results_dir}",
            remedy="run a study first: doorward bench run training-speed --tier quick",
        )
    out = Path(out_dir)
    written: list[Path] = []
    for name in dict.fromkeys(result.study for result in results):
        written += _study_page(out, name, [r for r in results if r.study == name])
    index = out / "index.md"
    write_text(index, _index(results))
    return [*written, index, _board(results).write(out / "board.html")]


def _study_page(out: Path, name: str, results: Sequence[StudyResult]) -> list[Path]:
    title, question, notes = heading(name)
    parts = [escape(question), escape(notes)]
    written: list[Path] = []
    for result in results:
        parts += [f"## Tier {escape(result.tier)}", escape(result.shrinks), escape(stale(result))]
        shown = overview(result)
        parts += [table(shown.columns, shown.rows), escape(shown.note)]
        for metric, chart in charts(result):
            file = out / link_target(f"{name}-{result.tier}-{metric}.svg")
            write_text(file, standalone(draw(chart, prefix="c"), chart.alt))
            written.append(file)
            parts.append(f"![{escape(chart.alt)}]({file.name})")
        parts += _failures(result)
        shown = per_seed(result)
        parts += ["### Every run", table(shown.columns, shown.rows)]
        for caption, environment in environments(result):
            shown = environment_table(environment)
            parts += [f"### {caption}", table(shown.columns, shown.rows)]
        parts += ["### How to repeat it", code(result.command)]
    file = out / f"{name}.md"
    write_text(file, page(title, parts))
    return [file, *written]


def _failures(result: StudyResult) -> list[str]:
    shown = failures(result)
    if shown is None:
        return []
    return ["### Not measured", table(shown.columns, shown.rows)]


def _index(results: Sequence[StudyResult]) -> str:
    rows = []
    for result in results:
        title, question, _ = heading(result.study)
        made = max((row.made for row in result.rows), default="")[:10]
        rows.append(
            [
                link(title, f"{result.study}.md"),
                question,
                result.tier,
                len(result.rows),
                len(result.failures),
                made,
            ]
        )
    columns = ["Study", "Question", "Tier", "Runs", "Failed", "Last run"]
    parts = [
        "Every number here was measured by a registered study, with several seeds where the tier "
        "allows it, and can be measured again with the command on its page. All of it on one "
        "page, to keep or to send: [board.html](board.html).",
        table(columns, rows),
    ]
    return page("Benchmarks", parts)


def _board(results: Sequence[StudyResult]) -> Report:
    rows = [row for result in results for row in result.rows]
    made = max((row.made for row in rows), default="")
    board = Report(
        "Doorward benchmarks",
        "What each method costs and what it achieves, with time, memory and spread beside it.",
        made=datetime.fromisoformat(made) if made else datetime.now(UTC),
    )
    hours = sum(row.seconds for row in rows) / 3600
    board.section(
        "The board",
        Numbers(
            Number("Studies", len({result.study for result in results})),
            Number("Runs", len(rows)),
            Number("Not measured", sum(len(result.failures) for result in results)),
            Number("Time measured", f"{hours:.2g} h" if hours >= 0.1 else f"{hours * 60:.2g} min"),
        ),
        summary="Each table gives the mean over the seeds and, after ±, the standard deviation; "
        "rows from different machines are never averaged.",
    )
    for result in results:
        board.add(_section(result))
    machines = dict(pair for result in results for pair in environments(result))
    return board.section(
        "Environments",
        *(environment_table(content, caption) for caption, content in machines.items()),
        summary="What the rows were measured on; each row names its environment.",
    )


def _section(result: StudyResult) -> Section:
    title, question, notes = heading(result.study)
    blocks: list[Block] = [Text(text) for text in (result.shrinks, notes) if text]
    if stale(result):
        blocks.append(Note(stale(result)))
    blocks.append(overview(result))
    blocks += [chart for _, chart in charts(result)]
    shown = failures(result)
    if shown is not None:
        blocks.append(shown)
    blocks.append(per_seed(result))
    blocks.append(Code(result.command, "How to repeat it"))
    return Section(f"{title} ({result.tier})", tuple(blocks), question)
