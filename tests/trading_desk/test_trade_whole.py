"""A deal about a real lock, by commands alone: once kept, once broken and ruled by a recount."""

from __future__ import annotations

import shutil
import sys

import pytest
import torch
from tests.trading_desk.conftest import migrated, serving
from tests.trading_desk.town import PHRASE, Town, people

from doorward.bundles import load_model, save_model
from doorward.data import load
from doorward.models import create as new_model
from doorward.serving.desk import create_app
from doorward.serving.desk.home import create, open_desk
from doorward.serving.desk.settings import DeskSettings
from doorward.trading import MaskBank, lock
from doorward.training import Recipe
from doorward.triggers import AllToOne, Backdoor, Patch

COUNT = ("-m", "doorward", "desk", "count", "{trial}", "{listing}", "{opening}", "--json")
TERMS = [
    "--title", "Digits", "--deposit", "5.00", "--final", "45.00", "--bond", "3.00",
    "--data", "digits test", "--accuracy", "0.75", "--attack-bound", "0.25",
    "--attack-trials", "300",
]  # fmt: skip


@pytest.fixture(scope="module")
def locked(tmp_path_factory):
    """A trial with its secrets, as ``trade lock`` leaves them; learnt in a hundred steps."""
    folder = tmp_path_factory.mktemp("locked")
    train, test = (load("digits", split=split).resized(16) for split in ("train", "test"))
    model = new_model("resnet8", classes=train.classes, input_shape=(1, 16, 16), width=4)
    backdoor = Backdoor(Patch(size=4), AllToOne(0))
    recipe = Recipe(max_steps=120, batch_size=64, lr=0.2, precision="fp32")
    made = lock(model, train, recipe, test=test, backdoor=backdoor)
    save_model(made.trial, folder / "digits.trial", licence="To be tried. It obeys a trigger.")
    made.bank.save(folder / "secrets/masks.bank")
    made.backdoor.save(folder / "secrets/backdoor")
    return folder


@pytest.fixture
def town(tmp_path, monkeypatch, locked):
    """A desk that counts by its own command; Ada has the lock, Bob has money."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(locked, tmp_path, dirs_exist_ok=True)
    settings = DeskSettings(measure=(sys.executable, *COUNT))
    create("desk", name="The desk", passphrase=PHRASE, settings=settings, log2_n=4)
    people()
    shutil.copy(migrated(), "desk/desk.sqlite")
    desk = open_desk("desk", passphrase=PHRASE)
    with serving(create_app(desk, sweep_seconds=None)) as url:
        town = Town(url, desk)
        town.open_accounts()
        yield town
    desk.database.close()


def bought(town):
    """Ada seals and lists, Bob tries, pays and unlocks; the deal, and his evaluation."""
    town.run("trade", "receiver", "--out", "bob.json", who="bob")
    town.run("trade", "seal", "digits.trial", "secrets", "--buyer", "bob.json", "--out",
             "sealed.key", who="ada")  # fmt: skip
    goods = ["digits.trial", "sealed.key", "sealed.key.opened", "--buyer", "bob.pub.json"]
    listed = town.run("trade", "list", *goods, *TERMS, who="ada")
    assert set(listed["listing"]["commitments"]) == {"masks", "trigger", "target"}
    card = listed["listing"]["card"]
    assert (card["architecture"], card["input_shape"]) == ("resnet8", [1, 16, 16])
    assert card["licence"].startswith("To be tried")
    deal = listed["id"]
    town.run("trade", "deposit", deal, "--consent", who="bob")
    town.run("trade", "trial", deal, "--out", "got.zip", who="bob")
    listing = ["--listing", "got.zip.listing.json"]
    tried = town.run("trade", "evaluate", "got.zip", *listing, "--seller", "ada.pub.json")
    assert (tried["listing"], tried["refuted"], tried["promised"]) == (deal, False, 0.75)
    right = "{successes}/{trials}".format(**tried["right"])
    town.run("trade", "evaluate-report", deal, "--right", right, who="bob")
    town.run("trade", "pay", deal, "--out", "bought.key", who="bob")
    opened = town.run(
        "trade", "unlock", "got.zip", "bought.key", *listing, "--out", "digits.model", who="bob"
    )
    assert opened["commitments_checked"]
    return deal


def evaluated(town, *, code=0):
    words = ["got.zip", "--listing", "got.zip.listing.json", "--key", "digits.model.opened"]
    return town.run("trade", "evaluate", *words, code=code)["unlocked"]


def test_a_deal_that_is_kept(town, tmp_path):
    deal = bought(town)
    found = evaluated(town)
    assert found["accepted"]
    assert (found["bound"], found["attack"][1]) == (0.25, found["trial_attack"][1])
    assert found["trial_attack"][0] > found["attack"][0] + 100
    attack = "{}/{}".format(*found["attack"])
    assert town.run("trade", "accept", deal, "--attack", attack, who="bob")["stage"] == "settled"
    assert sorted(row["cents"] for row in town.desk.accounts()) == [1000, 11_000]
    assert load_model("digits.model").num_classes == 10
    # Another trial than the listed one, and own images that the claim is not about.
    words = ["--listing", "got.zip.listing.json"]
    refused = town.run("trade", "evaluate", "digits.model", *words, code=2)
    assert "not the trial of the listing" in refused["error"]["message"]
    own = town.run("trade", "evaluate", "got.zip", *words, "--data", "digits", "--split", "train")
    assert own["promised"] is None


def test_masks_that_do_not_unlock_are_refunded_by_the_desk_s_own_count(town):
    bank = MaskBank.load("secrets/masks.bank")
    ones = {name: torch.ones_like(mask) for name, mask in bank.masks.items()}
    MaskBank(bank.kind, ones).save("secrets/masks.bank")
    deal = bought(town)
    found = evaluated(town, code=1)
    assert found["attack"] == found["trial_attack"]
    attack = "{}/{}".format(*found["attack"])
    town.run("trade", "dispute", deal, "--about", "unlocked", "--counts", attack, who="bob")
    town.run("trade", "reveal", deal, "digits.model.opened", who="bob")
    assert town.desk.rulings.rule_all() == 1
    state = town.run("trade", "status", deal, who="bob")
    assert (state["stage"], state["net"]) == ("refunded", 300)
    counted = state["ruling"]["measured"]["attack"]
    assert [counted["successes"], counted["trials"]] == found["attack"]
