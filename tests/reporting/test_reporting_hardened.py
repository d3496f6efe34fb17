"""The sections about a hardening: what was kept, maps of one scale, natural backdoors."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import nn

from doorward.data import ImageData
from doorward.hardening import HardeningResult, measure_distances, measuring
from doorward.reporting import Report
from doorward.reporting.hardened import hardening_section, natural_section

CLASSES = ("a", "b", "c")
FACTS: dict[str, Any] = {
    "method": "deck", "parameters": {}, "recipe_digest": "0" * 64, "data": "d", "images": 24,
    "labels": "given", "budget_accuracy": 1.0, "accuracy_before": 0.95, "accuracy_after": 0.945,
    "held_out": 200, "own_validation": True, "ended": "steps", "kept_steps": 4,
    "checks": [
        {"steps": 4, "accuracy": 0.945, "kept": True, "lr": 0.01, "success": 0.8, "seconds": 1.0},
        {"steps": 8, "accuracy": None, "kept": False, "lr": 0.005, "success": None, "seconds": 1.0},
    ],
    "seed": 0, "device": "cpu", "seconds": 2.0, "peak_memory_mib": 1.0, "history": [],
    "environment": {},
}  # fmt: skip


def test_sections_say_what_was_measured() -> None:
    images = torch.full((24, 3, 6, 6), 128, dtype=torch.uint8)
    clean = ImageData(images, torch.arange(3).repeat(8), CLASSES)
    head = nn.Linear(108, 3)
    head.weight.data = torch.stack([torch.zeros(108), torch.ones(108), torch.zeros(108)])
    head.bias.data = torch.tensor([0.0, -54.5, -1e4])
    attack = measuring("pixel", families=("additive",), starts=1, epochs=40)
    before, found = measure_distances(nn.Sequential(nn.Flatten(), head), clean, attack=attack)
    doubled = [[None if d is None else 2 * d for d in row] for row in before.distances]
    after = dataclasses.replace(before, distances=doubled)
    result = HardeningResult.from_dict(FACTS)
    survive = torch.linspace(0, 0.5, len(found.aims)).tolist()
    page = Report("t").add(
        hardening_section(result, [(before, after)]),
        natural_section(before, found, clean, survive),
    )
    shown = page.html()
    said = "0.50 points of accuracy lost"
    for words in ("+100 %", said, "diverged", "no, undone", "Natural backdoors", "Nobody"):
        assert words in shown
    assert shown.count("data:image/png") == 3
    nothing = HardeningResult.from_dict({**FACTS, "kept_steps": 0, "ended": "budget"})
    assert "as it was" in Report("t").add(hardening_section(nothing)).html()
