"""Clean control models: what a scanner's statistic is where there is no backdoor.

>>> clean = Controls(scanner="bias", recipe_digest="ab", statistics=(0.1, 0.4, 0.2))
>>> clean.p_value(3.0), clean.p_value(0.2)
(0.25, 0.75)

Models are the unit: each counts once, with the largest statistic of its classes, so that a p-value
holds for all classes of the model under test together.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat
from pydantic.dataclasses import dataclass

from doorward.errors import InvalidInput
from doorward.records import STRICT, Record

__all__ = ["Controls"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Controls(Record):
    """The largest statistic of each of some clean models, by one scanner with one recipe.

    Args:
        scanner: its name.
        recipe_digest: of the scanner's parameters.
        statistics: one per control model.
        models: what they are, in the same order; may be left out.
    """

    scanner: str
    recipe_digest: str
    statistics: Annotated[tuple[FiniteFloat, ...], Field(min_length=1)]
    models: tuple[str, ...] = ()

    def require(self, *, scanner: str, recipe_digest: str) -> None:
        """Refuse to serve another scanner, or other parameters.

        Raises:
            InvalidInput: the control models were scanned in another way.
        """
        if (scanner, recipe_digest) != (self.scanner, self.recipe_digest):
            raise InvalidInput(
                f"these control models were scanned by {self.scanner}, with other parameters "
                f"than this scan's"
                if scanner == self.scanner
                else f"these control models were scanned by {self.scanner}, not by {scanner}",
                why="statistics compare only between equal scans",
                remedy="scan the control models again with these parameters",
            )

    def p_value(self, statistic: float) -> float:
        """Probability that a clean model shows so large a statistic for any of its classes.

        ``(1 + controls at least as large) / (1 + controls)``: exact if the model under test and
        the controls are exchangeable.
        """
        as_large = sum(value >= statistic for value in self.statistics)
        return (1 + as_large) / (1 + len(self.statistics))

    @property
    def smallest_p(self) -> float:
        """The smallest p-value that so many controls can give."""
        return 1 / (1 + len(self.statistics))
