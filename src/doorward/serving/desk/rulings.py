"""Disputes at the desk: gather the evidence, count again, let the arbiter rule, carry it out.

::

    desk.rulings.rule_all()                            # every dispute that is ready (`Desk.sweep`)
    desk.rulings.rule(deal, measured=measurement)      # the operator counted by hand

Counting takes long, so it happens outside any transaction; the ruling is applied only if the deal
is still as it was when the evidence was gathered.
"""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING

from sqlalchemy import select

from doorward.errors import DoorwardError
from doorward.files import sha256_file
from doorward.serving.desk.measuring import Evidence, Measure
from doorward.serving.desk.tables import DealRow
from doorward.trading.protocol import (
    Arbiter,
    Case,
    Deal,
    DealRefused,
    Event,
    Measurement,
    Rule,
    Stage,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from doorward.serving.desk.desk import Desk

__all__ = ["Rulings"]

_LOG = logging.getLogger("doorward.desk")


class Rulings:
    """The disputes of a desk.

    Args:
        desk: whose.
        arbiter: decides.
        measure: counts again, or None: the operator does.
    """

    def __init__(self, desk: Desk, arbiter: Arbiter, measure: Measure | None) -> None:
        self._desk, self._arbiter, self._measure = desk, arbiter, measure

    @property
    def measures(self) -> bool:
        """Whether the desk counts by itself."""
        return self._measure is not None

    def pending(self) -> list[str]:
        """Disputes that wait for a ruling and for nothing else."""
        query = select(DealRow.id).where(
            DealRow.stage == Stage.DISPUTED.value, DealRow.due.is_(None)
        )
        with self._desk.database.reading() as session:
            return list(session.scalars(query))

    def rule_all(self) -> int:
        """Rule on every pending dispute, if the desk can count; how many were ruled.

        A dispute on which no ruling is possible now (the measuring command failed) is logged and
        stays pending.
        """
        if self._measure is None:
            return 0
        ruled = 0
        for deal in self.pending():
            try:
                self.rule(deal)
                ruled += 1
            except DoorwardError as error:
                _LOG.warning("no ruling on deal %s: %s", deal[:16], error)
        return ruled

    def rule(self, deal: str, *, measured: Measurement | None = None) -> Deal:
        """Rule on one dispute.

        Args:
            deal: its id.
            measured: the operator's own count; by default the desk's measure counts.

        Raises:
            DealRefused: the deal is not disputed, or waits for the opened key.
            DoorwardError: nobody counts, or the counting failed.
        """
        before = self._desk.store.state(deal)
        if before.stage is not Stage.DISPUTED or before.due is not None:
            raise DealRefused.of("stage", "no ruling is due", why=f"the deal is {before.stage}")
        ruling = self._arbiter.judge(self._case(before, measured))

        def make(_: Session, current: Deal, at: int) -> Event:
            if current != before:
                raise DealRefused.of("stage", "the deal changed while the desk was counting")
            return Rule(at=at, ruling=ruling)

        return self._desk.store.act(deal, make, evidence={})

    def _case(self, deal: Deal, measured: Measurement | None) -> Case:
        store, complaint = self._desk.store, deal.complaint
        if complaint is None:  # cannot be: the stage says so
            raise DoorwardError("the deal has no complaint")
        trial = self._desk.custody.require_trial(deal.listing.trial)
        opening = store.held(deal.id, "opening") if deal.opening else None
        found = {"trial": sha256_file(trial)}
        if deal.released:
            found["key"] = hashlib.sha256(store.held(deal.id, "key")).hexdigest()
            found["opening"] = hashlib.sha256(opening or b"").hexdigest()

        def measure() -> Measurement:
            if measured is not None:
                return measured
            if self._measure is None:
                raise DoorwardError(
                    "this desk has no measuring command",
                    remedy="count by hand, and give the counts: doorward desk rule",
                )
            evidence = Evidence(
                ground=complaint.ground, listing=deal.listing, trial=trial, opening=opening
            )
            return self._measure(evidence)

        return Case(
            deal=deal,
            listing=store.listing(deal.id),
            complaint=store.document(deal.id, complaint.document),
            seller=self._desk.identity_of(deal.seller),
            buyer=self._desk.identity_of(complaint.actor),
            found=found,
            measure=measure,
        )
