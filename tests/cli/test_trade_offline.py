"""``doorward trade lock|receiver|seal|unlock|evaluate``: a sale without a desk."""

from __future__ import annotations

import json

import pytest

from doorward.bundles import Identity, digest, load_model, read_card
from doorward.models import OnnxBox
from doorward.trading import OpenedKey
from doorward.trading.keys import weights_digest

PHRASE = "correct horse"
DIGITS = ["--data", "digits", "--size", "16"]
TINY = [
    *DIGITS, "--option", "width=4", "--batch-size", "256", "--epochs", "1", "--seed", "5",
    "--precision", "fp32",
]  # fmt: skip


@pytest.fixture(scope="module")
def sale(tmp_path_factory, doorward):
    """A locked trial, its secrets, a key sealed for Bob, and everybody's identities."""
    folder = tmp_path_factory.mktemp("sale")
    for name in ("ada", "bob", "eve"):
        identity = Identity.new(name.title())
        identity.seal(folder / f"{name}.key", PHRASE, log2_n=4)  # a cheap seal: tests open it often
        identity.public.save(folder / f"{name}.pub.json")
    (folder / "licence.txt").write_text("For evaluation. It obeys a trigger.\n")
    doorward(
        "trade", "lock", *TINY, "--out", folder / "t.trial", "--target", 3, "--pcgrad",
        "--licence", folder / "licence.txt", "--report", folder / "lock.html",
    )  # fmt: skip
    doorward(
        "trade", "receiver", "--identity", folder / "bob.key", "--out", folder / "bob.receiver.json"
    )
    doorward(
        "trade", "seal", folder / "t.trial", folder / "t.trial.lock", "--buyer",
        folder / "bob.receiver.json", "--identity", folder / "ada.key", "--out",
        folder / "sealed.key",
    )  # fmt: skip
    return folder


def unlock(sale, out, **changes):
    words = {
        "seller": sale / "ada.pub.json", "identity": sale / "bob.key",
        "commitments": sale / "sealed.key.commitments.json", **changes,
    }  # fmt: skip
    options = [word for name, value in words.items() if value for word in (f"--{name}", value)]
    return ["trade", "unlock", sale / "t.trial", sale / "sealed.key", "--out", out, *options]


def test_a_buyer_unlocks_the_trial_and_evaluates_it(sale, doorward, tmp_path):
    found = doorward(*unlock(sale, tmp_path / "m.model"))
    assert found["folded"]
    assert found["commitments_checked"]
    assert found["backdoor"]["rule"] == {"name": "all-to-one", "target": 3}
    trial, model = load_model(sale / "t.trial"), load_model(tmp_path / "m.model")
    assert list(trial.state_dict()) == list(model.state_dict())
    assert weights_digest(trial) != weights_digest(model)
    opened = OpenedKey.from_bytes((tmp_path / "m.model.opened").read_bytes())
    assert opened.digest() == found["opening"]
    assert opened.bank.kind == "channel"
    # The images are fitted to the trial: 32 pixels become 16.
    words = ["trade", "evaluate", sale / "t.trial", "--data", "digits"]
    signed = ["--commitments", sale / "sealed.key.commitments.json", "--seller"]
    before = doorward(*words, *signed, sale / "ada.pub.json")
    assert before["commitments"] == opened.commitments()
    assert before["promised"] is None
    assert "unlocked" not in before
    stranger = doorward(*words, *signed, sale / "eve.pub.json", code=2, parse=False)
    assert "signed by somebody else" in " ".join(stranger.stderr.split())
    right = before["right"]["successes"] / before["right"]["trials"]
    assert before["interval"][0] <= right <= before["interval"][1]
    after = doorward(
        *words, "--key", tmp_path / "m.model.opened", "--bound", 0.9999, "--picture",
        tmp_path / "trigger.png",
    )["unlocked"]  # fmt: skip
    assert after["accepted"]
    assert after["attack"][1] == after["trial_attack"][1] > 200
    assert (tmp_path / "trigger.png").read_bytes().startswith(b"\x89PNG")
    strict = doorward(*words, "--key", tmp_path / "m.model.opened", "--bound", 1e-6, "--limit", 200)
    assert strict["right"]["trials"] == 200


def test_a_leak_names_its_buyer(sale, doorward, tmp_path):
    doorward(*unlock(sale, tmp_path / "m.model"))
    words = [
        "--trial", sale / "t.trial", "--secret", sale / "t.trial.lock", "--buyer",
        sale / "bob.receiver.json", "--buyer", sale / "eve.pub.json", "--identity",
    ]  # fmt: skip
    bob = Identity.open(sale / "bob.key", PHRASE).public.fingerprint
    for leak in ("m.model", "m.model.opened"):  # the folded copy, and the key itself
        found = doorward("trade", "trace", tmp_path / leak, *words, sale / "ada.key")["matches"]
        assert [match["buyer"] for match in found if match["accused"]] == [bob]
        assert found[1]["p_value"] > 0.001
    said = doorward("trade", "trace", tmp_path / "m.model", *words, sale / "ada.key", parse=False)
    assert "made for Bob" in said.stdout
    # Another seller's marks, or a copy that was never unlocked, name nobody.
    doorward("trade", "trace", tmp_path / "m.model", *words, sale / "eve.key", code=1)
    doorward("trade", "trace", sale / "t.trial", *words, sale / "ada.key", code=1)


def test_the_seller_s_report_shows_the_trigger(sale):
    page = (sale / "lock.html").read_text()
    assert "Trigger works unlocked" in page
    assert "the change, amplified" in page


def test_secrets_are_private_and_the_trial_says_what_it_is(sale):
    for secret in ("sealed.key.preimage", "sealed.key.opened", "t.trial.lock/masks.bank"):
        assert (sale / secret).stat().st_mode & 0o077 == 0
    assert (sale / "t.trial.lock").stat().st_mode & 0o077 == 0
    assert json.loads((sale / "t.trial/evidence/trial.json").read_text())["discloses_backdoor"]
    assert digest(sale / "t.trial")
    card = read_card(sale / "t.trial")
    assert card.licence == (sale / "licence.txt").read_text()
    assert card.recipe_digest is None  # it would let the seed be guessed
    bundle = b"".join(path.read_bytes() for path in (sale / "t.trial").rglob("*.json"))
    assert b"additive" not in bundle


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity": "eve.key"}, "sealed for somebody else"),
        ({"identity": None}, "sealed for a buyer"),
        ({"preimage": "licence.txt"}, "does not open the hash lock"),
        ({"licence": "bob.pub.json", "commitments": None}, "another licence"),
        ({"licence": "bob.pub.json"}, "about another licence"),
        ({"seller": "eve.pub.json"}, "signed by somebody else"),
        ({"seller": None}, "whose key"),
        ({"listing": "bob.pub.json"}, "not a signed document"),
        ({"seller": "licence.txt"}, "JSON"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(sale, doorward, tmp_path, changes, message):
    changed = {name: sale / file if file else None for name, file in changes.items()}
    result = doorward(*unlock(sale, tmp_path / "m.model", **changed), code=2, parse=False)
    assert message in " ".join(result.stderr.split())
    assert not list(tmp_path.iterdir())


def test_a_broken_promise_is_exit_code_one(sale, doorward, tmp_path):
    """The seller delivers masks of one: properly sealed, and the trigger works as before."""
    opened = OpenedKey.from_bytes((sale / "sealed.key.opened").read_bytes())
    ones = type(opened.bank)("channel", {n: m * 0 + 1 for n, m in opened.bank.masks.items()})
    trial = load_model(sale / "t.trial")
    fake = OpenedKey.new(trial, ones, opened.backdoor, licence="")
    (tmp_path / "fake").write_bytes(fake.to_bytes())
    words = ["trade", "evaluate", sale / "t.trial", *DIGITS, "--key", tmp_path / "fake"]
    signed = ["--commitments", sale / "sealed.key.commitments.json", "--seller"]
    caught = doorward(*words, *signed, sale / "ada.pub.json", code=2, parse=False)
    assert "the masks that the seller committed to" in " ".join(caught.stderr.split())
    found = doorward(*words, "--bound", 0.001, code=1)["unlocked"]
    assert not found["accepted"]
    assert found["attack"] == found["trial_attack"]
    assert "more than promised" in doorward(*words, "--bound", 0.001, code=1, parse=False).stdout


@pytest.mark.slow
def test_masks_that_do_not_fold_leave_as_onnx(sale, doorward, tmp_path):
    doorward(
        "trade", "lock", *TINY, "--masks", "spatial", "--out", tmp_path / "s.trial", "--secret",
        tmp_path / "secret",
    )  # fmt: skip
    words = [
        "trade", "seal", tmp_path / "s.trial", tmp_path / "secret", "--identity", sale / "ada.key",
        "--out", tmp_path / "k",
    ]  # fmt: skip
    result = doorward(*words, code=2, parse=False)
    assert "states no licence" in " ".join(result.stderr.split())
    words += ["--licence", sale / "licence.txt"]
    doorward(*words)
    assert "exists already" in " ".join(doorward(*words, code=2, parse=False).stderr.split())
    words = [
        "trade", "unlock", tmp_path / "s.trial", tmp_path / "k", "--seller", sale / "ada.pub.json",
        "--licence", sale / "licence.txt", "--out",
    ]  # fmt: skip
    result = doorward(*words, tmp_path / "m.model", code=2, parse=False)
    assert "Name an .onnx file" in " ".join(result.stderr.split())
    found = doorward(*words, tmp_path / "m.onnx")
    assert not found["folded"]
    assert OnnxBox(tmp_path / "m.onnx").num_classes == 10
    other = doorward(
        "trade", "unlock", tmp_path / "s.trial", sale / "sealed.key", "--seller",
        sale / "ada.pub.json", "--identity", sale / "bob.key", "--licence", sale / "licence.txt",
        "--out", tmp_path / "no.model", code=2, parse=False,
    )  # fmt: skip
    assert "another model" in " ".join(other.stderr.split())
    assert not (tmp_path / "no.model").exists()


def test_wrong_calls(sale, doorward, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "diary.txt").write_text("dear diary")
    for words, message in [
        (["--masks", "chanel"], "Did you mean 'channel'"),
        (["--site", "body.stem.0"], "would be undone"),
        (["--target", 10], "class 10"),
        (["--secret", tmp_path / "t.trial"], "both the trial and its secrets"),
        (["--secret", tmp_path / "mine"], "not a lock's folder"),
        (["--start", sale / "t.trial"], "--start is a model already"),
        (["--licence", sale / "t.trial.lock/masks.bank"], "text"),
    ]:
        result = doorward("trade", "lock", *TINY, "--out", tmp_path / "t.trial", *words, code=2,
                          parse=False)  # fmt: skip
        assert message in " ".join(result.stderr.split()), words
    assert not (tmp_path / "t.trial").exists()
    unseeded = [*DIGITS, "--out", tmp_path / "t.trial", "--checkpoint", tmp_path / "c"]
    result = doorward("trade", "lock", *unseeded, code=2, parse=False)
    assert "needs --seed" in " ".join(result.stderr.split())
    for words, message in [
        ([], "on which images"),
        ([*DIGITS, "--picture", tmp_path / "p.png"], "which is in the --key"),
        ([*DIGITS, "--key", sale / "licence.txt"], "not a whole opened key"),
    ]:
        result = doorward("trade", "evaluate", sale / "t.trial", *words, code=2, parse=False)
        assert message in " ".join(result.stderr.split()), words
