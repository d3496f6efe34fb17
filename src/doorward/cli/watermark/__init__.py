"""``doorward watermark``: mark a model with a key, and prove later that it is yours.

::

    doorward keys new ada.key --name Ada
    doorward watermark keygen mark.key --data digits --owner ada.pub.json
    doorward watermark claim mark.key --identity ada.key --out claim.json
    doorward watermark embed mark.key --data digits --arch resnet8 --out mine.model
    doorward watermark verify claim.json mine.model --key mark.key --public ada.pub.json
"""

from __future__ import annotations

from doorward.cli.watermark import (
    accusing,
    attacking,
    buyers,
    casework,
    certifying,
    choosing,
    claiming,
    dating,
    disclosing,
    disputing,
    faithful,
    faithful_marking,
    inspecting,
    marking,
    status,
    tracing,
    transcripts,
    verifying,
    verifying_blended,
)
from doorward.cli.watermark.group import group

__all__ = [
    "accusing",
    "attacking",
    "buyers",
    "casework",
    "certifying",
    "choosing",
    "claiming",
    "dating",
    "disclosing",
    "disputing",
    "faithful",
    "faithful_marking",
    "group",
    "inspecting",
    "marking",
    "status",
    "tracing",
    "transcripts",
    "verifying",
    "verifying_blended",
]
