"""Ways around the key: own masks leave the weights alone, a copy shares none of them."""

from __future__ import annotations

import pytest
import torch

from doorward.errors import DoorwardError
from doorward.metrics import accuracy
from doorward.trading.buyers import Copying, OwnMasks
from doorward.trading.keys import weights_digest
from doorward.trading.masks import TrainedMasks, identity_bank
from doorward.trading.masks.gates import Gate


def test_own_masks_are_learnt_and_the_weights_are_not(shop) -> None:
    trial, few = shop.lock.trial, shop.train.sample(256, seed=0)
    before = weights_digest(trial)
    guessed, told = OwnMasks(epochs=4.0, batch_size=32, lr=0.05)(trial, few, seed=3)
    assert weights_digest(trial) == before
    gates = [module for module in guessed.modules() if isinstance(module, Gate)]
    assert len(gates) == len(shop.lock.bank.sites)
    assert all(0 <= float(gate.mask.min()) <= float(gate.mask.max()) <= 2 for gate in gates)
    theirs = [p for name, p in guessed.named_parameters() if "gate" not in name]
    assert all(
        torch.equal(a, b) for a, b in zip(theirs, trial.parameters(), strict=True)
    )  # BatchNorm follows the masks, weights do not
    # Fitting helps: masks as they began are worse.
    masks = TrainedMasks(identity_bank(trial, "channel", few.pixels([0])))
    masks.scatter(1.0, seed=3)
    begun = masks.bank(dict(shop.lock.bank.statistics)).apply(trial)
    assert accuracy(guessed, shop.test) > accuracy(begun, shop.test)
    assert [entry["phase"] for entry in told.history] == ["own masks"] * 4


def test_a_copy_is_another_network(shop) -> None:
    trial, few = shop.lock.trial, shop.train.sample(128, seed=0)
    state = torch.get_rng_state()
    method = Copying(epochs=2.0, batch_size=32)
    copies = [method(trial, few, seed=seed)[0] for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), state)  # nothing is drawn from the global generator
    first, again, other = (weights_digest(copy) for copy in copies)
    assert first == again != other
    ours, theirs = (next(iter(model.parameters())).detach() for model in (trial, copies[0]))
    cosine = torch.nn.functional.cosine_similarity(ours.flatten(), theirs.flatten(), dim=0)
    assert abs(float(cosine)) < 0.6  # drawn anew: not the trial's, tuned


def test_masks_of_no_kind_are_refused(shop) -> None:
    with pytest.raises(DoorwardError, match="chanel"):
        OwnMasks(masks="chanel")(shop.lock.trial, shop.train.sample(20, seed=0))
