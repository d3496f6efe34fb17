"""The trading desk: where a stranger buys a model from a stranger, over HTTP.

The pure rules are in `doorward.trading.protocol`; here they get accounts, a ledger in SQL, custody
of what the seller leaves, signed requests, a hash-chained log, and pages. Serve one::

    doorward desk init my-desk --name "The desk"
    doorward desk serve my-desk --port 8700
    doorward desk account my-desk FINGERPRINT --credit 100.00 --reference "receipt 17"

or in Python, behind any ASGI server:

>>> import tempfile
>>> from doorward.bundles.identity import Identity
>>> from doorward.randomness import Secret
>>> from doorward.serving.database import Database
>>> from doorward.serving.desk import Custody, Desk, Funding, create_app
>>> custody = Custody(tempfile.mkdtemp(), Secret.new())
>>> desk = Desk(Database("sqlite://"), Identity.new("desk"), custody)
>>> ada = Identity.new("Ada").public
>>> desk.register(ada), desk.fund("prepaid", Funding(account=ada.fingerprint, cents=500, key="1"))
(True, True)
>>> app = create_app(desk)

What the desk must be trusted with: it holds money and goods, and could release both; it never sees
masks or trigger until a dispute. What it cannot do unseen: act in a party's name (requests are
signed) or rewrite what happened (the log is chained, and its head is signed and handed out).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doorward.serving.desk.app import create_app
    from doorward.serving.desk.client import DeskClient
    from doorward.serving.desk.custody import Custody
    from doorward.serving.desk.desk import Actor, Desk
    from doorward.serving.desk.measuring import CommandMeasure, Evidence, Measure
    from doorward.serving.desk.rails import Funding, PaymentRail, PrepaidRail, WebhookRail
    from doorward.serving.desk.settings import DeskSettings

_WHERE = {
    "Actor": "desk",
    "CommandMeasure": "measuring",
    "Custody": "custody",
    "Desk": "desk",
    "DeskClient": "client",
    "DeskSettings": "settings",
    "Evidence": "measuring",
    "Funding": "rails",
    "Measure": "measuring",
    "PaymentRail": "rails",
    "PrepaidRail": "rails",
    "WebhookRail": "rails",
    "create_app": "app",
}

__all__ = [
    "Actor",
    "CommandMeasure",
    "Custody",
    "Desk",
    "DeskClient",
    "DeskSettings",
    "Evidence",
    "Funding",
    "Measure",
    "PaymentRail",
    "PrepaidRail",
    "WebhookRail",
    "create_app",
]


def __getattr__(name: str) -> Any:
    # A client must not need the server's packages, so each name loads its own module.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
