r"""``doorward desk``: run a trading desk, and count again in its disputes.

::

    doorward desk init my-desk --name "The desk" \
        --measure "doorward desk count {trial} {listing} {opening} --json"
    doorward desk serve my-desk --port 8700
    doorward desk account my-desk FINGERPRINT --credit 100.00 --reference "receipt 17"
"""

from __future__ import annotations

from doorward.cli.desk import counting, operating
from doorward.cli.desk.operating import group

__all__ = ["counting", "group", "operating"]
