"""The section about a purge: what was found before and after, what was tried, what it cost.

model, result = purge(suspect, clean)
report.add(purge_section(result))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from doorward.reporting.blocks import Block, Note, Number, Numbers, Table, Verdict
from doorward.reporting.numerals import format_value, percent
from doorward.reporting.report import Section
from doorward.reporting.scanning import class_name

if TYPE_CHECKING:
    from doorward.removal.purging import PurgeResult, Round, Step

__all__ = ["purge_section"]

_KINDS = {"unlearn": "unlearn the recovered triggers", "finish": "whatever the trigger"}


def purge_section(
    result: PurgeResult, *, title: str = "What was removed, and what did it cost?"
) -> Section:
    """What a purge did, for people: before and after, every round, every step.

    Args:
        result: of `doorward.removal.purging.purge`.
        title: of the section.
    """
    blocks: list[Block] = [_verdict(result), _numbers(result)]
    if result.success_before:
        blocks.append(_success(result))
    blocks.append(_rounds(result))
    if result.steps:
        blocks.append(_steps(result))
    blocks.append(
        Note(
            f"Accuracy and success were measured on {result.held_out} clean images that no step "
            "was trained on"
            + (", with the model's own first answers as labels" if result.labels == "model" else "")
            + ". The triggers are those that the scans recovered: what the attacker's own trigger "
            "still does, only its owner can measure. Where the last scan finds nothing, it finds "
            f"nothing of what it searched: {_searched(result)}."
        )
    )
    return Section(title, tuple(blocks), summary=_summary(result))


def _summary(result: PurgeResult) -> str:
    if result.ended == "nothing found":
        return (
            "No backdoor was found. A finishing step was applied anyway."
            if result.changed
            else "No backdoor was found, and the model was left as it is."
        )
    names = [class_name(result.verdict.classes, target) for target in sorted(result.success_before)]
    found = f"Triggers of {', '.join(names)} were found"
    if result.ended == "clean":
        return f"{found} and removed: the last scan finds no backdoor any more."
    reason = (
        "no round was left"
        if result.ended == "rounds"
        else f"no repair was acceptable (points of accuracy to lose: {result.budget_accuracy:g})"
    )
    return f"{found}, but not all were removed: {reason}. Do not use this model."


def _verdict(result: PurgeResult) -> Verdict:
    left = [class_name(result.verdict.classes, target) for target in result.verdict.accused]
    detail = f"still attacked: {', '.join(left)}" if left else f"scanner {result.verdict.scanner}"
    return Verdict("Does the last scan find a backdoor?", bool(left), good=not left, detail=detail)


def _numbers(result: PurgeResult) -> Numbers:
    lost = 100 * (result.accuracy_before - result.accuracy_after)
    return Numbers(
        Number("Accuracy before", percent(result.accuracy_before)),
        Number(
            "Accuracy after",
            percent(result.accuracy_after),
            f"{_signed(-lost)} points; {result.budget_accuracy:g} may be lost",
        ),
        Number(
            "Repairs kept",
            sum(step.accepted for step in result.steps),
            f"of {len(result.steps)} tried",
        ),
        Number("Seconds", f"{result.seconds:.0f}", f"{result.peak_memory_mib:.0f} MiB"),
    )


def _success(result: PurgeResult) -> Table:
    classes = result.verdict.classes
    return Table(
        ["Triggers of", "Success before", "Success after"],
        [
            [
                class_name(classes, target),
                percent(before),
                None
                if result.success_after.get(target) is None
                else percent(result.success_after[target]),
            ]
            for target, before in sorted(result.success_before.items())
        ],
        "What the recovered triggers do, before and after",
        note="Success: share of held-out clean images of other classes that the triggers send to "
        "this class; the largest of all rounds.",
    )


def _rounds(result: PurgeResult) -> Table:
    return Table(
        ["Scan", "Attacked", "Largest statistic", "Alarm", "Seconds"],
        [_round(number, entry) for number, entry in enumerate(result.rounds, start=1)],
        "Scan by scan",
        note="The last scan looks at the model that came out." if len(result.rounds) > 1 else "",
    )


def _round(number: int, entry: Round) -> list[object]:
    verdict = entry.verdict
    names = [class_name(verdict.classes, target) for target in verdict.accused]
    return [
        f"{number}",
        ", ".join(names) or "nothing found",
        format_value(max(finding.statistic for finding in verdict.findings), digits=3),
        format_value(verdict.alarm, digits=3),
        f"{verdict.seconds:.1f}",
    ]


def _steps(result: PurgeResult) -> Table:
    rows: list[list[object]] = []
    for number, entry in enumerate(result.rounds, start=1):
        before = max(entry.success.values(), default=None)
        if entry.steps:
            shown = None if before is None else percent(before)
            rows.append([f"round {number}", "before", None, shown, None, "", None])
        rows += [_step(number, step) for step in entry.steps]
    return Table(
        ["Round", "Repair", "Accuracy", "Triggers still work", "Kept", "Why", "Seconds"],
        rows,
        "Every repair that was tried",
        note="Triggers: those that the scan of the same round recovered; the most successful class "
        "counts. A repair that is not kept is undone.",
    )


def _step(number: int, step: Step) -> list[object]:
    success = max(step.success.values(), default=None)
    return [
        f"round {number}",
        f"{step.method}: {_KINDS[step.kind]}",
        None if step.accuracy is None else percent(step.accuracy),
        None if success is None else percent(success),
        step.accepted,
        step.why,
        f"{step.seconds:.1f}",
    ]


def _searched(result: PurgeResult) -> str:
    return result.verdict.searched.strip().rstrip(".") or "see the scanner's documentation"


def _signed(points: float) -> str:
    """Points with a sign, and a true minus.

    >>> _signed(-0.26), _signed(0.0), _signed(1.5)
    ('\u22120.3', '0.0', '+1.5')
    """
    text = f"{points:+.1f}".replace("-", "\u2212")
    return text[1:] if text[1:] == "0.0" else text
