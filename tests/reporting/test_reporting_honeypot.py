"""The section about a honeypot: what it says of guilty and innocent copies, and what it shows."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from doorward.data import ImageData
from doorward.honeypot import LeanBudget, LeanResult, Menu, Verdict
from doorward.honeypot.lean import Bit, Cost, Entry
from doorward.reporting import Report, honeypot_section

LEVELS = (32 / 255, 64 / 255)
BITS = (Bit(across=2, down=0, target=1), Bit(across=0, down=2, target=2))


@pytest.fixture
def fitted():
    menu = Menu(
        classes=3,
        image_shape=(1, 8, 8),
        entries=tuple(Entry(across=b.across, down=b.down, targets=(1, 2)) for b in BITS),
    )
    return LeanResult(
        mode="kept", strength=2.0, threshold=0.0, depth=None, sharpness=1.0, bits=2, signal=0.31,
        sufficient=0.1, reached=True,
        cost=Cost(agreement=1.0, accuracy_drop=0.0, ece_change=0.021, target_share=0.03),
        budget=LeanBudget(), menu=menu, images=77, pool="p", seconds=1.0, peak_memory_mib=1.0,
    )  # fmt: skip


@pytest.fixture
def guilty():
    return Verdict(
        verified=True, reason="Chance does not explain this.", commitment_opened=True,
        log2_p=-11.0, log2_alpha=-10.0, keys=4, bits=2, images=32, planned=64,
        looks=((32, -11.0),), queries=160, success=(0.4, 0.9), amplitudes=LEVELS,
        control_success=(), control_p=None, owner="Ada", fingerprint="0" * 64,
        claimed="2026-01-01T00:00:00Z", verified_at="2026-02-01T00:00:00Z",
    )  # fmt: skip


CURVES = {"copy of the leaning model": [0.4, 0.9], "copy of the undefended model": [0.05, 0.1]}


def test_guilty_and_innocent_copies_are_told_apart(fitted, guilty):
    innocent = dataclasses.replace(guilty, verified=False, log2_p=-0.5)
    section = honeypot_section(
        fitted, CURVES, {"leaning": guilty, "undefended": innocent}, amplitudes=LEVELS
    )
    verdicts = [block for block in section.blocks if block.kind == "verdict"]
    assert [(v.answer, v.welcome) for v in verdicts] == [(True, True), (False, True)]
    wrong = honeypot_section(
        fitted, CURVES, {"leaning": innocent, "undefended": guilty}, amplitudes=LEVELS
    )
    assert not any(v.welcome for v in wrong.blocks if v.kind == "verdict")
    (curve,) = [block for block in section.blocks if hasattr(block, "series")]
    xs, ys = curve.series["copy of the leaning model"]
    assert [round(x) for x in xs] == [32, 64]
    assert [round(y) for y in ys] == [40, 90]


def test_the_page_shows_the_waves_only_when_they_are_given(fitted, guilty):
    clean = ImageData(
        torch.full((4, 1, 8, 8), 128, dtype=torch.uint8), torch.zeros(4).long(), ("a", "b", "c")
    )
    quiet = Report("t").add(
        honeypot_section(fitted, CURVES, {"leaning": guilty}, amplitudes=LEVELS, clean=clean)
    )
    assert "data:image/png" not in quiet.html()
    open_ = honeypot_section(
        fitted, CURVES, {"leaning": guilty}, amplitudes=LEVELS, clean=clean, waves=BITS
    )
    page = Report("t").add(open_).html()
    assert page.count("data:image/png") == 1
    for words in ("a copy is to read b, c", "77 images", "0.31", "2⁻¹¹", "<svg"):
        assert words in page
