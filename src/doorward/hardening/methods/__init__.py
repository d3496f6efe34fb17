"""The hardening methods: each is numbers and an objective of the one training loop.

>>> sorted(HARDENINGS)
['deck', 'moth', 'nc-pairwise', 'nc-universal', 'pgd', 'universal']
>>> hardening("deck", steps=100, families=("flow",)).families
('flow',)

See `doorward.hardening.methods.base` for a method of your own.
"""

# Importing a method files it in HARDENINGS; deck and moth also in doorward.removal.REMOVALS.
from doorward.hardening.methods.adversarial import AdversarialTraining, UniversalTraining
from doorward.hardening.methods.base import HARDENINGS, Hardening, file_hardening, hardening
from doorward.hardening.methods.cleanse import CleansePairwise, CleanseUniversal
from doorward.hardening.methods.deck import Deck
from doorward.hardening.methods.guarding import Check, Outcome, guarded
from doorward.hardening.methods.inverting import Found, Inversion, Searching
from doorward.hardening.methods.mixing import Hard, HardObjective
from doorward.hardening.methods.moth import Moth
from doorward.hardening.methods.scheduling import PairSchedule

__all__ = [
    "HARDENINGS",
    "AdversarialTraining",
    "Check",
    "CleansePairwise",
    "CleanseUniversal",
    "Deck",
    "Found",
    "Hard",
    "HardObjective",
    "Hardening",
    "Inversion",
    "Moth",
    "Outcome",
    "PairSchedule",
    "Searching",
    "UniversalTraining",
    "file_hardening",
    "guarded",
    "hardening",
]
