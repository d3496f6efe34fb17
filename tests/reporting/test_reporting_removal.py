"""The section about a purge: its words fit how the purge ended, and no step is left out."""

from __future__ import annotations

from typing import Any

import pytest

import doorward.reporting as dr
from doorward.removal.purging import PurgeResult, Round, Step
from doorward.reporting.removal import purge_section
from doorward.scanning import Finding, ScanResult


def verdict(accused: list[int]) -> ScanResult:
    return ScanResult(
        scanner="corner", parameters={}, recipe_digest="ab", searched="squares in corners.",
        data="images", images=24, labels="given", classes=("cat", "dog", "2"),
        findings=[
            Finding(target=k, statistic=9.5 if k in accused else 0.25) for k in range(3)
        ],
        robust_z=[0.0] * 3, alarm=2.0, p_values=None, controls=0, decided_by="alarm",
        accused=accused, seed=0, device="cpu", seconds=1.5, peak_memory_mib=300.0, history=[],
        details={}, environment={},
    )  # fmt: skip


def step(**changes: Any) -> Step:
    known: dict[str, Any] = {
        "kind": "unlearn", "method": "mesa-unlearning", "parameters": {}, "accuracy": 0.9,
        "success": {1: 0.02}, "accepted": True, "why": "within the budget", "seconds": 2.0,
        "peak_memory_mib": 300.0,
    }  # fmt: skip
    return Step(**{**known, **changes})


def purged(ended: str, *rounds: Round, **changes: Any) -> PurgeResult:
    known: dict[str, Any] = {
        "ended": ended, "budget_accuracy": 1.0, "accuracy_before": 0.92, "accuracy_after": 0.915,
        "success_before": {1: 0.98}, "success_after": {1: 0.02}, "rounds": list(rounds),
        "finish": ("fst",), "data": "images", "images": 24, "held_out": 5, "labels": "given",
        "seed": 0, "device": "cpu", "seconds": 12.0, "peak_memory_mib": 300.0, "environment": {},
    }  # fmt: skip
    return PurgeResult(**{**known, **changes})


FOUND = Round(
    verdict=verdict([1]),
    success={1: 0.98},
    steps=[
        step(accuracy=0.7, accepted=False, why="costs 22 points"),
        step(),
        step(kind="finish", method="fst", success={1: 0.0}, accuracy=None, accepted=False,
             why="training diverged"),
    ],
)  # fmt: skip
NOTHING = Round(verdict=verdict([]), success={}, steps=[])


def of(kind: type, section: dr.Section) -> list[Any]:
    return [block for block in section.blocks if isinstance(block, kind)]


def test_a_purge_that_worked_shows_every_round_and_step() -> None:
    section = purge_section(purged("clean", FOUND, NOTHING))
    assert section.summary.startswith("Triggers of class 1 (dog) were found and removed")
    (answer,) = of(dr.Verdict, section)
    assert (answer.answer, answer.welcome) == (False, True)
    success, rounds, steps = of(dr.Table, section)
    assert success.rows == [["class 1 (dog)", "98.0 %", "2.0 %"]]
    assert [row[:4] for row in rounds.rows] == [
        ["1", "class 1 (dog)", "9.5", "2"],
        ["2", "nothing found", "0.25", "2"],
    ]
    assert [row[3:6] for row in steps.rows] == [
        ["98.0 %", None, ""],
        ["2.0 %", False, "costs 22 points"],
        ["2.0 %", True, "within the budget"],
        ["0.0 %", False, "training diverged"],
    ]
    (numbers,) = of(dr.Numbers, section)
    shown = {item.label: (item.value, item.note) for item in numbers.items}
    assert shown["Accuracy after"] == ("91.5 %", "\u22120.5 points; 1 may be lost")
    assert shown["Repairs kept"] == (1, "of 3 tried")
    assert "squares in corners." in of(dr.Note, section)[0].text


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        ("rounds", "no round was left"),
        ("stuck", "no repair was acceptable (points of accuracy to lose: 1)"),
    ],
)
def test_a_purge_that_failed_says_so(ended: str, words: str) -> None:
    left = Round(verdict=verdict([1]), success={1: 0.9}, steps=[])
    section = purge_section(purged(ended, FOUND, left, success_after={1: 0.9}))
    assert words in section.summary
    assert "Do not use this model" in section.summary
    (answer,) = of(dr.Verdict, section)
    assert (answer.answer, answer.welcome, answer.detail) == (
        True, False, "still attacked: class 1 (dog)",
    )  # fmt: skip


def test_a_clean_model_is_said_to_be_left_alone_only_if_it_was() -> None:
    alone = purged("nothing found", NOTHING, success_before={}, success_after={})
    section = purge_section(alone)
    assert section.summary == "No backdoor was found, and the model was left as it is."
    assert len(of(dr.Table, section)) == 1
    finished = Round(verdict=verdict([]), success={}, steps=[step(kind="finish", success={})])
    changed = purged("nothing found", finished, success_before={}, success_after={})
    assert "finishing step" in purge_section(changed).summary
    (_, steps) = of(dr.Table, purge_section(changed))
    assert [row[3] for row in steps.rows] == [None, None]


def test_labels_of_the_model_are_told_and_the_page_is_written() -> None:
    section = purge_section(purged("clean", FOUND, NOTHING, labels="model"))
    assert "the model's own first answers" in of(dr.Note, section)[0].text
    assert "mesa-unlearning" in dr.Report("A purge").add(section).html()
