"""What every way to fit a head is: a frozen record with one hook, and what it hands back.

@HEADS.register("mine")
@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mine(HeadMethod):
    def run(self, shop):
        return Fitted(head=shop.new_head(), contrast=shop.grey())     # changes nothing
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from doorward.honeypot.head.workshop import Workshop
from doorward.honeypot.lean.budget import LeanBudget
from doorward.records import Record
from doorward.registry import Registry

__all__ = ["HEADS", "Fitted", "HeadMethod"]


@dataclass(frozen=True)
class Fitted:
    """A head and its patch.

    Attributes:
        head: on the device of the work.
        contrast: of the patch, ``(C, side, side)``.
        learners: simulated thieves, who learnt from the head's answers.
        plain: thieves who learnt from the undefended model's; empty if there were none.
    """

    head: nn.Linear
    contrast: Tensor
    learners: tuple[nn.Module, ...] = ()
    plain: tuple[nn.Module, ...] = ()


class HeadMethod(Record, ABC):
    """Base of the methods."""

    @abstractmethod
    def run(self, shop: Workshop, budget: LeanBudget) -> Fitted:
        """Fit a head and its patch.

        Args:
            shop: the frozen model, its cached features, the pool.
            budget: what the owner's users may notice; a method that cannot keep it says so.
        """


HEADS: Registry[type[HeadMethod]] = Registry("way to fit a honeypot head")
