"""The section about a scan: the verdict in words, the classes compared, the triggers as pictures.

result, recovered = scan(model, clean)
report.add(scan_section(result, recovered, clean))
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from doorward.reporting.blocks import (
    Block,
    Note,
    Number,
    Numbers,
    Table,
    Verdict,
)
from doorward.reporting.numerals import format_value, percent
from doorward.reporting.plots import Bars, is_drawable
from doorward.reporting.recovered import trigger_blocks
from doorward.reporting.report import Section

if TYPE_CHECKING:
    from doorward.data import ImageData
    from doorward.scanning import Finding, Recovered, ScanResult

__all__ = ["class_name", "scan_section"]

_MOST_CLASSES = 20  # drawn and tabulated; of more, the most suspicious
_MOST_ACCUSED = 3  # shown with pictures


def scan_section(
    result: ScanResult,
    recovered: Mapping[int, Recovered] | None = None,
    clean: ImageData | None = None,
    *,
    seed: int = 0,
    title: str = "Is this model attacked?",
) -> Section:
    """What a scan found, for people.

    Args:
        result: of `doorward.scanning.scan`.
        recovered: the triggers it recovered, by class; without them there are no pictures.
        clean: images to show stamped; without them there are no such examples.
        seed: of which samples and images are shown.
        title: of the section.
    """
    accused = {_label(result, target) for target in result.accused}
    shown = sorted(result.findings, key=lambda finding: -finding.statistic)[:_MOST_CLASSES]
    shown.sort(key=lambda finding: finding.target)
    blocks: list[Block] = [
        *_verdicts(result),
        Numbers(
            Number("Classes attacked", len(result.accused), f"of {len(result.findings)}"),
            Number("Scanner", result.scanner, f"seed {result.seed}"),
            Number(
                "Clean images used",
                result.images,
                "no labels needed" if result.labels == "model" else "",
            ),
            Number("Seconds", f"{result.seconds:.1f}", f"{result.peak_memory_mib:.0f} MiB"),
        ),
    ]
    if any(is_drawable(finding.statistic) for finding in shown):
        blocks.append(_bars(result, shown, accused))
    blocks.append(_table(result, shown))
    for target in result.accused[:_MOST_ACCUSED]:
        if recovered and target in recovered:
            name = class_name(result.classes, target)
            blocks += trigger_blocks(recovered[target], clean, name, seed=seed)
    blocks.append(_limits(result))
    return Section(title, tuple(blocks), summary=_summary(result))


def class_name(classes: tuple[str, ...], target: int) -> str:
    """A class as people call it: its name, and its number where that is not the name.

    >>> class_name(("cat", "dog"), 1), class_name(("0", "1"), 1), class_name((), 7)
    ('class 1 (dog)', 'class 1', 'class 7')
    """
    name = classes[target] if target < len(classes) else str(target)
    return f"class {target}" if name == str(target) else f"class {target} ({name})"


def _verdicts(result: ScanResult) -> list[Verdict]:
    if not result.accused:
        nearest = result.finding(result.suspect)
        return [
            Verdict(
                "Was a backdoor found?",
                False,
                good=True,
                detail=f"the most suspicious is {class_name(result.classes, nearest.target)}: "
                + _evidence(result, nearest),
            )
        ]
    return [
        Verdict(
            f"Is {class_name(result.classes, target)} attacked?",
            True,
            good=False,
            detail=_evidence(result, result.finding(target)),
        )
        for target in result.accused
    ]


def _evidence(result: ScanResult, finding: Finding) -> str:
    """Why a class is accused, or not, in one line."""
    p = _p_value(result, finding)
    if result.decided_by == "controls" and p is not None:
        words = (
            f"p = {p:.2g} against {result.controls} clean models "
            f"(statistic {format_value(finding.statistic, digits=3)})"
        )
    else:
        side = "above" if finding.statistic > result.alarm else "not above"
        words = (
            f"statistic {format_value(finding.statistic, digits=3)}, {side} the alarm at "
            f"{format_value(result.alarm, digits=3)}"
        )
    if finding.attack_success is None:
        return words
    return (
        f"{words}; recovered triggers send {percent(finding.attack_success)} of the images of "
        "other classes there"
    )


def _summary(result: ScanResult) -> str:
    if not result.accused:
        return f"No backdoor found. What was searched: {_searched(result)}."
    names = [class_name(result.classes, target) for target in result.accused]
    verb = "is" if len(names) == 1 else "are"
    told = f"{', '.join(names)} {verb} attacked".replace("class", "Class", 1)
    return (
        f"{told}: there are triggers that make this model read almost anything as that class."
        if len(names) == 1
        else f"{told}: there are triggers that make this model read almost anything as one of them."
    )


def _searched(result: ScanResult) -> str:
    return result.searched.strip().rstrip(".") or "the triggers that this scanner knows"


def _limits(result: ScanResult) -> Note:
    decided = (
        f"Accused is a class whose p-value against {result.controls} clean models is at most 0.05."
        if result.decided_by == "controls"
        else "Accused is a class whose statistic exceeds the alarm, the scanner's own default or "
        f"one given by the caller. {result.decision}"
    )
    if not result.accused:  # what was searched stands in the summary
        return Note(
            f"{decided} That nothing was found is evidence about the triggers that were searched, "
            "not about others."
        )
    return Note(f"{decided} What was searched: {_searched(result)}.")


def _p_value(result: ScanResult, finding: Finding) -> float | None:
    if result.p_values is None:
        return None
    return result.p_values[result.findings.index(finding)]


def _label(result: ScanResult, target: int) -> str:
    return class_name(result.classes, target).removeprefix("class ")


def _bars(result: ScanResult, shown: list[Finding], accused: set[str]) -> Bars:
    values = {_label(result, finding.target): finding.statistic for finding in shown}
    return Bars(
        values,
        x="statistic (the larger, the more suspicious)",
        line=result.alarm if result.decided_by == "alarm" else None,
        line_label="alarm",
        marked=tuple(label for label in values if label in accused),
        mark="attacked",
        caption="What the scanner says of each class" + _cut(result),
    )


def _cut(result: ScanResult) -> str:
    left = len(result.findings) - _MOST_CLASSES
    return f" (the {_MOST_CLASSES} most suspicious of {len(result.findings)})" if left > 0 else ""


def _deviations(score: float) -> str:
    """A robust z; where hardly any class differs from the median, it has no bounds.

    >>> _deviations(2.345), _deviations(1e6), _deviations(-1e6)
    ('2.3', '> 999', '< -999')
    """
    if abs(score) < 999.5:
        return f"{score:.1f}"
    return "> 999" if score > 0 else "< -999"


def _table(result: ScanResult, shown: list[Finding]) -> Table:
    scores = dict(zip((f.target for f in result.findings), result.robust_z, strict=True))
    tried = any(finding.attack_success is not None for finding in shown)
    columns = ["Class", "Statistic", "Robust z"]
    columns += ["p-value"] * (result.p_values is not None)
    columns += ["Success of its triggers"] * tried
    rows = []
    for finding in shown:
        row: list[object] = [
            _label(result, finding.target),
            format_value(finding.statistic, digits=3),
            _deviations(scores[finding.target]),
        ]
        if result.p_values is not None:
            row.append(f"{_p_value(result, finding):.3f}")
        if tried:
            success = finding.attack_success
            row.append(None if success is None else percent(success))
        rows.append([*row, finding.target in result.accused])
    return Table(
        [*columns, "Attacked"],
        rows,
        "Class by class" + _cut(result),
        note="Robust z: deviations above the median of all classes. Success: share of held-out "
        "clean images of other classes that the recovered triggers send to this class."
        if tried
        else "Robust z: deviations above the median of all classes.",
    )
