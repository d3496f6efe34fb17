"""Trading: a model with a revocable backdoor, its key, and the protocol of the sale.

The seller trains the lock; the trial is what a buyer gets to try, the masks are what he buys::

    from doorward.trading import lock

    made = lock(model, train, recipe, test=test, masks="channel", seed=0)
    made.result.outcome.trial_attack_success       # the trial obeys the trigger ...
    made.unlocked()                                # ... and under the masks it does not

The protocol between strangers is a pure state machine:

>>> from doorward.trading.protocol import Stage
>>> Stage.RELEASED.final
False
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doorward.trading.locking import Lock, LockResult, learnt_backdoor, lock
    from doorward.trading.masks import MASKS, MaskBank
    from doorward.trading.measuring import LockOutcome, measure_lock
    from doorward.trading.settings import AntiRecovery, Locking, TriggerTuning

_WHERE = {
    "MASKS": "masks",
    "AntiRecovery": "settings",
    "Lock": "locking",
    "LockOutcome": "measuring",
    "LockResult": "locking",
    "Locking": "settings",
    "MaskBank": "masks",
    "TriggerTuning": "settings",
    "learnt_backdoor": "locking",
    "lock": "locking",
    "measure_lock": "measuring",
}

__all__ = [
    "MASKS",
    "AntiRecovery",
    "Lock",
    "LockOutcome",
    "LockResult",
    "Locking",
    "MaskBank",
    "TriggerTuning",
    "learnt_backdoor",
    "lock",
    "measure_lock",
]


def __getattr__(name: str) -> Any:
    # Looked up late: a desk that runs the protocol needs no networks, masks or training.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
