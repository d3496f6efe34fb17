"""The sections about a lock and a deal, from a lock whose figures are made up."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from doorward.data import load
from doorward.models import create
from doorward.reporting import Report, deal_section, lock_section
from doorward.trading import Lock, lock
from doorward.trading.protocol import Claim, Deal, Listing, Stock, Terms, apply, hash_lock
from doorward.training import Recipe


@pytest.fixture(scope="module")
def made() -> Lock:
    """Two steps: what it measured is replaced by figures that can be looked for."""
    digits, test = (load("digits", split=split).resized(16) for split in ("train", "test"))
    model = create("resnet8", classes=digits.classes, input_shape=(1, 16, 16), width=4)
    recipe = Recipe(max_steps=2, batch_size=32, lr=0.01, precision="fp32")
    whole = lock(model, digits, recipe, test=test.sample(60, seed=0))
    figures: dict[str, Any] = {
        "trial_accuracy": 0.875, "trial_attack_success": 0.9375, "unlocked_accuracy": 0.8125,
        "unlocked_attack_success": 0.0625, "unlocked_interval": (0.03125, 0.125),
        "restored_accuracy": 0.75,
    }  # fmt: skip
    outcome = dataclasses.replace(whole.result.outcome, **figures)
    return dataclasses.replace(whole, result=dataclasses.replace(whole.result, outcome=outcome))


def test_the_section_of_a_lock_shows_trigger_and_figures(made, tmp_path) -> None:
    test = load("digits", split="test").resized(16)
    section = lock_section(made, test, {"another key": (0.125, 0.25)})
    page = Report("Lock", "A lock.").add(section).write(tmp_path / "index.html").read_text()
    for shown in ("87.5 %", "93.8 %", "81.2 %", "6.2 %", "75.0 %", "12.5 %", "25.0 %"):
        assert shown in page, shown
    assert "another key" in page
    assert page.count("data:image/png") >= 1
    assert "fold into the weights" in page
    assert torch.equal(test.pixels([0]), load("digits", split="test").resized(16).pixels([0]))


def test_the_section_of_a_deal_says_where_the_money_is(tmp_path) -> None:
    seller, preimage = "a" * 64, bytes(32)
    terms = Terms(
        currency="EUR", deposit=500, final=4500, bond=300, offered_until=9000, attack_bound=0.12
    )
    listing = Listing(
        serial="0" * 32, seller=seller, title="Digits", card={},
        claim=Claim(data="digits test", accuracy=0.9), terms=terms, trial="1" * 64,
        trial_bytes=1, key="2" * 64, lock=hash_lock(preimage), opening="3" * 64,
    )  # fmt: skip
    deal = Deal.new(listing, at=0)
    told = [("listed it", deal)]
    for artefact, digest in (("trial", "1" * 64), ("key", "2" * 64), ("preimage", listing.lock)):
        deal = apply(deal, Stock(actor=seller, at=1, artefact=artefact, sha256=digest))  # type: ignore[arg-type]
        told.append((f"left the {artefact}", deal))
    page = Report("Deal", "A deal.").add(deal_section(told)).write(tmp_path / "d.html").read_text()
    assert "left the preimage" in page
    assert "3.00" in page  # the bond
    assert "stocked" in page
