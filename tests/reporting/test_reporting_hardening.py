"""The section about class distances: pictures, tables, and what is out of reach."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doorward.data import ImageData
from doorward.hardening import DistanceResult, PairAttack, measure_distances, measuring
from doorward.reporting import Report
from doorward.reporting.hardening import close_pairs, distance_section, heat_map

CLASSES = ("a rather long name", "b", "c")


@pytest.fixture(scope="module")
def measured() -> tuple[DistanceResult, PairAttack, ImageData]:
    images = torch.full((24, 3, 6, 6), 128, dtype=torch.uint8)
    clean = ImageData(images, torch.arange(3).repeat(8), CLASSES)
    head = nn.Linear(108, 3)
    head.weight.data = torch.stack([torch.zeros(108), torch.ones(108), torch.zeros(108)])
    head.bias.data = torch.tensor([0.0, -54.5, -1e4])
    attack = measuring("pixel", families=("additive",), starts=1, epochs=40)
    result, found = measure_distances(nn.Sequential(nn.Flatten(), head), clean, attack=attack)
    return result, found, clean


def test_the_section_says_what_was_reached(
    measured: tuple[DistanceResult, PairAttack, ImageData],
) -> None:
    result, found, clean = measured
    assert (0, 2) in result.unreachable
    page = Report("t").add(distance_section(result, found, clean)).html()
    for words in ("class 0 (a rather long name)", "out of its reach", result.recipe_digest[:12]):
        assert words in page
    assert page.count("data:image/png") == 2
    assert Report("t").add(distance_section(result)).html().count("data:image/png") == 1


def test_pictures(measured: tuple[DistanceResult, PairAttack, ImageData]) -> None:
    result, found, clean = measured
    assert min(heat_map(result).size) > 200
    picture = close_pairs(result, found, clean, pairs=1)
    assert picture is not None
    assert picture.size[0] > 6 * 12
    assert close_pairs(result, found, clean.of_class(2), pairs=1) is None or result.unreachable


def test_nothing_reached_and_many_classes() -> None:
    count = 40
    nothing = [[None] * count for _ in range(count)]
    censored = [[s != t for t in range(count)] for s in range(count)]
    facts = {
        "kind": "patch", "measuring": {}, "recipe_digest": "0" * 64, "data": "d", "images": 1,
        "labels": "given", "classes": tuple(map(str, range(count))), "distances": nothing,
        "censored": censored, "success": nothing, "measures": {"patch": nothing},
        "by_start": [nothing], "mean": {"mean": None, "low": None, "high": None, "count": 0},
        "median": None, "start_spread": None, "seed": 0, "device": "cpu", "seconds": 1.0,
        "forward_images": 0, "peak_memory_mib": 1.0, "environment": {},
    }  # fmt: skip
    result = DistanceResult.from_dict(facts)
    page = Report("t").add(distance_section(result)).html()
    assert "led no class to another" in page
