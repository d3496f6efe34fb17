"""The demonstration: what it writes, that it keeps its word, and that it replaces nothing else."""

import json
import os
import stat

import pytest

from doorward.bundles import Identity, PublicIdentity, check_folder, load_model
from doorward.demo import CHAPTERS, run_demo
from doorward.demo import running as running_module
from doorward.errors import InvalidInput
from doorward.watermark import Claim, WatermarkKey


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "report"


@pytest.fixture(scope="module")
def outcome(place):
    said = []
    outcome = run_demo(place, quick=True, say=said.append)
    assert sum(line.startswith("[") for line in said) == len(CHAPTERS)
    return outcome


def test_summary_has_the_agreed_form(outcome, place):
    summary = json.loads((place / "summary.json").read_text())
    assert summary == outcome.summary
    assert set(summary) == {
        "seconds", "train", "watermark", "poisoning", "scanning", "removal", "hardening", "trading",
        "honeypot",
    }  # fmt: skip
    assert set(summary["train"]) == {"accuracy"}
    assert set(summary["watermark"]) == {
        "accuracy", "p_value", "independent_verified", "wrong_key_verified", "tampered_rejected",
        "after_fine_tuning_p_value", "traced_buyer_correct",
    }  # fmt: skip
    assert set(summary["poisoning"]) == {"accuracy", "attack_success"}
    assert set(summary["scanning"]) == {"attacked_class_found", "clean_model_accused", "seconds"}
    assert set(summary["removal"]) == {
        "accuracy_before", "accuracy_after", "attack_success_before", "attack_success_after",
    }  # fmt: skip
    assert set(summary["hardening"]) == {
        "distance_before", "distance_after", "accuracy_before", "accuracy_after",
    }  # fmt: skip
    assert set(summary["trading"]) == {
        "trial_accuracy", "trial_attack_success", "unlocked_accuracy", "unlocked_attack_success",
        "wrong_key_attack_success", "deal_settled",
    }  # fmt: skip
    assert set(summary["honeypot"]) == {
        "victim_accuracy_drop", "agreement", "substitute_accuracy", "substitute_attack_success",
        "control_attack_success", "ownership_p_value",
    }  # fmt: skip


def test_what_does_not_depend_on_training_holds_even_in_a_quick_run(outcome):
    marked = outcome.summary["watermark"]
    assert marked["independent_verified"] is False
    assert marked["wrong_key_verified"] is False
    assert marked["tampered_rejected"] is True


def test_untrained_models_break_the_promises(outcome):
    assert any("98" in promise for promise in outcome.broken)
    assert any("proven" in promise for promise in outcome.broken)
    assert not any("tampered" in promise for promise in outcome.broken)


def test_what_it_leaves_behind_can_be_used(outcome, place):
    passphrase = (place / "passphrase.txt").read_text().strip()
    public = PublicIdentity.load(place / "owner.pub.json")
    assert Identity.open(place / "owner.key", passphrase).public == public
    key = WatermarkKey.open(place / "mark.key", passphrase)
    claim = Claim.load(place / "claim.json", public)
    assert claim.statement.root == key.commitment()
    assert claim.statement.model_digest is None  # claimed before there was a model
    assert set(check_folder(place / "marked.model", public)) == {
        "model.json", "model.safetensors",
    }  # fmt: skip
    for name in ("clean.model", "marked.model", "poisoned.model", "purged.model", "digits.trial"):
        assert load_model(place / name).num_classes == 10


def test_secrets_are_private_and_not_in_the_report(outcome, place):
    passphrase = (place / "passphrase.txt").read_text().strip()
    for name in ("passphrase.txt", "owner.key", "mark.key"):
        assert stat.S_IMODE(os.stat(place / name).st_mode) == 0o600
    page = (place / "index.html").read_text()
    assert passphrase not in page
    assert passphrase not in json.dumps(outcome.summary)


def test_the_report_tells_every_chapter_and_loads_nothing(outcome, place):
    page = (place / "index.html").read_text()
    for heading in (
        "A plain model", "Whose model is it?", "Is it the file", "A backdoor that somebody else",
        "Does somebody else", "Can it be taken out?", "to be tried before", "repeat",
        "Can one digit",
    ):  # fmt: skip
        assert heading in page
    assert "<script" not in page
    assert 'src="http' not in page
    assert 'href="http' not in page
    assert page.count("data:image/png") >= 3


def test_an_older_report_is_replaced(outcome, place):
    before = (place / "claim.json").read_text()
    run_demo(place, quick=True)
    assert (place / "claim.json").read_text() != before


def test_another_folder_is_not(tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InvalidInput, match="not a report"):
        run_demo(tmp_path, quick=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_chapter_that_fails_leaves_nothing(tmp_path, monkeypatch):
    def fail(_story):
        raise InvalidInput("no")

    monkeypatch.setattr(running_module, "CHAPTERS", (("Failing", fail),))
    with pytest.raises(InvalidInput):
        run_demo(tmp_path / "report", quick=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_real_demonstration_keeps_its_promises(tmp_path):
    outcome = run_demo(tmp_path / "report")
    assert outcome.broken == []
    assert outcome.summary["train"]["accuracy"] >= 0.98
    assert outcome.summary["watermark"]["p_value"] <= 2.0**-64
    assert outcome.summary["poisoning"]["attack_success"] >= 0.9
    scanned, purged = outcome.summary["scanning"], outcome.summary["removal"]
    assert scanned["attacked_class_found"] is True
    assert scanned["clean_model_accused"] is False
    assert purged["attack_success_before"] == outcome.summary["poisoning"]["attack_success"]
    assert purged["attack_success_after"] <= 0.05
    assert purged["accuracy_after"] >= purged["accuracy_before"] - 0.02
    hardened = outcome.summary["hardening"]
    assert hardened["distance_before"] is not None
    assert hardened["accuracy_after"] >= hardened["accuracy_before"] - 0.02
    sold = outcome.summary["trading"]
    assert sold["trial_attack_success"] >= 0.95
    assert sold["unlocked_attack_success"] <= 0.1
    assert sold["unlocked_accuracy"] >= sold["trial_accuracy"] - 0.03
    assert sold["deal_settled"] is True
    guarded = outcome.summary["honeypot"]
    assert guarded["agreement"] == 1.0
    assert guarded["victim_accuracy_drop"] == 0.0
    assert guarded["control_attack_success"] <= 0.15
    assert guarded["substitute_attack_success"] > guarded["control_attack_success"]
