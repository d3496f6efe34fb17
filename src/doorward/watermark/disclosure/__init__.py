"""Prove ownership in public more than once: each dispute opens a few triggers, and burns them.

The owner publishes a claim, and then the model. Its rule for openings was fixed by `make_claim`:

>>> import pathlib, tempfile, torch
>>> from doorward.bundles import Identity
>>> from doorward.watermark import WatermarkKey, make_claim
>>> ada = Identity.new("Ada")
>>> key = WatermarkKey.new(n=60, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada)

A rival turns up. The judge puts it on record, waits for the next value of a public beacon, and
draws which lot of triggers has to be shown:

>>> rival = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 10))
>>> challenge = make_challenge(claim, suspect_id(rival), beacon="8f2a51c0")

The owner answers. The ledger notes, before anything is shown, what is known from now on:

>>> ledger = BurnLedger(pathlib.Path(tempfile.mkdtemp()) / "mark.burned.json", key)
>>> opening = disclose(key, claim, challenge, ada, ledger)
>>> ledger.remaining(claim)
2

And anybody decides, without the key:

>>> verdict = verify_opening(claim, challenge, opening, rival, public=ada.public)
>>> verdict.verified, verdict.n, verdict.needed
(False, 20, 17)
"""

from doorward.watermark.disclosure.burning import Burned, BurnEntry, BurnLedger
from doorward.watermark.disclosure.challenge import Challenge, make_challenge
from doorward.watermark.disclosure.judging import verify_opening
from doorward.watermark.disclosure.opening import Opening, disclose
from doorward.watermark.disclosure.suspects import suspect_id
from doorward.watermark.lots import Disclosure

__all__ = [
    "BurnEntry",
    "BurnLedger",
    "Burned",
    "Challenge",
    "Disclosure",
    "Opening",
    "disclose",
    "make_challenge",
    "suspect_id",
    "verify_opening",
]
