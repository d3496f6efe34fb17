"""The section about a scan: its words fit the verdict, and its pictures show what was recovered."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest
import torch

import doorward.reporting as dr
from doorward.data import ImageData
from doorward.errors import InvalidInput
from doorward.reporting.plane import principal_plane
from doorward.reporting.scanning import class_name, scan_section
from doorward.scanning import Finding, Recovered, ScanResult
from doorward.scanning.verdicts import robust_z


class Corner(Recovered):
    """Grey squares in the corner, each of its own grey; or always the same."""

    def __init__(self, target: int, *, single: bool = False) -> None:
        super().__init__(target)
        self.single = single

    def config(self) -> dict[str, Any]:
        return {"target": self.target, "single": self.single}

    def pictures(self, count: int, draw: torch.Generator) -> torch.Tensor:
        greys = torch.rand(count, 1, 1, 1, generator=draw)
        return (torch.full_like(greys, 0.5) if self.single else greys).expand(-1, 3, 2, 2)

    def stamp(self, images: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
        marked = images.clone()
        pictures = self.pictures(len(images), draw)[:, : images.shape[1]]
        marked[..., :2, :2] = pictures.to(images.device)
        return marked


def images(count: int = 24, classes: Sequence[str] = ("0", "1", "2", "3")) -> ImageData:
    pixels = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    labels = torch.arange(count) % len(classes)
    return ImageData(pixels.to(torch.uint8), labels, tuple(classes))


def scanned(statistics: Sequence[float], accused: Sequence[int], **changes: Any) -> ScanResult:
    """What a scan with alarm 2 would have returned."""
    known: dict[str, Any] = {
        "scanner": "corner", "parameters": {}, "recipe_digest": "ab",
        "searched": "squares in corners.", "data": "images", "images": 24, "labels": "given",
        "classes": tuple(str(k) for k in range(len(statistics))),
        "findings": [
            Finding(target=k, statistic=value, attack_success=0.9 if k in accused else 0.1)
            for k, value in enumerate(statistics)
        ],
        "robust_z": robust_z(list(statistics)), "alarm": 2.0, "p_values": None, "controls": 0,
        "decided_by": "alarm", "accused": list(accused), "seed": 0, "device": "cpu",
        "seconds": 1.5, "peak_memory_mib": 300.0, "history": [], "details": {}, "environment": {},
    }  # fmt: skip
    return ScanResult(**{**known, **changes})


def of(kind: type, section: dr.Section) -> list[Any]:
    return [block for block in section.blocks if isinstance(block, kind)]


def test_an_attacked_class_is_named_and_shown() -> None:
    result = scanned([0.5, 0.4, 0.6, 7.0], [3])
    section = scan_section(result, {3: Corner(3)}, images())
    assert section.summary.startswith("Class 3 is attacked: ")
    (verdict,) = of(dr.Verdict, section)
    assert (verdict.question, verdict.answer, verdict.welcome) == (
        "Is class 3 attacked?", True, False,
    )  # fmt: skip
    assert "statistic 7, above the alarm at 2" in verdict.detail
    assert "90.0 % of the images of other classes" in verdict.detail
    (bars,) = of(dr.Bars, section)
    assert (bars.values, bars.line) == ({"0": 0.5, "1": 0.4, "2": 0.6, "3": 7.0}, 2.0)
    assert bars.marked == ("3",)
    captions = [picture.caption.partition(" ")[0] for picture in of(dr.Picture, section)]
    assert captions == ["Samples", "Their", "Clean"]
    (scatter,) = of(dr.Scatter, section)
    assert len(scatter.groups["256 samples"]) == 256
    (note,) = of(dr.Note, section)
    assert note.text.endswith("What was searched: squares in corners.")
    assert "fixed alarm (2), not by a p-value: with 19 clean control models" in note.text


def test_no_backdoor_is_an_answer_that_says_what_was_searched() -> None:
    section = scan_section(scanned([0.5, 0.4, 1.9, 0.1], []), {}, images())
    assert section.summary == "No backdoor found. What was searched: squares in corners."
    (verdict,) = of(dr.Verdict, section)
    assert verdict.welcome
    assert not verdict.answer
    assert "class 2: statistic 1.9, not above the alarm" in verdict.detail
    assert of(dr.Picture, section) == of(dr.Scatter, section) == []
    assert [row[-1] for row in of(dr.Table, section)[0].rows] == [False] * 4


def test_triggers_of_classes_that_are_not_accused_are_not_shown() -> None:
    section = scan_section(scanned([0.5, 0.4, 1.9, 0.1], []), {2: Corner(2)}, images())
    assert of(dr.Picture, section) == []


def test_where_controls_decide_the_p_value_is_told_and_no_alarm_is_drawn() -> None:
    result = scanned(
        [0.5, 9.0], [1], p_values=[0.8, 0.04], controls=24, decided_by="controls",
        classes=("cat", "dog"),
    )  # fmt: skip
    section = scan_section(result, None, None)
    assert section.summary.startswith("Class 1 (dog) is attacked")
    assert "p = 0.04 against 24 clean models" in of(dr.Verdict, section)[0].detail
    assert of(dr.Bars, section)[0].line is None
    (table,) = of(dr.Table, section)
    column = list(table.columns).index("p-value")
    assert [row[column] for row in table.rows] == ["0.800", "0.040"]
    assert "p-value against 24 clean models" in of(dr.Note, section)[0].text


def test_several_attacked_classes_share_one_sentence() -> None:
    section = scan_section(scanned([9.0, 0.4, 0.5, 8.0], [0, 3]))
    assert section.summary.startswith("Class 0, class 3 are attacked: ")
    assert [verdict.question for verdict in of(dr.Verdict, section)] == [
        "Is class 0 attacked?", "Is class 3 attacked?",
    ]  # fmt: skip


def test_a_single_trigger_is_shown_once_and_has_no_plane() -> None:
    recovered = {3: Corner(3, single=True)}
    section = scan_section(scanned([0.5, 0.4, 0.6, 7.0], [3]), recovered, images())
    assert of(dr.Scatter, section) == []
    assert next(picture.caption for picture in of(dr.Picture, section)) == "The recovered trigger"
    assert "single trigger" in of(dr.Text, section)[0].text


@pytest.mark.parametrize("count", [1, 3])
def test_few_images_or_only_the_attacked_class_are_enough_for_examples(count: int) -> None:
    only = dataclasses.replace(images(count), labels=torch.full((count,), 3))
    section = scan_section(scanned([0.5, 0.4, 0.6, 7.0], [3]), {3: Corner(3)}, only)
    assert any("Clean images" in picture.caption for picture in of(dr.Picture, section))


def test_of_many_classes_the_most_suspicious_are_listed_in_their_order() -> None:
    statistics = [k / 100 for k in range(99)] + [50.0]
    section = scan_section(scanned(statistics, [99]))
    (table,), (bars,) = of(dr.Table, section), of(dr.Bars, section)
    assert [row[0] for row in table.rows] == [str(k) for k in range(80, 100)] == list(bars.values)
    assert "20 most suspicious of 100" in table.caption


def test_statistics_without_bounds_do_not_stop_the_page() -> None:
    result = scanned([float("inf"), 0.4, 0.5, 0.6], [0])
    page = dr.Report("A scan").add(scan_section(result, {0: Corner(0)}, images())).html()
    assert "Class 0 is attacked" in page
    assert of(dr.Bars, scan_section(scanned([float("inf")], [0]))) == []


def test_the_same_scan_gives_the_same_page_and_names_are_escaped() -> None:
    names = ("<b>cat</b>", "1", "2", "3")
    result = scanned([9.0, 0.4, 0.5, 0.6], [0], classes=names)
    made = dr.Report("x").made
    pages = {
        dr.Report("x", made=made).add(scan_section(result, {0: Corner(0)}, images())).html()
        for _ in range(2)
    }
    assert len(pages) == 1
    (page,) = pages
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "<b>cat</b>" not in page


def test_the_name_of_a_class_tells_its_number_once() -> None:
    assert class_name(("frog", "1"), 0) == "class 0 (frog)"
    assert class_name(("frog", "1"), 1) == "class 1"
    assert class_name((), 9) == "class 9"


def test_the_plane_of_a_rectangle_is_the_rectangle() -> None:
    corners = torch.tensor([[2.0, 0, 5], [-2, 0, 5], [0, 1, 5], [0, -1, 5]])
    plane = principal_plane(corners)
    assert torch.tensor(plane.points).tolist() == [[2, 0], [-2, 0], [0, 1], [0, -1]]
    assert plane.shares == pytest.approx((0.8, 0.2))
    assert plane.dimensions == pytest.approx(100 / (64 + 4))  # (8 + 2)^2 / (8^2 + 2^2)


def test_equal_pictures_have_no_direction_and_one_number_has_one() -> None:
    flat = principal_plane(torch.full((5, 3, 2, 2), 0.1))
    assert (flat.dimensions, flat.shares) == (0.0, (0.0, 0.0))
    assert flat.points == [(0.0, 0.0)] * 5
    line = principal_plane(torch.tensor([[0.0], [1.0]]))
    assert [round(x, 6) for x, _ in line.points] == [-0.5, 0.5]
    assert line.shares == pytest.approx((1.0, 0.0))


def test_one_picture_has_no_plane() -> None:
    with pytest.raises(InvalidInput, match="fewer than two"):
        principal_plane(torch.zeros(1, 3))
