"""``doorward trade``: sell and buy models with a revocable backdoor, with and without a desk.

Without one: lock a model, seal its key for a buyer, unlock and evaluate it::

    doorward trade lock --data digits --licence licence.txt --out digits.trial
    doorward trade seal digits.trial digits.trial.lock --buyer bob.receiver.json ...
    doorward trade unlock digits.trial sealed.key --seller ada.pub.json --out digits.model ...
    doorward trade evaluate digits.trial --data digits --key digits.model.opened

With one::

    export DOORWARD_DESK=https://desk.example DOORWARD_IDENTITY=bob.key
    doorward trade register
    doorward trade offers
    doorward trade deposit 3f9a1c --consent
    doorward trade trial 3f9a1c --out digits.zip
    doorward trade evaluate digits.zip --listing digits.zip.listing.json
    doorward trade pay 3f9a1c --out sealed.key
    doorward trade accept 3f9a1c
"""

from __future__ import annotations

from doorward.cli.trade import (
    buying,
    disputing,
    evaluating,
    locking,
    sealing,
    selling,
    tracing,
    unlocking,
)
from doorward.cli.trade.group import group

__all__ = [
    "buying",
    "disputing",
    "evaluating",
    "group",
    "locking",
    "sealing",
    "selling",
    "tracing",
    "unlocking",
]
