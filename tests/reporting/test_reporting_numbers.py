"""Numbers as text, and blocks from results."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.records import environment
from doorward.reporting import (
    Table,
    environment_table,
    format_value,
    percent,
    power_of_two,
    training_curves,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (9999, "9999"),
        (10_000, "10\u202f000"),
        (-1234567, "-1\u202f234\u202f567"),
        (0.98765432, "0.9877"),
        (12345.6, "12\u202f346"),
        (1e-30, "1e-30"),
        (math.inf, "∞"),
        (-math.inf, "\u2212∞"),
        (math.nan, "not a number"),
        (False, "no"),
        (None, "\u2013"),
        ("<b>", "<b>"),
    ],
)
def test_values(value: object, text: str) -> None:
    assert format_value(value) == text


@given(st.floats(0, 1))
def test_only_all_is_100_percent_and_only_none_is_0(share: float) -> None:
    assert (percent(share) == "100.0 %") == (share == 1)
    assert (percent(share) == "0.0 %") == (share == 0)
    assert abs(float(percent(share).removesuffix(" %")) - 100 * share) <= 0.1


@pytest.mark.parametrize(
    ("log2", "text"), [(-64, "2⁻⁶⁴"), (-5.25, "2⁻⁵·²"), (-math.inf, "0"), (0.0, "1"), (3, "2³")]
)
def test_powers(log2: float, text: str) -> None:
    assert power_of_two(log2) == text


def test_columns_of_numbers_are_found() -> None:
    rows = [
        ["a", 1, "98.6 %", "2⁻²¹⁶", "0.98 ± 0.01", True, "x1"],
        ["b", None, "1 %", "0.4", "\u2013", False, "2"],
    ]
    assert Table(list("abcdefg"), rows).numeric == [False, True, True, True, True, False, False]


def test_the_environment_as_a_table() -> None:
    rows = dict(environment_table(environment()).rows)
    assert rows["Python"].startswith("3.")
    assert "torch" in rows
    assert None not in rows.values()


def test_curves_of_a_history() -> None:
    history = [
        {"epoch": 1, "loss": 2.0, "validation_loss": 2.5, "accuracy": 0.5, "lr": 0.1},
        {"epoch": 2, "loss": math.nan, "validation_loss": 1.5, "accuracy": 0.75, "lr": 0.1},
    ]
    loss, share = training_curves(history, caption="c")
    assert loss.series == {"loss": ([1.0], [2.0]), "validation loss": ([1.0, 2.0], [2.5, 1.5])}
    assert share.series == {"accuracy": ([1.0, 2.0], [0.5, 0.75])}
    assert (share.y, share.caption) == ("accuracy", "c")
    assert training_curves([]) == []
    assert training_curves([{"epoch": 1, "lr": 1.0}]) == []
