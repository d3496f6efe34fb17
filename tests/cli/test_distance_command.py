"""``doorward distance``: the matrix, folders, pictures, wrong calls."""

import json

import pytest

from doorward.bundles import save_model
from doorward.hardening import DistanceResult
from doorward.models import create

QUICK = ["--images", 80, "--starts", 1, "--option", "epochs=3", "--option", "wanted=0.1"]
DATA = ["--data", "digits", "--split", "test"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """An untrained network."""
    folder = tmp_path_factory.mktemp("distance") / "net.model"
    save_model(create("resnet8", classes=10, input_shape=(1, 16, 16), width=4), folder)
    return folder


def test_one_call_prints_draws_and_reports(bundle, tmp_path, doorward):
    out, page = tmp_path / "distances", tmp_path / "page.html"
    pairs = ["--pair", "3:5", "--pair", "5:3"]
    said = doorward(
        "distance", bundle, *DATA, *QUICK, *pairs, "--out", out, "--report", page, parse=False
    ).stdout
    for words in ("from \\ to", "closest pairs", "Result and pictures"):
        assert words in said or "2 pairs out of reach" in said
    content = json.loads((out / "distances.json").read_text())
    assert content.pop("model") == str(bundle)
    result = DistanceResult.from_dict(content)
    assert (result.pairs, result.images, result.kind) == ([(3, 5), (5, 3)], 80, "patch")
    assert (out / "distances.png").read_bytes().startswith(b"\x89PNG")
    assert "How far apart" in page.read_text()
    told = doorward(
        "distance", bundle, *DATA, *QUICK, "--pair", "0:1", "--kind", "pixel", "--family", "flow",
        "--out", out,
    )  # fmt: skip
    assert told["measuring"]["space"]["families"] == ["flow"]
    assert {"closest", "distances", "censored", "report"} <= set(told)


def test_wrong_calls(bundle, tmp_path, doorward):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("keep")
    for words, message in (
        (["--kind", "miles"], "no distance"),
        (["--pair", "3"], "SOURCE:TARGET"),
        (["--pair", "3:12"], "no class '12'"),
        (["--pair", "3:3"], "leads nowhere"),
        (["--family", "flow"], "no families"),
        (["--kind", "pixel", "--family", "tears"], "families"),
        (["--option", "epochs=0"], "epochs"),
        (["--out", tmp_path / "mine"], "does not hold distances"),
    ):
        failed = doorward("distance", bundle, *DATA, *QUICK, *words, code=2, parse=False)
        assert message in " ".join(failed.stderr.split())
