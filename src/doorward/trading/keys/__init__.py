"""The key of a lock as it is sold: made for a buyer, committed to, sealed, opened, traced.

>>> import torch
>>> from doorward.bundles import Identity
>>> from doorward.models import create
>>> from doorward.trading.masks import identity_bank
>>> from doorward.triggers import AllToOne, Backdoor, Patch
>>> ada, bob = Identity.new("Ada"), Identity.new("Bob")
>>> trial = create("resnet8", classes=10, input_shape=(1, 16, 16), width=4).eval()
>>> bank = identity_bank(trial, "channel", torch.rand(1, 1, 16, 16))
>>> key = OpenedKey.new(trial, bank, Backdoor(Patch(), AllToOne(0)), licence="as is",
...                     buyer=bob.public.fingerprint)
>>> document = seal_unlock(key, seller=ada, buyer=Receiver.of(publish(bob)))
>>> opened = open_unlock(document, seller=ada.public, buyer=bob, trial=trial, licence="as is",
...                      commitments=key.commitments())
>>> opened.digest() == key.digest()
True
>>> open_unlock(document, seller=ada.public, buyer=Identity.new("Eve"), trial=trial,
...             licence="as is")
Traceback (most recent call last):
doorward.errors.KeyRefused: this key is sealed for somebody else: ...
"""

from doorward.trading.keys.encryption import Receiver, private_key, publish
from doorward.trading.keys.marking import Match, accuse, buyer_code, marked, read_masks
from doorward.trading.keys.opened import OpenedKey, licence_digest, weights_digest
from doorward.trading.keys.sealed import SealedUnlock, open_unlock, seal_unlock
from doorward.trading.keys.statement import (
    Statement,
    check_statement,
    commitment_statement,
    read_statement,
)

__all__ = [
    "Match",
    "OpenedKey",
    "Receiver",
    "SealedUnlock",
    "Statement",
    "accuse",
    "buyer_code",
    "check_statement",
    "commitment_statement",
    "licence_digest",
    "marked",
    "open_unlock",
    "private_key",
    "publish",
    "read_masks",
    "read_statement",
    "seal_unlock",
    "weights_digest",
]
