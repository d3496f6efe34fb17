"""``doorward watermark attack``: the table, its file, its report and its exit code."""

import json

import pytest

SMALL = ["--data", "digits", "--size", 16]
BOTH = ["--family", "quantisation", "--family", "pruning"]


@pytest.fixture(scope="module")
def marked(house, doorward):
    """A marked model: enough training for the mark to be learnt."""
    out = house / "attacked.model"
    doorward(
        "watermark", "embed", house / "mark.key", *SMALL, "--option", "width=8", "--batch-size", 64,
        "--epochs", 8, "--precision", "fp32", "--out", out,
    )  # fmt: skip
    return out


def attack(doorward, house, marked, *more, **options):
    place = ["--out", house / "attacks.json", "--epochs", 0.5]
    words = ["watermark", "attack", marked, "--key", house / "mark.key", *SMALL, *place, *more]
    return doorward(*words, **options)


def test_the_mark_outlives_rounding_of_the_weights(house, marked, doorward):
    report = house / "attacks.html"
    found = attack(doorward, house, marked, "--family", "quantisation", "--report", report)
    assert found["survived"]
    labels = [row["attack"]["label"] for row in found["rows"]]
    assert labels == ["no attack", "int8 weights", "int8 weights and activations"]
    assert json.loads((house / "attacks.json").read_text())["rows"] == found["rows"]
    page = report.read_text(encoding="utf-8")
    assert "What does the mark withstand?" in page
    assert "int8 weights" in page


def test_a_mark_that_was_never_there_is_a_no(house, doorward):
    result = attack(
        doorward, house, house / "plain.model", "--family", "quantisation",
        "--out", house / "other.json", code=1, parse=False,
    )  # fmt: skip
    assert "not proven even without an attack" in result.stdout


def test_a_second_call_goes_on_with_the_same_file(house, marked, doorward):
    attack(doorward, house, marked, "--family", "quantisation")
    result = attack(
        doorward, house, marked, *BOTH, "--most-cost", 0.001, "--alpha-bits", 1, parse=False
    )
    assert "int8 weights:" not in result.stderr  # done before: not announced again
    assert "pruning 50%: " in result.stderr


def test_a_family_that_needs_another_task_may_follow(house, doorward):
    unmarked, out = house / "plain.model", house / "families.json"
    for family in ("quantisation", "transfer"):
        result = attack(
            doorward, house, unmarked, "--family", family, "--out", out, code=1, parse=False
        )
    assert "transfer (old head): " in result.stderr
    assert "the model's own task" in result.stderr
    assert len(json.loads(out.read_text())["rows"]) == 4


def test_seeds_have_tables_of_their_own_and_are_averaged(house, marked, doorward):
    page = house / "seeds.html"
    more = ["--family", "fine-tuning", "--rate", 0.02, "--fraction", 0.3, "--fraction", 1]
    more += ["--seeds", 2, "--batchnorm", "frozen", "--out", house / "s.json", "--report", page]
    words = ["watermark", "attack", marked, "--key", house / "mark.key", *SMALL, "--epochs", 0.5]
    said = doorward(*words, *more, "--most-cost", 100, "--alpha-bits", 900, code=1, parse=False)
    assert "not proven even without an attack" in said.stdout
    assert " ± " in said.stdout
    assert "FTAL 0.02, 30% of the data, BatchNorm still" in said.stdout
    found = doorward(*words, *more, "--alpha-bits", 900, code=1)  # from the files
    first, second = (json.loads((house / f"s-seed{n}.json").read_text())["rows"] for n in (0, 1))
    assert found["seeds"] == [0, 1]
    rows = {row["attack"]["label"]: row for row in found["rows"]}
    for one, other in zip(first, second, strict=True):
        summary = rows[one["attack"]["label"]]
        assert summary["matches"]["values"] == [one["matches"] / 40, other["matches"] / 40]
    assert "seed by seed" in page.read_text(encoding="utf-8")


def test_a_key_of_the_paper_is_attacked_too(house, marked, doorward):
    words = ["watermark", "paper", "keygen", house / "mk.key", "--vk", house / "vk.json"]
    doorward(*words, "--identity", house / "ada.key", *SMALL, "--n", 30)
    call = ["watermark", "attack", marked, "--key", house / "mk.key", *SMALL]
    found = doorward(*call, "--family", "quantisation", "--out", house / "paper.json", code=1)
    assert {row["n"] for row in found["rows"]} == {30}
    assert not found["survived"], "the model does not carry this mark"
    (house / "broken.key").write_text("{")
    call[4] = house / "broken.key"
    assert "not a key file" in doorward(*call, code=2, parse=False).stderr


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--family", "magic"], "family of attacks"),
        (["--share", 2], "--share"),
        (["--thief-data", "nowhere"], "nowhere"),
    ],
)
def test_a_wrong_call_is_explained(house, marked, doorward, more, message):
    result = attack(doorward, house, marked, *more, code=2, parse=False)
    assert message in result.stderr
