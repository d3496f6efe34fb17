"""``doorward honeypot``: serve answers that give a thief's copy away, and prove it later.

::

    doorward keys new ada.key --name Ada
    doorward honeypot keygen lean.key --owner ada.pub.json
    doorward honeypot fit lean.key mine.model --data digits --out leaning.onnx --result lean.json
    doorward honeypot claim lean.key --fitted lean.json --identity ada.key --out claim.json
    doorward honeypot verify claim.json suspect.onnx --key lean.key --public ada.pub.json \
        --data digits --control own1.model --control own2.model
"""

from __future__ import annotations

from doorward.cli.honeypot import claiming, drawing, fitting, verifying
from doorward.cli.honeypot.group import group

__all__ = ["claiming", "drawing", "fitting", "group", "verifying"]
