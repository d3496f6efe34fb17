"""Signed commitments: about one trial and one licence, from one seller, and nothing else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from doorward.bundles import Identity
from doorward.bundles.signed import sign_document
from doorward.errors import BadFile, IntegrityError
from doorward.trading import OpenedKey
from doorward.trading.keys import check_statement, commitment_statement, read_statement
from doorward.trading.masks import identity_bank
from doorward.triggers import AllToOne, Backdoor, Patch

LICENCE = "To be tried.\nIt obeys a trigger."


@pytest.fixture(scope="module")
def ada() -> Identity:
    return Identity.new("Ada")


def key_of(trial: nn.Module, pictures: torch.Tensor, target: int = 0) -> OpenedKey:
    bank = identity_bank(trial, "channel", pictures)
    return OpenedKey.new(trial, bank, Backdoor(Patch(), AllToOne(target)), licence=LICENCE)


def test_a_statement_opens_to_its_key_alone(tiny, pictures, ada) -> None:
    key = key_of(tiny, pictures)
    document = commitment_statement(key, ada)
    assert read_statement(document, ada.public).commitments() == key.commitments()
    # Line ends and space at the ends of lines do not make another licence.
    spaced = LICENCE.replace("\n", "  \r\n") + "\n"
    promised = check_statement(document, ada.public, trial=tiny, licence=spaced)
    key.check_commitments(promised)
    for other in (key_of(tiny, pictures), key_of(tiny, pictures, target=1)):
        with pytest.raises(IntegrityError, match="committed to"):
            other.check_commitments(promised)


def test_it_is_about_this_trial_and_licence(tiny, pictures, ada) -> None:
    document = commitment_statement(key_of(tiny, pictures), ada)
    tuned = copy.deepcopy(tiny)
    with torch.no_grad():
        next(iter(tuned.parameters())).flatten()[0] += 1e-3
    with pytest.raises(IntegrityError, match="another trial"):
        check_statement(document, ada.public, trial=tuned, licence=LICENCE)
    with pytest.raises(IntegrityError, match="another licence"):
        check_statement(document, ada.public, trial=tiny, licence="Do as you like.")


def test_only_the_seller_can_make_it(tiny, pictures, ada) -> None:
    document = commitment_statement(key_of(tiny, pictures), ada)
    with pytest.raises(IntegrityError):
        read_statement(document, Identity.new("Eve").public)
    content = {**document["content"], "masks": "0" * 64}
    with pytest.raises(IntegrityError):
        read_statement({**document, "content": content}, ada.public)
    # Signed by her, for something else, or with something missing.
    with pytest.raises((BadFile, IntegrityError)):
        read_statement(sign_document(document["content"], ada, purpose="other"), ada.public)
    for wrong in ({"masks": "0" * 64}, {**document["content"], "more": 1}):
        signed = sign_document(wrong, ada, purpose="trade-commitments")
        with pytest.raises(BadFile, match="no statement"):
            read_statement(signed, ada.public)
