"""Fitting: the bounds are hard whatever is asked for, the smallest lean that suffices is taken."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from doorward.data import ImageData
from doorward.errors import InvalidInput, ModelUnsuitable
from doorward.honeypot.lean import (
    Entry,
    LeanBudget,
    LeanKey,
    LeanResult,
    Menu,
    amplitudes,
    cost_of,
    fit_lean,
    make_menu,
    signal_of,
    waved,
)
from doorward.metrics import accuracy, expected_calibration_error, predict

SHAPE = (1, 16, 16)


class Doubtful(nn.Module):
    """A linear model of the digits, sure of itself to a chosen degree."""

    def __init__(self, digits: ImageData, sureness: float = 6.0) -> None:
        super().__init__()
        flat = digits.pixels().flatten(1).double()
        wanted = nn.functional.one_hot(digits.labels, 10).double()
        ridge = flat.T @ flat + torch.eye(flat.shape[1], dtype=torch.float64)
        self.register_buffer("weights", (torch.linalg.solve(ridge, flat.T @ wanted)).float())
        self.sureness, self.num_classes = sureness, 10

    def forward(self, images):
        return images.flatten(1) @ self.weights * self.sureness


@pytest.fixture(scope="module")
def model(leaning_digits):
    return Doubtful(leaning_digits)


@pytest.fixture(scope="module")
def menu(model, leaning_digits):
    return make_menu(model, leaning_digits, most=8)


@given(
    agreement=st.floats(0.95, 1.0),
    drop=st.floats(0, 0.02),
    change=st.floats(0.001, 0.05),
    share=st.floats(0.001, 0.1),
    mode=st.sampled_from(["kept", "calibrated", "label", "plain"]),
)
@settings(max_examples=12, deadline=None)
def test_bounds_are_hard(model, menu, leaning_digits, agreement, drop, change, share, mode):
    budget = LeanBudget(
        agreement=agreement, accuracy_drop=drop, ece_change=change, target_share=share
    )
    key = LeanKey.new(bits=2)
    options = {"strengths": (0.5, 2.0, 4.0), "depths": (None, 4.0), "thresholds": (0.0, 1.0)}
    try:
        lean, result = fit_lean(
            model, leaning_digits, key, budget=budget, mode=mode, menu=menu,
            pool=leaning_digits, **options,
        )  # fmt: skip
    except ModelUnsuitable:
        return  # said rather than broken; test_what_cannot_be_fitted_says_why
    # Measured anew on the module itself, not on the numbers that the fit reports.
    before, after = predict(model, leaning_digits), predict(lean, leaning_digits)
    labels = leaning_digits.labels
    assert float((before.argmax(1) == after.argmax(1)).double().mean()) >= agreement
    assert accuracy(model, leaning_digits) - accuracy(lean, leaning_digits) <= drop + 1e-12
    if mode != "label":
        errors = [expected_calibration_error(logits, labels) for logits in (before, after)]
        assert errors[1] - errors[0] <= change + 1e-6
        for target in lean.targets:
            rise = after.softmax(1)[:, target].mean() - before.softmax(1)[:, target].mean()
            assert float(rise) <= share + 1e-6
    assert result.cost.excess(budget) == ()
    assert result.signal > 0


def test_the_smallest_sufficient_lean_is_taken(model, menu, leaning_digits):
    key = LeanKey.new(bits=2)
    wide = LeanBudget(agreement=0, accuracy_drop=1, ece_change=1, target_share=1)
    options = {"budget": wide, "menu": menu, "pool": leaning_digits, "depths": (None,)}
    signals = [
        fit_lean(model, leaning_digits, key, strengths=(c,), **options)[1].signal
        for c in (0.5, 1.0, 2.0)
    ]
    assert signals == sorted(signals)
    enough = (signals[0] + signals[1]) / 2
    strengths = (2.0, 0.5, 1.0)
    _, result = fit_lean(
        model, leaning_digits, key, strengths=strengths, sufficient=enough, **options
    )
    assert (result.strength, result.reached) == (1.0, True)
    _, result = fit_lean(
        model, leaning_digits, key, strengths=strengths, sufficient=99.0, **options
    )
    assert (result.strength, result.reached) == (2.0, False)
    assert LeanResult.from_dict(result.to_dict()) == result


def test_the_menu_holds_what_images_carry_and_the_model_leaves_alone(model, menu, leaning_digits):
    pixels, labels = leaning_digits.pixels(), leaning_digits.labels
    natural = amplitudes(pixels, menu.waves).median(0).values
    assert (natural > 0.4 / 255).all()
    assert (natural < 48 / 255 / 3).all()
    spaced = make_menu(model, leaning_digits, most=8, spacing=3)
    for number, (u, v) in enumerate(spaced.waves):
        assert all(max(abs(u - a), abs(v - b)) >= 3 for a, b in spaced.waves[:number])
    some = make_menu(model, leaning_digits, most=8, images=300, ceiling=0.05)
    for entry in some.entries:
        answers = model(waved(pixels, (entry.across, entry.down), (48 / 255,))).argmax(1)
        for target in entry.targets:
            assert float((answers[labels != target] == target).float().mean()) <= 0.05


def test_costs_and_signals_by_hand():
    before = torch.tensor([[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [0.0, 2.0]])
    after = before.clone()
    after[0] = torch.tensor([0.0, 2.0])
    labels = torch.tensor([0, 0, 1, 1])
    cost = cost_of(before, after, labels, [1])
    assert (cost.agreement, cost.accuracy_drop) == (0.75, 0.25)
    p = float(torch.tensor([2.0, 0.0]).softmax(0)[0])
    assert cost.target_share == pytest.approx((2 * p - 1) / 4)
    assert cost_of(before, after, labels, [1], soft=False).target_share == 0.25
    assert cost_of(before, after, labels, [1], soft=False).ece_change is None
    assert signal_of(before, after, soft=False) == 0.25
    assert signal_of(before, after) == pytest.approx((2 * p - 1) * 2 / 4)
    assert len(cost.excess(LeanBudget())) == 4 - (cost.ece_change <= 0.005)


def test_what_cannot_be_fitted_says_why(model, menu, leaning_digits):
    key = LeanKey.new(bits=2)
    given = {"menu": menu, "pool": leaning_digits}
    with pytest.raises(ModelUnsuitable, match="target_share"):
        fit_lean(model, leaning_digits, key, budget=LeanBudget(target_share=0.0), **given)
    with pytest.raises(InvalidInput, match="pool"):
        fit_lean(model, leaning_digits, key, menu=menu, pool=leaning_digits.resized(8))
    with pytest.raises(InvalidInput, match="too short"):
        fit_lean(model, leaning_digits, LeanKey.new(bits=16), **given)
    with pytest.raises(InvalidInput, match="mode"):
        fit_lean(model, leaning_digits, key, mode="soft", **given)
    with pytest.raises(InvalidInput, match="strengths"):
        fit_lean(model, leaning_digits, key, strengths=(0.0,), **given)
    with pytest.raises(InvalidInput, match="menu"):
        fit_lean(model, leaning_digits, key, ceiling=0.1, **given)
    with pytest.raises(ModelUnsuitable, match="no wave"):
        make_menu(model, leaning_digits, amplitudes=(1 / 255,))
    with pytest.raises(InvalidInput):
        make_menu(model, leaning_digits, amplitudes=())
    other = Menu(classes=3, image_shape=SHAPE, entries=(Entry(across=2, down=0, targets=(0,)),))
    with pytest.raises(InvalidInput, match="menu"):
        fit_lean(model, leaning_digits, LeanKey.new(bits=1), menu=other, pool=leaning_digits)
