"""Goods, terms and listings that the tests of the desk trade; no model is trained here."""

import hashlib

from doorward.trading.protocol import Claim, Listing, Stock, Terms, apply, hash_lock

TRIAL = b"the trial bundle " * 20
KEY = b"the sealed key"
OPENING = b"the opened key, with its salt"
PREIMAGE = bytes(range(32))
NOW = 1_800_000_000


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def make_terms(**changes):
    plain = {
        "currency": "EUR", "deposit": 500, "final": 4500, "bond": 300, "offered_until": NOW + 1000,
        "trial_seconds": 100, "acceptance_seconds": 50, "answer_seconds": 40,
        "attack_bound": 0.12, "attack_trials": 500,
    }  # fmt: skip
    return Terms(**{**plain, **changes})


def make_listing(seller, *, serial=0, terms=None, **changes):
    plain = {
        "serial": f"{serial:032x}", "seller": seller, "title": "Digits, ten classes",
        "card": {"architecture": "resnet8", "classes": 10, "licence": "research"},
        "claim": Claim(data="digits test", accuracy=0.97), "terms": terms or make_terms(),
        "trial": sha256(TRIAL), "trial_bytes": len(TRIAL), "key": sha256(KEY),
        "lock": hash_lock(PREIMAGE), "opening": sha256(OPENING),
        "commitments": {"masks": "1" * 64},
    }  # fmt: skip
    return Listing(**{**plain, **changes})


def stocked(deal, at=NOW):
    held = {"trial": deal.listing.trial, "key": deal.listing.key, "preimage": deal.listing.lock}
    for artefact, digest in held.items():
        deal = apply(deal, Stock(actor=deal.seller, at=at, artefact=artefact, sha256=digest))
    return deal


GOODS = {"trial": TRIAL, "key": KEY, "preimage": PREIMAGE, "opening": OPENING}
