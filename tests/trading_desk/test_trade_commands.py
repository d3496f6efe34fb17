"""A whole trade by its commands, as seller, buyer and operator would type them."""

import functools
import json
import shutil
import zipfile

import pytest
from tests.trading_desk.conftest import migrated, serving
from tests.trading_desk.town import PHRASE, Town, app, people
from typer.testing import CliRunner

from doorward.bundles import Identity
from doorward.cli.root import app as whole
from doorward.cli.trade.options import cents_of, counts_of, seconds_of
from doorward.errors import InvalidInput
from doorward.serving.desk import create_app
from doorward.serving.desk.home import create, open_desk
from doorward.serving.desk.packing import pack

TERMS = [
    "--title", "Digits", "--deposit", "5.00", "--final", "45.00", "--bond", "3.00",
    "--data", "digits test", "--accuracy", "0.97", "--attack-bound", "0.12",
]  # fmt: skip


@pytest.fixture
def town(tmp_path, monkeypatch):
    """A served desk, two identities with accounts, and the goods; commands run in the folder."""
    monkeypatch.chdir(tmp_path)
    create("desk", name="The desk", passphrase=PHRASE, log2_n=4)
    people()
    trial = tmp_path / "digits.trial"
    trial.mkdir()
    (trial / "model.json").write_text('{"architecture": "resnet8"}')
    (trial / "model.safetensors").write_bytes(bytes(1000))
    (tmp_path / "sealed.key").write_bytes(b"sealed")
    (tmp_path / "opened.key").write_bytes(b"opened, with a salt")
    (tmp_path / "card.json").write_text('{"architecture": "resnet8", "licence": "research"}')
    shutil.copy(migrated(), "desk/desk.sqlite")
    desk = open_desk("desk", passphrase=PHRASE)
    with serving(create_app(desk, sweep_seconds=None)) as url:
        yield Town(url, desk)
    desk.database.close()


def offer(town):
    goods = ["digits.trial", "sealed.key", "opened.key", "--card", "card.json"]
    state = town.run("trade", "list", *goods, *TERMS, who="ada")
    assert state["stage"] == "stocked"
    return state["id"]


def test_the_commands_are_there():
    assert {"trade", "desk"} <= {group.name for group in whole.registered_groups}


def test_a_trade_from_listing_to_settlement(town, tmp_path):
    town.open_accounts()
    again = ["--credit", "60.00", "--reference", "receipt ada"]
    ada = Identity.open("ada.key", PHRASE).public.fingerprint
    assert town.run("desk", "account", "desk", ada, *again)["new"] is False
    deal = offer(town)
    assert offer(town) == deal  # the same command goes on with the listing it wrote
    (found,) = town.run("trade", "offers")["offers"]
    assert found["listing"]["card"]["architecture"] == "resnet8"
    short = deal[:10]
    refused = town.run("trade", "deposit", short, who="bob", code=2)
    assert "--consent" in refused["error"]["message"]
    town.run("trade", "deposit", short, "--consent", who="bob")
    town.run("trade", "trial", short, "--out", "got.zip", "--unpack", "got", who="bob")
    assert (tmp_path / "got" / "model.safetensors").read_bytes() == bytes(1000)
    assert json.loads((tmp_path / "got.zip.listing.json").read_text())["signer"]["name"] == "Ada"
    report = ["trade", "evaluate-report", short, "--right"]
    assert town.run(*report, "900/1000", who="bob", code=1)["refuted"] is True
    assert town.run(*report, "975/1000", who="bob")["refuted"] is False
    for _ in range(2):  # a second time only fetches the key again
        paid = town.run("trade", "pay", short, "--out", "bought.key", who="bob")
    assert (paid["stage"], paid["net"]) == ("released", -5000)
    assert (tmp_path / "bought.key").read_bytes() == b"sealed"
    sent = (tmp_path / "sealed.key.preimage").read_bytes()
    assert (tmp_path / "bought.key.preimage").read_bytes() == sent
    failed = town.run("trade", "accept", short, "--attack", "90/500", who="bob", code=2)
    assert failed["error"]["message"].endswith("Dispute it.")
    assert town.run("trade", "accept", short, "--attack", "12/500", who="bob")["stage"] == "settled"
    status = town.run("trade", "status", who="ada")
    assert (status["account"]["cents"], status["deals"][0]["net"]) == (11_000, 5000)
    link = town.run("trade", "status", short, "--browse", who="bob")["link"]
    assert link.startswith(f"{town.url}/enter/")
    accounts = town.run("desk", "account", "desk")["accounts"]
    assert sorted(row["cents"] for row in accounts) == [1000, 11_000]
    assert town.run("desk", "verify", "desk") == {"whole": True}


def test_a_dispute_ruled_by_hand(town, tmp_path):
    town.open_accounts()
    deal = offer(town)
    town.run("trade", "deposit", deal, "--consent", who="bob")
    town.run("trade", "trial", deal, "--out", "got.zip", who="bob")
    town.run("trade", "pay", deal, "--out", "bought.key", who="bob")
    complaint = ["--about", "unlocked", "--counts", "90/500", "--remark", "it still works"]
    disputed = town.run("trade", "dispute", deal, *complaint, who="bob")
    assert disputed["complaint"]["ground"] == "attack"
    town.run("trade", "reveal", deal, "sealed.key", who="ada", code=2)
    town.run("trade", "reveal", deal, "opened.key", who="ada")
    town.run("trade", "opened", deal, "--out", "shown.key", who="bob")
    assert (tmp_path / "shown.key").read_bytes() == b"opened, with a salt"
    assert town.run("desk", "rule", "desk")["pending"] == [deal]
    counts = ["--right", "980/1000", "--attack", "95/500"]
    assert town.run("desk", "rule", "desk", deal, *counts, code=1)["for_buyer"] is True
    assert town.run("trade", "status", who="bob")["account"]["cents"] == 6300


def test_withdrawing_and_wrong_calls(town):
    town.open_accounts()
    deal = offer(town)
    town.run("trade", "deposit", deal, "--consent", who="bob")
    assert town.run("trade", "withdraw", deal, who="bob")["stage"] == "stocked"
    assert town.run("trade", "withdraw", deal, who="ada")["stage"] == "withdrawn"
    for words in (
        ["trade", "status", "xyz"], ["trade", "status", "0123456"], ["trade", "status", "0" * 64],
        ["trade", "evaluate-report", deal, "--right", "975"],
        ["trade", "trial", deal, "--out", "x", "--unpack", "digits.trial"],
        ["desk", "account", "desk", "--credit", "5.00"],
        ["desk", "account", "desk", "0" * 64, "--credit", "5,00", "--reference", "x"],
        ["desk", "init", "desk", "--name", "Again"],
        ["desk", "verify", "nowhere"],
        ["desk", "serve", "desk", "--rail", "nothing"],
        ["desk", "serve", "desk", "--rail", "builtins:dict"],
        ["desk", "init", "other", "--name", "x", "--measure", "count"],
    ):  # fmt: skip
        if words[1] == "serve":  # it has no --json
            result = CliRunner(env={"DOORWARD_PASSPHRASE": PHRASE}).invoke(app, words)
            assert result.exit_code == 2
            assert "rail" in result.output
        else:
            town.run(*words, who="bob", code=2)


def test_desks_are_made_and_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    quick = functools.partial(create, log2_n=4)
    monkeypatch.setattr("doorward.serving.desk.home.create", quick)
    runner = CliRunner(env={"DOORWARD_PASSPHRASE": PHRASE})
    words = ["desk", "init", "d", "--name", "D", "--currency", "USD", "--measure", "count {trial}"]
    made = runner.invoke(app, [*words, "--json"])
    assert made.exit_code == 0, made.output
    desk = open_desk("d", passphrase=PHRASE)
    assert json.loads(made.stdout)["fingerprint"] == desk.fingerprint
    assert (desk.settings.currency, desk.rulings.measures) == ("USD", True)
    desk.database.close()
    settings = tmp_path / "d" / "desk.json"
    settings.write_text(settings.read_text().replace("USD", "dollars"))
    refused = runner.invoke(app, ["desk", "verify", "d"])
    assert (refused.exit_code, "currency" in refused.output) == (2, True)


@pytest.mark.parametrize("amount", ["5,00", "5.0", "-5", "5.001", "", "5e2", "٣"])
def test_amounts_are_not_guessed(amount):
    with pytest.raises(InvalidInput):
        cents_of(amount)


def test_spans_and_counts_are_not_guessed():
    for span in ("0d", "5", "5w", "-1d", "1.5h"):
        with pytest.raises(InvalidInput):
            seconds_of(span)
    for counts in ("5", "5/", "6/5", "5/0", "-1/5"):
        with pytest.raises(InvalidInput):
            counts_of(counts)


def test_a_folder_packs_to_the_same_bytes(tmp_path):
    import os

    first, second = tmp_path / "a", tmp_path / "b"
    for folder, names in ((first, ["x", "y/z"]), (second, ["y/z", "x"])):
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(name)
        os.utime(folder / "x", (len(names), 10**9 + ord(names[0][0])))
        pack(folder, folder.with_suffix(".zip"))
    assert first.with_suffix(".zip").read_bytes() == second.with_suffix(".zip").read_bytes()
    assert zipfile.ZipFile(first.with_suffix(".zip")).namelist() == ["x", "y/z"]
    (first / "link").symlink_to("/etc/passwd")
    for folder in (first, tmp_path / "nothing"):
        with pytest.raises(InvalidInput):
            pack(folder, tmp_path / "c.zip")
