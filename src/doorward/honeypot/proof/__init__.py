"""The proof: a commitment before serving, an exact test of a suspect's labels, signed minutes.

>>> import torch
>>> from doorward.bundles import Identity
>>> from doorward.data import load
>>> from doorward.honeypot.lean import Entry, LeanKey, Menu
>>> from doorward.honeypot.proof import make_claim, verify_substitute
>>> menu = Menu(classes=10, image_shape=(1, 16, 16), entries=tuple(
...     Entry(across=u, down=v, targets=tuple(range(10))) for u in (2, 4, 6) for v in (0, 3)))
>>> ada, key = Identity.new("Ada"), LeanKey.new(bits=3)
>>> claim = make_claim(key, menu, ada)              # time-stamp claim.digest() before serving
>>> innocent = lambda images: torch.zeros(len(images), dtype=torch.int64)
>>> digits = load("digits", split="test", size=16)
>>> verify_substitute(claim, key, innocent, digits, public=ada.public).verified
False

Files: `claim` (what is committed to), `asking` (labels under waves), `rank` (the exact tests),
`counting` (from answers to a verdict), `verification` (asking, stopping early), `verdict` (in
words), `transcript` (signed minutes).
"""

from doorward.honeypot.proof.asking import Told
from doorward.honeypot.proof.claim import LOOKS, LeanClaim, LeanStatement, make_claim
from doorward.honeypot.proof.rank import at_least, control_p_value, rank_log2_p, sequential_log2_p
from doorward.honeypot.proof.transcript import Minutes, Transcript, check_transcript
from doorward.honeypot.proof.verdict import Verdict
from doorward.honeypot.proof.verification import Examination, examine, verify_substitute

__all__ = [
    "LOOKS",
    "Examination",
    "LeanClaim",
    "LeanStatement",
    "Minutes",
    "Told",
    "Transcript",
    "Verdict",
    "at_least",
    "check_transcript",
    "control_p_value",
    "examine",
    "make_claim",
    "rank_log2_p",
    "sequential_log2_p",
    "verify_substitute",
]
