"""What a verification found, as a record and in plain words.

>>> verdict = Verdict(
...     verified=False, reason="Chance explains this.", commitment_opened=True, log2_p=-1.0,
...     log2_alpha=-10.0, keys=1500, bits=2, images=16, planned=64, looks=((16, -3.0),),
...     queries=816, success=(0.0, 0.1), amplitudes=(0.1, 0.2), control_success=(), control_p=None,
...     owner="Ada", fingerprint="0" * 64, claimed="2026-01-01T00:00:00Z",
...     verified_at="2026-02-01T00:00:00Z")
>>> verdict.explain().startswith("NOT VERIFIED. Ada committed to 2 secret waves")
True
"""

from __future__ import annotations

import math
from typing import Any

from pydantic.dataclasses import dataclass

from doorward.records import STRICT, Record

__all__ = ["Verdict"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Verdict(Record):
    """What `verify_substitute` found.

    Attributes:
        verified: the suspect learnt from the leaning answers, by the claim's rule.
        reason: one sentence that says why, or why not.
        commitment_opened: the key is the one that the claim committed to. If not, the suspect was
            not asked, and what was found is None.
        log2_p: log2 of the p-value, corrected for the looks; None if the suspect was not asked.
        log2_alpha: the rule: at most this.
        keys: how many keys there might have been; no p-value is below the looks over this.
        bits: waves of the key.
        images: how many images the suspect was asked about.
        planned: how many it would have been without stopping early.
        looks: (images, log2 of the p-value there) of each look, uncorrected.
        queries: questions to the suspect in all.
        success: share of images that got the key's class, at each amplitude, the mean over waves.
        amplitudes: of the waves.
        control_success: of each control, over all amplitudes.
        control_p: rank of the suspect among the controls, ``(1 + not below) / (m + 1)``; or None.
        owner: name of the claim's signer.
        fingerprint: of the signer's identity.
        claimed: when the claim was signed, by the signer's own account: no proof of time.
        verified_at: when this verdict was reached (UTC).
        suspect: what the suspect said of itself.
    """

    verified: bool
    reason: str
    commitment_opened: bool
    log2_p: float | None
    log2_alpha: float
    keys: int
    bits: int
    images: int
    planned: int
    looks: tuple[tuple[int, float], ...]
    queries: int
    success: tuple[float, ...]
    amplitudes: tuple[float, ...]
    control_success: tuple[float, ...]
    control_p: float | None
    owner: str
    fingerprint: str
    claimed: str
    verified_at: str
    suspect: dict[str, Any] | None = None

    @property
    def p_value(self) -> float | None:
        """The p-value itself."""
        return None if self.log2_p is None else math.pow(2.0, self.log2_p)

    @property
    def mean_success(self) -> float:
        """Success over all amplitudes: what controls are compared by."""
        return sum(self.success) / len(self.success) if self.success else 0.0

    def explain(self) -> str:
        """The verdict in plain words, for somebody who is not a specialist."""
        if self.p_value is None:
            return f"NOT VERIFIED. {self.reason} The suspect was not asked anything."
        head = "VERIFIED" if self.verified else "NOT VERIFIED"
        steps = ", ".join(
            f"{share:.0%} at {amplitude * 255:.0f}/255"
            for share, amplitude in zip(self.success, self.amplitudes, strict=True)
        )
        beside = (
            f" Of {len(self.control_success)} independent models the one that falls for it most "
            f"does so in {max(self.control_success):.0%}, the suspect in {self.mean_success:.0%}."
            if self.control_success
            else ""
        )
        return (
            f"{head}. {self.owner} committed to {self.bits} secret waves and a class for each (in "
            f"a claim dated {self.claimed} by the owner's own account), out of {self.keys} "
            f"choices. Of {self.images} images under these waves the suspect puts {steps} into the "
            f"wave's class. By chance a key would do so well with probability {self.p_value:.2g}; "
            f"the rule asks for {2.0**self.log2_alpha:.2g} or less.{beside} {self.reason}"
        )
