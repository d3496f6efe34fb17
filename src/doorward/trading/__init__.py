"""Trading: a model with a revocable backdoor, its key, and the protocol of the sale.

The seller trains the lock; the trial is what a buyer gets to try, the masks are what he buys::

    from doorward.trading import lock

    made = lock(model, train, recipe, test=test, masks="channel", seed=0)
    made.result.outcome.trial_attack_success       # the trial obeys the trigger ...
    made.unlocked()                                # ... and under the masks it does not

`doorward.trading.keys` makes a key for a buyer of it, sealed so that nobody else can open it, on no
other model, and not before it was paid for::

    key = OpenedKey.new(made.trial, made.bank, made.backdoor, licence=text, buyer=fingerprint)
    document = seal_unlock(key, seller=ada, buyer=receiver, preimage=preimage)

The protocol between strangers is a pure state machine:

>>> from doorward.trading.protocol import Stage
>>> Stage.RELEASED.final
False
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doorward.trading.keys import OpenedKey, Receiver, open_unlock, publish, seal_unlock
    from doorward.trading.locking import Lock, LockResult, learnt_backdoor, lock
    from doorward.trading.masks import MASKS, MaskBank
    from doorward.trading.measuring import (
        Acceptance,
        LockOutcome,
        acceptance_test,
        measure_lock,
    )
    from doorward.trading.settings import AntiRecovery, Locking, TriggerTuning

_WHERE = {
    "MASKS": "masks",
    "Acceptance": "measuring",
    "AntiRecovery": "settings",
    "Lock": "locking",
    "LockOutcome": "measuring",
    "LockResult": "locking",
    "Locking": "settings",
    "MaskBank": "masks",
    "OpenedKey": "keys",
    "Receiver": "keys",
    "TriggerTuning": "settings",
    "acceptance_test": "measuring",
    "learnt_backdoor": "locking",
    "lock": "locking",
    "measure_lock": "measuring",
    "open_unlock": "keys",
    "publish": "keys",
    "seal_unlock": "keys",
}

__all__ = [
    "MASKS",
    "Acceptance",
    "AntiRecovery",
    "Lock",
    "LockOutcome",
    "LockResult",
    "Locking",
    "MaskBank",
    "OpenedKey",
    "Receiver",
    "TriggerTuning",
    "acceptance_test",
    "learnt_backdoor",
    "lock",
    "measure_lock",
    "open_unlock",
    "publish",
    "seal_unlock",
]


def __getattr__(name: str) -> Any:
    # Looked up late: a desk that runs the protocol needs no networks, masks or training.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
