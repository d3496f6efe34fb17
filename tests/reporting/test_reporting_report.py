"""The page: complete in itself, escaped, described, atomic."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest
from PIL import Image

import doorward.reporting as dr
from doorward.errors import InvalidInput, StorageFailed
from doorward.reporting.charts import draw

EVIL = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; }</style><script>alert(1)</script>",
    "{{ 7*7 }}{% raw %}",
    "javascript:alert(1)",
    "`<b onclick=x>`",
    "**<b onclick=x>**",
    "$\\frac{$ % # & \\",
    "\x00\x1b[31m\ud800 ok 日本語 \u202e",
    "]]><svg onload=alert(1)>",
]
MADE = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


def everything(name: str) -> dr.Report:
    """A report whose every text is `name`."""
    picture = dr.Picture.of(Image.new("RGB", (4, 4)), alt=name or "x", caption=name, width=64)
    return dr.Report(name, name, made=MADE).section(
        name,
        dr.Text(name),
        dr.Note(name),
        dr.Numbers(dr.Number(name, name, name)),
        dr.Table([name, "n"], [[name, 1]], name, name),
        picture,
        dr.Curve({name: ([1, 2], [1.0, 2.0]), "b": ([1], [1.0])}, name, name, name),
        dr.Dots({name: [1.0, 2.0]}, name, name),
        dr.Bars({name: 1.0, "b": -2.0}, name, 0.5, name, (name,), name, name),
        dr.Scatter({name: [(0.0, 1.0)], "b": [(1.0, 2.0)] * 5}, name, name, name),
        dr.Verdict(name, True, detail=name),
        dr.Code(name, name),
        summary=name,
    )


@functools.cache
def plain() -> Page:
    """The page of a harmless name, drawn once."""
    return Page(everything("plain").html())


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, key, value or "") for key, value in attrs]

    handle_startendtag = handle_starttag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.mark.parametrize("name", EVIL)
def test_no_name_adds_a_tag_or_an_attribute(name: str) -> None:
    harmless, hostile = plain(), Page(everything(name).html())
    added = {"strong", "code"}  # the two marks that texts may use
    assert [t for t in hostile.tags if t not in added] == [
        t for t in harmless.tags if t not in added
    ]
    assert not [a for a in hostile.attributes if a[1].startswith("on")]
    assert {a[:2] for a in hostile.attributes} == {a[:2] for a in harmless.attributes}
    if "<script>" in name:
        assert name in hostile.words, "hostile names are shown, not dropped"


def test_control_characters_and_lone_surrogates_can_be_written(tmp_path) -> None:
    text = everything(EVIL[8]).write(tmp_path / "r.html").read_text(encoding="utf-8")
    assert "\x00" not in text
    assert "\x1b" not in text
    assert "日本語" in text


def test_nothing_outside_the_page_is_asked_for() -> None:
    page = plain()
    assert "script" not in page.tags
    assert "iframe" not in page.tags
    loading = [
        (tag, key, value)
        for tag, key, value in page.attributes
        if key in {"src", "href", "xlink:href", "srcset", "data", "action", "poster"}
    ]
    assert loading, "there is a picture and there are links within the page"
    assert [a for a in loading if not a[2].startswith(("data:", "#"))] == []
    policies = [a[2] for a in page.attributes if a[:2] == ("meta", "content")]
    assert any("default-src 'none'" in policy for policy in policies)
    assert not re.search(r"@import|url\((?!#)", everything("plain").html())


def test_everything_seen_has_words_too() -> None:
    page = plain()
    alts = [value for tag, key, value in page.attributes if (tag, key) == ("img", "alt")]
    assert alts == ["plain"]
    labels = [value for tag, key, value in page.attributes if key == "aria-label"]
    assert any(label.startswith("Line chart of plain over plain: plain from 1") for label in labels)
    assert any(label.startswith("Dot chart of plain; means: plain 1.5 (n = 2)") for label in labels)
    assert "Bar chart of plain: plain 1 (plain), b -2; plain at 0.5." in labels
    assert any(
        label.startswith("Scatter plot of plain and plain: plain (n = 1)") for label in labels
    )
    assert page.tags.count("h1") == 1
    assert page.tags.index("h1") < page.tags.index("h2")
    assert ("html", "lang", "en") in page.attributes


def test_identifiers_are_unique_and_their_references_exist() -> None:
    curve = dr.Curve({"a": ([1, 2], [1.0, 2.0])})
    html = dr.Report("t").section("s", curve, curve).section("s", curve).html()
    ids = re.findall(r'\sid="([^"]+)"', html)
    assert len(ids) == len(set(ids))
    references = re.findall(r'(?:url\(#|href="#)([^")]+)', html)
    assert references
    assert set(references) <= set(ids)


def test_same_results_give_the_same_bytes() -> None:
    assert everything("plain").html() == everything("plain").html()


def test_verdicts_say_whether_the_answer_was_hoped_for() -> None:
    html = dr.Report("t").section("s", dr.Verdict("Opens?", False, good=True)).html()
    assert 'class="verdict good"' in html
    assert ">No</span>" in html
    assert "as it should be" in html
    html = dr.Report("t").section("s", dr.Verdict("Opens?", False)).html()
    assert 'class="verdict bad"' in html


def test_contents_appear_when_there_is_something_to_choose() -> None:
    report = dr.Report("t").section("one").section("two")
    assert "<nav" not in report.html()
    html = report.section("three & four").html()
    assert 'href="#three-four-3">three &amp; four</a>' in html
    assert 'id="three-four-3"' in html


def test_an_older_report_survives_a_full_disk(tmp_path, monkeypatch) -> None:
    path = dr.Report("first").write(tmp_path / "index.html")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageFailed, match="No space left"):
        dr.Report("second").write(path)
    assert "first" in path.read_text(encoding="utf-8")
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


def test_charts_take_their_colours_from_the_page() -> None:
    html = dr.Report("t").section("s", dr.Curve({"a": ([1, 2], [1.0, None])}, log=True)).html()
    svg = html[html.index('<div class="wide"') :]
    assert "var(--series-1)" in svg
    assert "currentColor" in svg
    assert not re.search(r"#0[1-3]0[1-3][0-9a-f]{2}", svg), "no placeholder colour is left"


@pytest.mark.parametrize("values", [[0.0, 0.0], [1.0, -2.0], [9.0, 1.0], [float("nan"), 1.0]])
@pytest.mark.parametrize("line", [3.5, 0.0, -4.0])
def test_the_line_of_a_bar_chart_is_always_to_be_seen(values: list[float], line: float) -> None:
    bars = dr.Bars(dict(zip("ab", values, strict=True)), line=line, line_label="alarm")
    svg = draw(bars, prefix="c")
    assert ">alarm<" in svg  # matplotlib leaves out words about a point outside of its axes
    left, top, wide, high = map(float, re.findall(r'viewBox="([^"]+)"', svg)[0].split())
    dashed = re.search(
        r'd="M ([\d.]+) ([\d.]+) L ([\d.]+) [^"]*"[^>]*dasharray', svg.replace("\n", "")
    )
    assert dashed is not None
    assert left <= float(dashed[1]) <= left + wide
    assert float(dashed[1]) == float(dashed[3])
    assert top <= float(dashed[2]) <= top + high


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: dr.Table(["a"], [["x", "y"]]), "row 0 of the table has 2 cells"),
        (lambda: dr.Picture(b"GIF89a", alt="x"), "not a PNG"),
        (lambda: dr.Picture.of(Image.new("L", (1, 1)), alt=" "), "no description"),
        (lambda: dr.Curve({}), "no series"),
        (lambda: dr.Curve({"a": ([1, 2], [1.0])}), "2 x values and 1 y values"),
        (lambda: dr.Curve({"a": ([], [])}), "0 x values"),
        (lambda: dr.Dots({"a": [float("nan")]}), "no values"),
        (lambda: dr.Bars({"a": float("inf")}), "no values"),
        (lambda: dr.Bars({"a": 1.0}, marked=("b",)), "no bar 'b'"),
        (lambda: dr.Scatter({"a": [], "b": [(0.0, float("nan"))]}), "no points"),
    ],
)
def test_blocks_refuse_what_cannot_be_shown(make, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()
