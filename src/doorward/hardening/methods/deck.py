"""DECK-R: harden against changes of the whole image, family by family and pair by pair.

>>> from doorward.hardening import hardening
>>> hardening("deck", families=("flow", "colour")).families
('flow', 'colour')
"""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from doorward.data import ImageData
from doorward.hardening.methods.base import file_hardening
from doorward.hardening.methods.pairhardening import ScheduledHardening
from doorward.hardening.methods.scheduled import ScheduledObjective
from doorward.hardening.transforms import (
    PLAIN,
    Change,
    Coder,
    Family,
    Pervasive,
    Space,
    train_coder,
)
from doorward.records import STRICT
from doorward.removal.base import file_removal
from doorward.training.context import Context

__all__ = ["Deck"]

MIXED = "mixed"


@file_removal(
    "deck",
    paper="Tao et al. 2022, Model Hardening for Defending Pervasive Backdoors (reconstruction)",
    needs="nothing beyond trainable weights",
)
@file_hardening(
    "deck",
    paper="Tao et al. 2022, Model Hardening for Defending Pervasive Backdoors (reconstruction)",
)
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Deck(ScheduledHardening):
    """Adversarial training on the smallest whole-image changes between classes (DECK-R).

    Of DECK no more than the abstract is known to us: a general pervasive attack by an
    encoder-decoder with a transformation layer, and its samples used in adversarial training. This
    is our reconstruction from MOTH by the same authors, whose loop it takes over (warm-up over
    targets, choice of pairs, both ways at once, three steps each, true labels). Ours are the
    families of changes and their scheduling, several pairs in one pass, clean images of the two
    classes drawn for the purpose, `reach`, BatchNorm that follows the clean images only,
    consistency with the given model, and the budget.

    Args:
        families: parts of the whole-image change: all together are one arm of the schedule, each
            alone another.
        space: bounds of the changes; its families do not count.

    All other fields are those of `ScheduledHardening`, `PairHardening` and `Hardening`. Its
    defaults rest on first trials on digits, one seed each: changed images at full weight pushed
    the classes apart within the budget; at a fifth of it they hardly did.
    """

    families: Annotated[tuple[Family, ...], Field(min_length=1)] = PLAIN
    space: Space = field(default_factory=Space)

    def objective(self, model: nn.Module, work: ImageData, context: Context) -> DeckObjective:
        """The objective; an encoder-decoder is trained first where the latent family needs it."""
        coder = None
        if "latent" in self.families:
            coder = train_coder(context.frozen_original(), work, context)
        return DeckObjective(self, work, context, coder)


class DeckObjective(ScheduledObjective):
    """The arms are all families together and, if there are several, each one alone."""

    def __init__(
        self, method: Deck, work: ImageData, context: Context, coder: Coder | None = None
    ) -> None:
        alone = method.families if len(method.families) > 1 else ()
        super().__init__(method, work, context, arms=(MIXED, *alone))
        self.coder = coder
        together = Space.from_dict({**method.space.to_dict(), "families": method.families})
        self.spaces = {MIXED: together} | {
            name: Space.from_dict({**method.space.to_dict(), "families": (name,)}) for name in alone
        }

    def make(self, arm: str, rows: int) -> Change:
        """A whole-image change."""
        return Pervasive(rows, self.image_shape, self.spaces[arm], coder=self.coder)
