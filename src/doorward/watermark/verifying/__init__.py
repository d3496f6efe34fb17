"""Verification in the field: suspects that hide, lines that break, and minutes that others check.

>>> import torch
>>> from doorward.bundles import Identity
>>> from doorward.watermark import WatermarkKey, make_claim
>>> ada, judge = Identity.new("Ada"), Identity.new("Judge")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)
>>> suspect = lambda images: torch.zeros(len(images), dtype=torch.int64)

Triggers go among other questions, in an order that nobody can foresee:

>>> found = examine(claim, key, suspect, public=ada.public, plan=GUARDED)
>>> found.verdict.verified, found.verdict.warnings
(False, ())

The verifier signs what was asked and answered; whoever has the key counts again:

>>> transcript = found.sign(judge)
>>> checked = check_transcript(transcript, claim, public=ada.public, verifier=judge.public, key=key)
>>> checked == found.verdict
True

One key against several suspects, or several keys against one, need a correction:

>>> [entry.verified for entry in correct([found.verdict, found.verdict])]
[False, False]
"""

from doorward.watermark.verifying.checking import check_transcript
from doorward.watermark.verifying.examination import examine
from doorward.watermark.verifying.explaining import Grounds, explain
from doorward.watermark.verifying.history import Earlier, History
from doorward.watermark.verifying.interrogation import Examination, interrogate
from doorward.watermark.verifying.plan import GUARDED, QueryPlan
from doorward.watermark.verifying.queries import Queries
from doorward.watermark.verifying.ruling import Case
from doorward.watermark.verifying.several import Corrected, correct
from doorward.watermark.verifying.shown import Shown
from doorward.watermark.verifying.through import BlendedVerdict, examine_blended
from doorward.watermark.verifying.transcript import Proceedings, Transcript

__all__ = [
    "GUARDED",
    "BlendedVerdict",
    "Case",
    "Corrected",
    "Earlier",
    "Examination",
    "Grounds",
    "History",
    "Proceedings",
    "Queries",
    "QueryPlan",
    "Shown",
    "Transcript",
    "check_transcript",
    "correct",
    "examine",
    "examine_blended",
    "explain",
    "interrogate",
]
