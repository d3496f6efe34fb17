"""``watermark embed --method`` and ``watermark certify``."""

import pytest

from doorward.bundles import load_model

EMBED = ["watermark", "embed"]
DIGITS = ["--data", "digits", "--size", "16", "--option", "width=4", "--batch-size", "256"]
DIGITS += ["--epochs", "1", "--per-batch", "4"]


@pytest.fixture(scope="module")
def marked(house, doorward, tmp_path_factory):
    out = tmp_path_factory.mktemp("marked") / "app.model"
    found = doorward(
        *EMBED, house / "mark.key", *DIGITS, "--out", out,
        "--method", "app", "--method-option", "eps=0.05", "--method-option", "shift=1",
    )  # fmt: skip
    return out, found


def test_embed_by_a_method_with_options(marked):
    out, found = marked
    assert found["method"] == "app"
    assert (found["options"]["eps"], found["options"]["shift"]) == (0.05, 1)
    assert load_model(out).input_shape == (1, 16, 16)
    # One epoch does not teach the mark, and the owner learns it now, not before the judge.
    assert "would not verify" in found["warnings"][0]
    assert "needs 29 matches" in found["warnings"][0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--method", "ap"], "'app'"),
        (["--method", "app", "--method-option", "epsilon=1"], "epsilon"),
        (["--method", "app", "--method-option", "eps=much"], "eps"),
        (["--method", "app", "--method-option", "eps"], "name=value"),
    ],
    ids=str,
)
def test_bad_methods_are_refused_before_training(house, doorward, tmp_path, words, said):
    out = tmp_path / "never.model"
    refused = doorward(*EMBED, house / "mark.key", *DIGITS, "--out", out, *words, code=2)
    assert said in refused["error"]["message"]
    assert not out.exists()


def test_certify_says_yes_with_a_radius_or_no(house, doorward, marked):
    words = ["watermark", "certify", house / "mark.key", marked[0], "--samples", 50]
    no = doorward(*words, "--sigma", 1e-6, code=1)  # one epoch does not teach the mark
    assert no["radius"] == 0
    assert no["certified_matches"] == 29
    assert sum(no["draws"]) == 50
    some = no["matches"] >= 1  # the key is drawn anew in every run
    yes = doorward(*words, "--sigma", 1e-6, "--matches", 1, code=0 if some else 1)
    assert (yes["radius"] > 0) == some
    refused = doorward(*words, "--sigma", 0, code=2)
    assert "sigma" in refused["error"]["message"]
    refused = doorward(*words, "--sigma", 0.1, "--matches", 41, code=2)
    assert "41 matches of 40" in refused["error"]["message"]
