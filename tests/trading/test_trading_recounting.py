"""The count of a dispute: the buyer's own, and against whoever committed to unusable files."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import torch

from doorward.bundles import save_model
from doorward.data import load
from doorward.errors import InvalidInput, MissingData
from doorward.models import create
from doorward.serving.desk.packing import pack
from doorward.trading import OpenedKey, acceptance_test
from doorward.trading.protocol import Claim, Counts, Listing, Terms
from doorward.trading.recounting import claimed_data, count_trial, recount
from doorward.trading.trials import fitted, open_trial

LICENCE = "To be tried."


@pytest.fixture(scope="module")
def goods(shop, tmp_path_factory):
    """The zip of the shop's trial, its opened key, and a listing of both."""
    folder = tmp_path_factory.mktemp("goods")
    save_model(shop.lock.trial, folder / "t.trial", licence=LICENCE)
    pack(folder / "t.trial", folder / "t.zip")
    key = OpenedKey.new(shop.lock.trial, shop.lock.bank, shop.lock.backdoor, licence=LICENCE)
    return folder / "t.zip", key, listing_of(key)


def listing_of(key, **changes):
    terms = Terms(
        currency="EUR", deposit=500, final=4500, offered_until=9000, attack_bound=0.12,
        attack_trials=300,
    )  # fmt: skip
    return Listing(
        serial="0" * 32, seller="a" * 64, title="Digits", card={},
        claim=Claim(data="digits test", accuracy=0.9), terms=terms, trial="1" * 64,
        trial_bytes=1, key="2" * 64, lock="3" * 64, opening=key.digest(),
        commitments=key.commitments(), **changes,
    )  # fmt: skip


def test_the_desk_counts_what_the_buyer_counts(shop, goods):
    place, key, listing = goods
    images = load("digits", split="test")  # 32 pixels; the trial takes 16
    first = recount(place, listing, images)
    assert first.measurement.attack is None
    assert first.measurement.right == count_trial(shop.lock.trial, shop.test).right
    second = recount(place, listing, images, opening=key.to_bytes())
    found = acceptance_test(
        shop.lock.unlocked(), shop.test, shop.lock.backdoor, bound=0.12, trial=shop.lock.trial
    )
    assert second.measurement.attack == Counts(successes=found.attack[0], trials=found.attack[1])
    assert second.measurement.right == Counts(successes=found.right[0], trials=found.right[1])
    assert not first.faults
    assert not second.faults
    assert found.trial_attack is not None
    assert found.trial_attack[0] > 0.9 * found.trial_attack[1]
    assert found.interval[0] <= found.attack[0] / found.attack[1] <= found.interval[1]
    assert found.restored[0] / found.restored[1] == pytest.approx(
        shop.lock.result.outcome.restored_accuracy
    )


def test_an_unusable_key_breaks_the_promise(shop, goods):
    place, key, listing = goods
    other = create("resnet8", classes=10, input_shape=(1, 16, 16), width=8, seed=9)
    foreign = OpenedKey.new(other, shop.lock.bank, shop.lock.backdoor, licence=LICENCE)
    resalted = OpenedKey.new(shop.lock.trial, shop.lock.bank, shop.lock.backdoor, licence=LICENCE)
    for opening, fault in [
        (b"garbage", "not a whole opened key"),
        (key.to_bytes()[:-1], "not a whole opened key"),
        (resalted.to_bytes(), "committed to"),
        (foreign.to_bytes(), "committed to"),
    ]:
        again = recount(place, listing, shop.test, opening=opening)
        assert again.measurement.right.successes == 0
        attack = again.measurement.attack
        assert attack is not None
        assert attack.successes == attack.trials >= listing.terms.attack_trials
        assert listing.terms.refutes_lock(attack)
        assert fault in again.faults[0]
    # Committed to consistently, and for another model all the same.
    again = recount(place, listing_of(foreign), shop.test, opening=foreign.to_bytes())
    assert "another model" in again.faults[0]


def test_an_unusable_trial_breaks_the_claim(shop, goods, tmp_path):
    _, key, listing = goods
    (tmp_path / "garbage.zip").write_bytes(b"PK garbage")
    three = create("resnet8", classes=3, input_shape=(1, 16, 16), width=4)
    save_model(three, tmp_path / "three.trial")
    for name, fault in (("garbage.zip", "not a model bundle"), ("three.trial", "3 classes")):
        again = recount(tmp_path / name, listing, shop.test)
        assert fault in again.faults[0]
        assert again.measurement.attack is None
        assert listing.claim.refuted_by(again.measurement.right, alpha=0.01), name
        paid = recount(tmp_path / name, listing, shop.test, opening=key.to_bytes()).measurement
        assert paid.attack is not None
        assert listing.terms.refutes_lock(paid.attack)


def test_a_trial_that_is_gone_is_the_desk_s_own_fault(shop, goods, tmp_path):
    with pytest.raises(MissingData, match="backup"):
        recount(tmp_path / "gone", goods[2], shop.test)


def test_too_few_images_are_not_a_verdict(shop, goods):
    place, key, listing = goods
    terms = dataclasses.replace(listing.terms, attack_trials=5000)
    more = dataclasses.replace(listing, terms=terms)
    with pytest.raises(InvalidInput, match="can show the trigger"):
        recount(place, more, shop.test, opening=key.to_bytes())


def test_counts_by_hand(shop):
    """All wrong but the zeros: a model that says 0 to everything."""
    model = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.eye(10)[0])
    zeros = int((shop.test.labels == 0).sum())
    counted = count_trial(model, shop.test, claim=Claim(data="digits test", accuracy=0.9))
    assert counted.right == Counts(successes=zeros, trials=len(shop.test))
    assert counted.refuted
    assert counted.p_value is not None
    assert counted.p_value < 1e-100
    assert not count_trial(model, shop.test, claim=Claim(data="x", accuracy=0.05)).refuted
    assert count_trial(model, shop.test).p_value is None


@pytest.mark.parametrize(
    "data", ["cifar10", "digits", "/etc test", "../digits test", "digits ../test", "my photos"]
)
def test_a_claim_names_no_path(data):
    with pytest.raises(InvalidInput, match="no data set that Doorward knows"):
        claimed_data(Claim(data=data, accuracy=0.5))


def test_images_are_fitted_and_bundles_opened(shop, goods, tmp_path):
    place, _, _ = goods
    opened = open_trial(place)
    assert opened.licence == LICENCE
    assert opened.origin == {}
    assert fitted(load("digits", split="test"), opened.model).image_shape == (1, 16, 16)
    assert fitted(shop.test, opened.model) is shop.test
    assert hashlib.sha256(place.read_bytes()).hexdigest()  # still there: only a copy was unpacked
    assert not list(tmp_path.iterdir())
