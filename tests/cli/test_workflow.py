"""The commands at work, end to end, on tiny models: what they write, print and exit with."""

import shutil

import pytest
import torch
from PIL import Image

from doorward.bundles import load_model, read_card

DIGITS = ["--data", "digits", "--size", "16", "--option", "width=4", "--batch-size", "128"]
DIGITS += ["--epochs", "1"]
EVAL = ["--data", "digits", "--size", "16"]


def test_train_writes_a_bundle_that_eval_reads(house, doorward):
    card = read_card(house / "plain.model")
    assert (card.architecture, card.options, card.input_shape) == (
        "resnet8", {"width": 4}, (1, 16, 16),
    )  # fmt: skip
    found = doorward("eval", house / "plain.model", *EVAL)
    assert found["accuracy"] == pytest.approx(card.metrics["accuracy"])
    assert found["correct"] == round(found["accuracy"] * found["images"])
    assert found["interval"][0] < found["accuracy"] < found["interval"][1]


def test_the_seed_decides_the_weights(house, doorward, tmp_path):
    again = doorward("train", *DIGITS, "--out", tmp_path / "again.model")
    other = doorward("train", *DIGITS, "--out", tmp_path / "other.model", "--seed", 1)
    states = [
        load_model(folder).state_dict()["head.weight"]
        for folder in (house / "plain.model", again["model"], other["model"])
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_eval_asks_only_as_many_images_as_allowed(house, doorward):
    found = doorward("eval", house / "plain.model", *EVAL, "--limit", 10)
    assert found["images"] == 10


def test_a_foreign_model_is_trained_and_trusted_explicitly(doorward, tmp_path, monkeypatch):
    (tmp_path / "my_nets.py").write_text(
        "from torch import nn\n"
        "def fixed(width=8):\n"
        "    steps = nn.Conv2d(1, width, 4, 4), nn.Flatten(), nn.Linear(width * 16, 10)\n"
        "    return nn.Sequential(*steps)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["train", *EVAL, "--model", "my_nets:fixed", "--epochs", "1", "--out", "own.model"]
    doorward(*words, "--option", "width=6")
    assert read_card("own.model").factory == "my_nets:fixed"
    refused = doorward("eval", "own.model", *EVAL, code=2)
    assert refused["error"]["kind"] == "UnsafeFile"
    assert doorward("eval", "own.model", *EVAL, "--trust-factory")["images"] == 359


def test_keys_are_shown_without_a_passphrase_and_never_overwritten(house, doorward):
    public = doorward("keys", "show", house / "ada.pub.json")
    sealed = doorward("keys", "show", house / "ada.key")
    assert public["fingerprint"] == sealed["fingerprint"]
    assert (public["sealed"], sealed["sealed"]) == (False, True)
    before = (house / "ada.key").read_bytes()
    refused = doorward("keys", "new", house / "ada.key", "--name", "Eve", code=2)
    assert "overwritten" in refused["error"]["message"]
    assert (house / "ada.key").read_bytes() == before
    assert (house / "ada.key").stat().st_mode & 0o777 == 0o600


def test_sign_then_check_yes_then_no(house, doorward, tmp_path):
    folder = shutil.copytree(house / "plain.model", tmp_path / "signed.model")
    unsigned = doorward("check", folder, "--public", house / "ada.pub.json", code=2)
    assert unsigned["error"]["kind"] == "MissingData"
    doorward("sign", folder, "--identity", house / "ada.key")
    good = doorward("check", folder, "--public", house / "ada.pub.json")
    assert good["good"] is True
    assert set(good["files"]) == {"model.json", "model.safetensors"}
    card = folder / "model.json"
    card.write_text(card.read_text().replace('"resnet8"', '"resnet20"'))
    bad = doorward("check", folder, "--public", house / "ada.pub.json", code=1)
    assert bad["good"] is False
    assert "model.json" in bad["reason"]


def test_a_stranger_s_signature_is_a_no(house, doorward, tmp_path):
    doorward("keys", "new", tmp_path / "eve.key", "--name", "Eve")
    folder = shutil.copytree(house / "plain.model", tmp_path / "signed.model")
    doorward("sign", folder, "--identity", tmp_path / "eve.key")
    assert not doorward("check", folder, "--public", house / "ada.pub.json", code=1)["good"]


def test_convert_turns_a_state_dict_into_a_bundle(house, doorward, tmp_path):
    model = load_model(house / "plain.model")
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    doorward(
        "convert", tmp_path / "weights.pt", "--arch", "resnet8", "--option", "width=4",
        "--classes", 10, "--size", 16, "--channels", 1, "--mean", "0.5", "--std", "0.25",
        "--out", tmp_path / "converted.model",
    )  # fmt: skip
    images = torch.rand(4, 1, 16, 16)
    assert torch.equal(load_model(tmp_path / "converted.model")(images), model(images))


def test_poison_measures_and_leaves_evidence(doorward, tmp_path):
    found = doorward(
        "poison", *DIGITS, "--attack", "badnets", "--target", 3, "--out", tmp_path / "v.model"
    )
    assert 0 <= found["attack_success"] <= 1
    assert found["backdoor"]["rule"] == {"name": "all-to-one", "target": 3}
    assert "backdoor.json" in read_card(tmp_path / "v.model").evidence
    with Image.open(found["picture"]) as picture:
        assert picture.size[0] > picture.size[1]


def test_an_unmarked_model_is_a_no(house, doorward):
    verdict = doorward(
        "watermark", "verify", house / "claim.json", house / "plain.model",
        "--key", house / "mark.key", "--public", house / "ada.pub.json", code=1,
    )  # fmt: skip
    assert verdict["verified"] is False
    assert verdict["commitment_opened"] is True
    assert verdict["n"] == 40


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_marked_model_is_a_yes(house, doorward, tmp_path, pretrained):
    words = [
        "--lr",
        "0.05",
        "--batch-size",
        "32",
        "--per-batch",
        "20",
        "--out",
        tmp_path / "m.model",
    ]
    if pretrained:
        start = ["--into", house / "plain.model", *EVAL, "--epochs", "6"]
    else:
        start = [*EVAL, "--option", "width=4", "--epochs", "6"]
    marked = doorward("watermark", "embed", house / "mark.key", *start, *words)
    assert marked["mode"] == ("pretrained" if pretrained else "from-scratch")
    verdict = doorward(
        "watermark", "verify", house / "claim.json", tmp_path / "m.model",
        "--key", house / "mark.key", "--public", house / "ada.pub.json",
        code=0 if marked["log2_p"] <= -20 else 1,
    )  # fmt: skip
    assert verdict["verified"]
    assert verdict["matches"] == marked["trigger_matches"]
    judged = doorward(
        "watermark", "verify", house / "claim.json", tmp_path / "m.model", "--alpha-bits", 130,
        "--key", house / "mark.key", "--public", house / "ada.pub.json",
        code=0 if marked["log2_p"] <= -130 else 1,
    )  # fmt: skip
    assert judged["log2_alpha"] == -130
    assert judged["needed"] > verdict["needed"]


def test_a_tampered_claim_is_a_no(house, doorward, tmp_path):
    claim = tmp_path / "claim.json"
    claim.write_text((house / "claim.json").read_text().replace("-20.0", "-20.5"))
    assert claim.read_text() != (house / "claim.json").read_text()
    verdict = doorward(
        "watermark", "verify", claim, house / "plain.model",
        "--key", house / "mark.key", "--public", house / "ada.pub.json", code=1,
    )  # fmt: skip
    assert verdict["verified"] is False
    assert "signature" in verdict["reason"]


def test_data_list_knows_digits(doorward, tmp_path):
    found = doorward("data", "list", "--root", tmp_path)
    here = {entry["name"]: entry["available"] for entry in found["datasets"]}
    assert here["digits"] is True
    assert here["cifar10"] is False


def test_data_show_draws_a_row_per_class(doorward, tmp_path):
    found = doorward("data", "show", "digits", "--out", tmp_path / "d.png", "--per-class", 4)
    assert found["images"] == sum(found["classes"].values())
    with Image.open(tmp_path / "d.png") as picture:
        assert picture.size[1] > 2 * picture.size[0]  # ten rows of four


def test_texts_for_people_end_with_the_place(house, doorward, tmp_path):
    said = doorward("eval", house / "plain.model", *EVAL, parse=False).stdout
    assert said.startswith("Accuracy ")
    said = doorward("keys", "show", house / "ada.pub.json", parse=False).stdout
    assert "Ada" in said


def test_bench_runs_and_renders(doorward, tmp_path):
    names = [entry["name"] for entry in doorward("bench", "list")["studies"]]
    assert {"training-speed", "training-accuracy", "watermark-basic"} <= set(names)
    refused = doorward("bench", "run", "no-such-study", code=2)
    assert "watermark-basic" in refused["error"]["message"]
