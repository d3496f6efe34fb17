"""The frame around every scanner: verdicts, controls, p-values, and what it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from doorward.data import ImageData, load
from doorward.errors import InvalidInput, ModelUnsuitable, UnknownName
from doorward.models import create
from doorward.records import STRICT
from doorward.scanning import (
    Controls,
    Finding,
    Look,
    Scanner,
    ScanResult,
    Stamp,
    controls_from,
    scan,
    scanner,
)
from doorward.scanning.verdicts import robust_z


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Fixed(Scanner):
    """Says what it is told to."""

    alarm: float = 1.0
    says: tuple[float, ...] = (0.0, 3.0, 0.5, 2.0)

    def look(self, model: nn.Module, clean: ImageData, context: Any) -> Look:
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert not model.training
        findings = [Finding(target=k, statistic=value) for k, value in enumerate(self.says)]
        stamp = Stamp.of(1, mask=torch.ones(1, 16, 16), pattern=torch.ones(1, 16, 16))
        return Look(findings[::-1], {1: stamp.train()} if findings else {})


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load("digits").sample(20, seed=0).resized(16)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return create("resnet8", classes=10, input_shape=(1, 16, 16), width=4)


def controls(*statistics: float) -> Controls:
    return Controls(scanner="Fixed", recipe_digest=Fixed().digest(), statistics=statistics)


def test_the_alarm_decides_without_controls(digits: ImageData, model: nn.Module) -> None:
    result, recovered = scan(model, digits, Fixed())
    assert [finding.target for finding in result.findings] == [0, 1, 2, 3]
    assert (result.accused, result.found, result.suspect) == ([1, 3], True, 1)
    assert (result.p_values, result.controls, result.decided_by) == (None, 0, "alarm")
    assert "not by a p-value: with 19 clean control models" in result.decision
    assert result.finding(3).statistic == 2.0
    assert not recovered[1].training
    assert (result.images, result.labels, result.data) == (20, "given", digits.name)
    again = ScanResult.from_dict(json.loads(json.dumps(result.to_dict())))
    assert again == result
    with pytest.raises(InvalidInput, match="class 7 was not looked at"):
        result.finding(7)


def test_the_alarm_itself_is_no_alarm(digits: ImageData, model: nn.Module) -> None:
    result, _ = scan(model, digits, Fixed(alarm=3.0))
    assert (result.accused, result.found, result.suspect) == ([], False, 1)


def test_enough_controls_decide(digits: ImageData, model: nn.Module) -> None:
    """19 controls give p = 1/20 at least; one as large gives 2/20, and the alarm has no say."""
    calm = controls(*[0.1 * k for k in range(19)])
    result, _ = scan(model, digits, Fixed(), controls=calm)
    assert (result.decided_by, result.controls) == ("controls", 19)
    assert result.decision == "Decided by p <= 0.05 against 19 clean control models."
    assert result.p_values == [20 / 20, 1 / 20, 15 / 20, 1 / 20]
    assert result.accused == [1, 3]
    result, _ = scan(model, digits, Fixed(), controls=controls(*[0.1] * 18, 2.5))
    assert result.accused == [1]
    result, _ = scan(model, digits, Fixed(), controls=controls(*[0.1] * 18, 3.0))
    assert result.p_values is not None
    assert (result.p_values[1], result.accused) == (0.1, [])


def test_few_controls_are_shown_and_the_alarm_decides(digits: ImageData, model: nn.Module) -> None:
    result, _ = scan(model, digits, Fixed(), controls=controls(*[9.0] * 18))
    assert (result.decided_by, result.accused) == ("alarm", [1, 3])
    assert result.p_values == [1.0] * 4
    assert "fixed alarm (1), not by a p-value: with 18 control models" in result.decision


def test_controls_of_other_scans_are_refused(digits: ImageData, model: nn.Module) -> None:
    with pytest.raises(InvalidInput, match="other parameters"):
        scan(model, digits, Fixed(alarm=2.0), controls=controls(1.0))
    other = Controls(scanner="bias", recipe_digest="ab", statistics=(1.0,))
    with pytest.raises(InvalidInput, match="scanned by bias, not by Fixed"):
        scan(model, digits, Fixed(), controls=other)


def test_controls_are_made_of_scans(digits: ImageData, model: nn.Module) -> None:
    first, _ = scan(model, digits, Fixed())
    second, _ = scan(model, digits, Fixed(), seed=4)
    made = controls_from({"a": first, "b": second})
    assert (made.statistics, made.models, made.scanner) == ((3.0, 3.0), ("a", "b"), "Fixed")
    third, _ = scan(model, digits, Fixed(says=(1.0,)))
    with pytest.raises(InvalidInput, match="c was scanned in another way"):
        controls_from({"a": first, "c": third})
    with pytest.raises(InvalidInput, match="no control models"):
        controls_from({})


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=30), st.floats(-6, 6), st.floats(0, 2))
def test_p_values_are_shares_and_fall(values: list[float], at: float, more: float) -> None:
    known = controls(*values)
    assert known.smallest_p <= known.p_value(at + more) <= known.p_value(at) <= 1


@given(st.lists(st.integers(-1000, 1000), min_size=1, max_size=20), st.integers(1, 9))
def test_robust_z_knows_no_scale_and_no_offset(values: list[int], factor: int) -> None:
    plain = [float(value) for value in values]
    moved = [factor * value + 7.0 for value in plain]
    assert robust_z(moved) == pytest.approx(robust_z(plain))


def test_a_trifle_among_equal_classes_is_no_outlier(digits: ImageData, model: nn.Module) -> None:
    result, _ = scan(model, digits, Fixed(alarm=4.0, says=(0.0, 0.07, 0.0, 5.0, 0.0)))
    assert result.robust_z == pytest.approx([0.0, 0.035, 0.0, 2.5, 0.0])
    assert result.accused == [3]


def test_the_models_own_labels(digits: ImageData) -> None:
    seen: list[Tensor] = []

    class Watch(Fixed):
        def look(self, model: nn.Module, clean: ImageData, context: Any) -> Look:
            seen.append(clean.labels)
            return super().look(model, clean, context)

    three = create("resnet8", classes=["a", "b", "c"], input_shape=(1, 16, 16), width=4)
    result, _ = scan(three, digits, Watch(), labels="model")
    with torch.no_grad():
        answers = three.eval()(digits.pixels()).argmax(1)
    assert torch.equal(seen[0], answers)
    assert (result.labels, result.classes) == ("model", ("a", "b", "c"))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "resnet8"}, InvalidInput, "needs the nn.Module itself"),
        ({"clean": torch.zeros(4, 1, 16, 16)}, InvalidInput, "load them as ImageData"),
        ({"labels": "guess"}, InvalidInput, "'given' and 'model'"),
        ({"method": Fixed}, InvalidInput, "a name or a Scanner"),
        ({"method": "neural-clense"}, UnknownName, "Did you mean 'neural-cleanse'"),
        ({"device": "abacus"}, InvalidInput, "no device called"),
        ({"method": Fixed(says=())}, InvalidInput, "Fixed looked at no class"),
        ({"size": 20}, ModelUnsuitable, r"\(1, 16, 16\)"),
    ],
)
def test_bad_calls(
    change: dict[str, Any],
    error: type[Exception],
    message: str,
    digits: ImageData,
    model: nn.Module,
) -> None:
    call: dict[str, Any] = {"model": model, "clean": digits, "method": Fixed()} | change
    if "size" in call:
        call["clean"] = digits.resized(call.pop("size"))
    with pytest.raises(error, match=f"(?i){message}"):
        scan(**call)


def test_unknown_parameters_are_refused() -> None:
    with pytest.raises(InvalidInput, match="patiense"):
        scanner("neural-cleanse", patiense=3)
    with pytest.raises(InvalidInput, match="is not valid"):
        scanner("pixel", success=1.5)
