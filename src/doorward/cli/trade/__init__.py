"""``doorward trade``: sell and buy models with a revocable backdoor, through a desk.

::

    export DOORWARD_DESK=https://desk.example DOORWARD_IDENTITY=bob.key
    doorward trade register
    doorward trade offers
    doorward trade deposit 3f9a1c --consent
    doorward trade trial 3f9a1c --out digits.zip
    doorward trade pay 3f9a1c --out sealed.key
    doorward trade accept 3f9a1c
"""

from __future__ import annotations

from doorward.cli.trade import buying, disputing, selling
from doorward.cli.trade.group import group

__all__ = ["buying", "disputing", "group", "selling"]
