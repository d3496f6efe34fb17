"""``doorward harden``: a bundle with its evidence, a report, exit codes, wrong calls."""

import json

import pytest

from doorward.bundles import load_model, read_evidence, save_model
from doorward.data import load
from doorward.hardening import HardeningResult
from doorward.models import create
from doorward.training import Recipe, fit

DATA = ["--data", "digits", "--images", 120]
QUICK = [
    "--option", "steps=4", "--option", "checks=2", "--option", "first_steps=2",
    "--option", "next_steps=1", "--option", "warm_steps=2", "--option", "batch_size=32",
    "--measure-option", "starts=1", "--measure-option", "epochs=4", "--measure-option", "images=6",
]  # fmt: skip


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A small network after a few steps."""
    folder = tmp_path_factory.mktemp("harden") / "net.model"
    digits = load("digits", size=16)
    model = create("resnet8", classes=digits.classes, input_shape=digits.image_shape, width=4)
    fit(model, None, digits, Recipe(epochs=1, batch_size=64, lr=0.1, precision="fp32"))
    save_model(model, folder)
    return folder


def test_one_call_hardens_measures_and_reports(bundle, tmp_path, doorward):
    out, page = tmp_path / "hard.model", tmp_path / "hard.html"
    told = doorward(
        "harden", bundle, *DATA, *QUICK, "--budget-accuracy", 100, "--validation", "digits",
        "--out", out, "--report", page,
    )  # fmt: skip
    assert (told["method"], told["ended"], told["kept_steps"]) == ("deck", "steps", 4)
    assert told["own_validation"] is True
    (measured,) = told["distances"]
    assert measured["before"]["recipe_digest"] == measured["after"]["recipe_digest"]
    assert measured["enlargement"]["kind"] == "pixel"
    content = json.loads(read_evidence(out, "harden.json"))
    content.pop("distances")
    assert HardeningResult.from_dict(content).accuracy_after == told["accuracy_after"]
    load_model(out)
    shown = page.read_text()
    for words in ("Are the classes farther apart", "Natural backdoors", "part by part"):
        assert words in shown


def test_nothing_within_the_budget_is_a_no(bundle, tmp_path, doorward):
    said = doorward(
        "harden", bundle, *DATA, "--method", "universal", "--option", "steps=4", "--option",
        "checks=2", "--option", "lr=1000", "--option", "clip_norm=null", "--kind", "none",
        "--budget-accuracy", 0, "--out", tmp_path / "same.model", code=1, parse=False,
    ).stdout  # fmt: skip
    assert "undone" in said
    assert "the model is as it was" in said
    before, after = (
        load_model(bundle).state_dict(),
        load_model(tmp_path / "same.model").state_dict(),
    )
    assert all(bool((before[name] == after[name]).all()) for name in before)


def test_wrong_calls(bundle, tmp_path, doorward):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "diary.txt").write_text("keep")
    for words, message in (
        (["--method", "deckk"], "Did you mean 'deck'"),
        (["--option", "steps=0"], "steps"),
        (["--option", "stepps=3"], "stepps"),
        (["--kind", "miles"], "no distance"),
        (["--out", tmp_path / "there"], "there"),
        (["--budget-accuracy", 101], "less than or equal to"),
    ):
        given = [] if "--out" in words else ["--out", tmp_path / "x.model"]
        failed = doorward("harden", bundle, *DATA, *given, *words, code=2, parse=False)
        assert message in " ".join(failed.stderr.split())
    assert not (tmp_path / "x.model").exists()
