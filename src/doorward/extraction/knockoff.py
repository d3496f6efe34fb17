"""KnockoffNets: ask about images drawn at random from a pool, and train on the answers.

>>> KnockoffRandom()
KnockoffRandom()

Orekondy, Schiele, Fritz (CVPR 2019), "Knockoff Nets: Stealing Functionality of Black-Box Models".
"""

from __future__ import annotations

from pydantic.dataclasses import dataclass

from doorward.extraction.base import EXTRACTIONS, Extraction, Theft
from doorward.records import STRICT
from doorward.training import FitResult, Recipe

__all__ = ["KNOCKOFF_RECIPE", "KnockoffRandom"]

KNOCKOFF_RECIPE = Recipe(
    epochs=100,
    batch_size=64,
    lr=0.01,
    momentum=0.5,
    nesterov=False,
    schedule="step",
    milestones=(0.6,),
    gamma=0.1,
)
"""How the authors' code trains: SGD without weight decay, from ImageNet weights in the paper."""


@EXTRACTIONS.register("knockoff-random", paper="Orekondy et al. 2019", pool=True)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class KnockoffRandom(Extraction):
    """Random images of the pool, without replacement, until the budget or the pool is spent.

    Reproduced: the random policy and the soft-target cross-entropy. Where the authors start the
    pool again once it is exhausted, this one stops: the same question would bring the same answer.
    """

    def run(self, theft: Theft) -> FitResult:
        """Ask about as many images as the budget allows; train once."""
        return theft.train(theft.ask_pool(theft.shuffled()[: theft.victim.budget]))
