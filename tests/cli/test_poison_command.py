"""``doorward poison``: every attack by name, its backdoor on disk, and what is refused at once."""

from __future__ import annotations

import json

import pytest
import torch

from doorward.bundles import load_model
from doorward.data import load
from doorward.metrics import attack_success, predict
from doorward.poisoning import ATTACKS
from doorward.triggers import Backdoor

DIGITS = ["--data", "digits", "--size", "16", "--option", "width=4", "--batch-size", "128"]


def test_a_trained_trigger_is_stored_with_its_victim(doorward, tmp_path):
    out = tmp_path / "v.model"
    found = doorward(
        "poison", *DIGITS, "--attack", "lira", "--constant", "width=4", "--constant",
        "stage_one=0.2", "--target", 3, "--epochs", 1, "--out", out,
    )  # fmt: skip
    assert found["backdoor_folder"] == str(out) + ".backdoor"
    assert found["details"]["parameters"]["width"] == 4
    low, high = found["attack_interval"]
    assert low <= found["attack_success"] <= high
    assert 0.01 < found["strength"]["linf"] <= 0.0501
    backdoor = Backdoor.load(found["backdoor_folder"])
    model, test = load_model(out), load("digits", split="test", size=16)
    assert attack_success(model, test, backdoor) == pytest.approx(found["attack_success"], abs=0.01)
    untrained = type(backdoor.trigger).from_config(backdoor.trigger.config())
    trained = backdoor.trigger.network.leave.weight
    assert not torch.equal(trained, untrained.network.leave.weight)


def test_the_answer_in_words(doorward, tmp_path):
    said = doorward(
        "poison", *DIGITS, "--attack", "wanet-noise", "--rate", 0.2, "--epochs", 0.2,
        "--out", tmp_path / "v.model", "--backdoor", tmp_path / "b", parse=False,
    ).stdout  # fmt: skip
    for word in ("Test accuracy", "95 % interval", "Strength", "SSIM", "must not work", "v.model"):
        assert word in said
    assert Backdoor.load(tmp_path / "b").trigger.config()["s"] == 0.5


def test_success_is_shown_beside_what_it_is_without_the_trigger(doorward, tmp_path):
    words = ["poison", *DIGITS, "--attack", "filter-1977", "--target", 1, "--epochs", 1]
    found = doorward(*words, "--twin", "--out", tmp_path / "v.model")
    model, test = load_model(tmp_path / "v.model"), load("digits", split="test", size=16)
    others = test.subset((test.labels != 1).nonzero().squeeze(1))
    answers = predict(model, others).argmax(1)
    assert found["untriggered"] == pytest.approx(float((answers == 1).double().mean()), abs=0.01)
    twin = found["twin"]
    low, high = twin["attack_interval"]
    assert low <= twin["attack_success"] <= high
    said = doorward(*words, "--twin", "--out", tmp_path / "w.model", parse=False).stdout
    assert f"without the trigger {found['untriggered']:.2%} of them" in said
    assert f"the trigger sends {twin['attack_success']:.2%} there all the same" in said


def test_all_attacks_are_listed(doorward):
    said = doorward("poison", "--list", parse=False).stdout
    for name in ATTACKS:
        assert f" {name} " in said
    assert {"input-aware", "lira", "wanet-noise", "badnets"} <= set(ATTACKS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--attack", "badnet"], "Did you mean 'badnets'"),
        (["--attack", "badnets", "--constant", "size=3"], "takes no --constant"),
        (["--attack", "lira", "--constant", "eps=7"], "eps"),
        (["--attack", "lira", "--constant", "noise=7"], "noise"),
        (["--attack", "lira", "--constant", "eps"], "has no value"),
        (["--attack", "lira", "--target", "10"], "no class 10"),
        (["--attack", "input-aware", "--rate", "0.6"], "leaves too few images"),
        (["--attack", "wanet-noise", "--rate", "0.001"], "attacks no image of a batch"),
        (["--attack", "lira", "--rate", "0"], "poison rate is 0"),
        (["--attack", "input-aware", "--devices", "2"], "a trigger of its own"),
    ],
)
def test_what_cannot_be_is_refused_before_training(doorward, tmp_path, words, message):
    out = tmp_path / "v.model"
    result = doorward("poison", *DIGITS, *words, "--out", out, code=2, parse=False)
    assert message in result.stderr.replace("\n", " ")
    assert not list(tmp_path.glob("v*"))


def test_other_folders_are_not_replaced(doorward, tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "diary.txt").write_text("dear diary")
    for folder in (tmp_path / "b", tmp_path / "v.model"):
        said = doorward(
            "poison", *DIGITS, "--out", tmp_path / "v.model", "--backdoor", folder,
            code=2, parse=False,
        ).stderr  # fmt: skip
        assert "choose another --backdoor" in said.replace("\n", " ").lower()
    assert (tmp_path / "b" / "diary.txt").read_text() == "dear diary"
    error = json.loads(
        doorward(
            "poison", *DIGITS, "--out", tmp_path / "v.model", "--backdoor", tmp_path / "b",
            "--json", code=2, parse=False,
        ).stdout
    )  # fmt: skip
    assert "error" in error
