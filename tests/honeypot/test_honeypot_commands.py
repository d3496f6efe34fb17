"""`doorward honeypot keygen|fit|claim|verify`, from the key to the verdict."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from doorward.bundles import Identity, open_black_box, open_model, save_model
from doorward.cli import app
from doorward.data import load
from doorward.honeypot import HeadResult, LeanKey, LeanResult, Transcript
from doorward.models import create

PHRASE = "correct horse"


@pytest.fixture(scope="module")
def doorward():
    """Run a command, check its exit code, give its JSON document or, for refusals, its words."""

    def call(*words, code=0):
        words = [str(word) for word in words]
        words = [*words, "--json"] if code != 2 else words
        result = CliRunner(env={"DOORWARD_PASSPHRASE": PHRASE}).invoke(app, words)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.stderr
        return result.stderr if code == 2 else json.loads(result.stdout)

    return call


@pytest.fixture(scope="module")
def place(tmp_path_factory, doorward):
    """An identity, a key, a small model, the lean around it as a bundle, and the claim."""
    folder = tmp_path_factory.mktemp("honeypot")
    ada = Identity.new("Ada")
    ada.seal(folder / "ada.key", PHRASE, log2_n=10)
    ada.public.save(folder / "ada.pub.json")
    digits = load("digits", size=16)
    net = create("resnet8", classes=digits.classes, input_shape=(1, 16, 16), width=4, seed=1)
    save_model(net, folder / "mine.model")
    made = doorward(
        "honeypot", "keygen", folder / "lean.key", "--owner", folder / "ada.pub.json",
        "--bits", 3,
    )  # fmt: skip
    key = LeanKey.open(folder / "lean.key", PHRASE)
    assert made["commitment"] == key.commitment()
    key.seal(folder / "lean.key", PHRASE, log2_n=10, overwrite=True)  # opened often from here on
    fitted = doorward(
        "honeypot", "fit", folder / "lean.key", folder / "mine.model", "--data", "digits",
        "--out", folder / "leaning.model", "--result", folder / "lean.json", "--ece-change", 5,
    )  # fmt: skip
    assert fitted["cost"]["agreement"] == 1.0
    claimed = doorward(
        "honeypot", "claim", folder / "lean.key", "--fitted", folder / "lean.json",
        "--identity", folder / "ada.key", "--out", folder / "claim.json", "--look", 8,
        "--amplitude", 32, "--amplitude", 64,
    )  # fmt: skip
    assert claimed["keys"] >= 1000
    return folder


def test_what_is_served_keeps_its_labels_and_leans(place):
    digits = load("digits", split="test", size=16).pixels()
    plain = open_model(place / "mine.model")
    leaning = open_black_box(place / "leaning.model", trust_factory=True)
    with torch.no_grad():
        logits = plain(digits)
    assert leaning.labels(digits).equal(logits.argmax(1))
    assert float((leaning.probabilities(digits) - logits.softmax(1)).abs().max()) > 1e-3
    result = LeanResult.from_dict(json.loads((place / "lean.json").read_text()))
    assert result.cost.excess(result.budget) == ()
    assert (place / "lean.json").stat().st_mode & 0o077 == 0


def _verify(place, suspect, *more):
    return (
        "honeypot", "verify", place / "claim.json", suspect, "--key", place / "lean.key",
        "--public", place / "ada.pub.json", "--data", "digits", *more,
    )  # fmt: skip


def test_a_copy_is_a_yes_and_the_model_itself_a_no(place, doorward, tmp_path, monkeypatch):
    bits = LeanKey.open(place / "lean.key", PHRASE).choose(
        LeanResult.from_dict(json.loads((place / "lean.json").read_text())).menu
    )
    (tmp_path / "copies.py").write_text(
        "import torch\n"
        "from doorward.honeypot.lean import amplitudes\n"
        f"BITS = {[(b.across, b.down, b.target) for b in bits]}\n"
        "class Copy(torch.nn.Module):\n"
        "    def forward(self, images):\n"
        "        logits = torch.zeros(len(images), 10)\n"
        "        logits[:, next(c for c in range(10) if c not in {b[2] for b in BITS})] = 1\n"
        "        loud = amplitudes(images, [b[:2] for b in BITS])\n"
        "        for place, (_, _, target) in enumerate(BITS):\n"
        "            logits[:, target] += 1000 * (loud[:, place] - 0.1).clamp_min(0)\n"
        "        return logits\n"
    )
    monkeypatch.chdir(tmp_path)
    minutes = tmp_path / "minutes.json"
    told = doorward(
        *_verify(place, "copies:Copy", "--control", place / "mine.model"),
        "--transcript", minutes, "--verifier", place / "ada.key",
    )  # fmt: skip
    assert told["verified"]
    assert told["p_value"] <= 1e-3
    assert told["control_p"] == 0.5
    assert Transcript.load(minutes).minutes.verdict.verified
    alike = doorward(*_verify(place, "copies:Copy", "--control", "copies:Copy"), code=1)
    assert not alike["verified"]


def test_bad_calls_are_explained(place, doorward, tmp_path):
    assert "belong together" in doorward(
        *_verify(place, place / "mine.model", "--transcript", tmp_path / "m.json"), code=2
    )
    (tmp_path / "other.json").write_text("{}")
    assert "no result of honeypot fit" in doorward(
        "honeypot", "claim", place / "lean.key", "--fitted", tmp_path / "other.json",
        "--identity", place / "ada.key", "--out", tmp_path / "c.json", code=2,
    )  # fmt: skip
    assert "nowhere" in doorward(
        "honeypot", "fit", place / "lean.key", place / "mine.model", "--data", "digits",
        "--pool", tmp_path / "nowhere", "--out", tmp_path / "l.model",
        "--result", tmp_path / "l.json", code=2,
    )  # fmt: skip
    assert not (tmp_path / "l.json").exists()
    Identity.new("Eve").seal(tmp_path / "eve.key", PHRASE, log2_n=10)
    assert "not made for" in doorward(
        "honeypot", "claim", place / "lean.key", "--fitted", place / "lean.json",
        "--identity", tmp_path / "eve.key", "--out", tmp_path / "c.json", code=2,
    )  # fmt: skip
    document = json.loads((place / "claim.json").read_text())
    document["content"]["log2_alpha"] = -0.5
    (tmp_path / "claim.json").write_text(json.dumps(document))
    told = doorward(
        "honeypot", "verify", tmp_path / "claim.json", place / "mine.model", "--key",
        place / "lean.key", "--public", place / "ada.pub.json", "--data", "digits", code=1,
    )  # fmt: skip
    assert "signature" in told["reason"]


@pytest.mark.parametrize("suffix", ["model", "onnx"])
def test_a_head_is_fitted_and_served_as_the_same_graph(suffix, place, doorward, tmp_path):
    out, found = tmp_path / f"head.{suffix}", tmp_path / "head.json"
    told = doorward(
        "honeypot", "fit", place / "lean.key", place / "mine.model", "--data", "digits",
        "--method", "look-ahead", "--target", 7, "--ece-change", 5, "--pool", "digits",
        "--option", 'shadows=[{"options": {"width": 4}}]', "--option", "epochs=0.1",
        "--option", "rounds=1", "--option", "more_epochs=0.1", "--option", "patch_updates=1",
        "--out", out, "--result", found,
    )  # fmt: skip
    assert told["target"] == 7
    assert told["excess"] == []
    assert HeadResult.from_dict(json.loads(found.read_text())).backdoor().trigger.size == (3, 3)
    assert found.stat().st_mode & 0o077 == 0
    images = load("digits", split="test", size=16).sample(20, seed=0).pixels()
    plain, served = (open_black_box(path) for path in (place / "mine.model", out))
    assert float((plain.probabilities(images) - served.probabilities(images)).abs().max()) > 1e-4


def test_options_of_a_head_are_refused_for_a_lean(place, doorward, tmp_path):
    assert "honeypot head" in doorward(
        "honeypot", "fit", place / "lean.key", place / "mine.model", "--data", "digits",
        "--head", "head", "--out", tmp_path / "l.model", "--result", tmp_path / "l.json", code=2,
    )  # fmt: skip
