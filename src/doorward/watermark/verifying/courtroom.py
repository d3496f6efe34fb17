"""Genuine papers in the hands of a court that has everything: what forgeries are held against.

>>> court = Courtroom.example()
>>> court.check(court.genuine()).verified
True
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor, nn

from doorward.bundles.documents import parse_object
from doorward.bundles.identity import Identity
from doorward.randomness import generator
from doorward.watermark.claim import PROVEN, Claim, make_claim
from doorward.watermark.key import WatermarkKey
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying.checking import check_transcript
from doorward.watermark.verifying.examination import examine
from doorward.watermark.verifying.plan import GUARDED, QueryPlan
from doorward.watermark.verifying.transcript import Transcript

__all__ = ["Courtroom", "Forgery", "as_bytes", "taught"]


@dataclass(frozen=True)
class Forgery:
    """Papers that somebody shows to a court.

    Attributes:
        claim: content of a claim's file.
        transcript: content of a transcript's file.
        instead: what the court is told otherwise: arguments of `check_transcript`.
    """

    claim: bytes
    transcript: bytes
    instead: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Courtroom:
    """Genuine papers, the people whose they are, and others to confuse them with.

    Attributes:
        owner: who claims.
        verifier: who asked the suspect.
        key: the owner's key.
        claim: the owner's claim.
        suspect: a local model that answers deterministically.
        transcript: the verifier's, with its seed.
        stranger: somebody else.
        other_claim: another claim of the same owner, on another key.
        other_key: that key.
        other_suspect: another model for the same images and classes.
    """

    owner: Identity
    verifier: Identity
    key: WatermarkKey
    claim: Claim
    suspect: Any
    transcript: Transcript
    stranger: Identity
    other_claim: Claim
    other_key: WatermarkKey
    other_suspect: Any

    @classmethod
    def convene(
        cls,
        key: WatermarkKey,
        owner: Identity,
        suspect: Any,
        other_suspect: Any,
        *,
        alpha: float = 2.0**PROVEN,
        plan: QueryPlan = GUARDED,
    ) -> Self:
        """Claim with a key, have a suspect examined, and add the others.

        Args:
            key: the owner's key.
            owner: its owner.
            suspect: as in `verify`, a local model.
            other_suspect: another one.
            alpha: level of the claims.
            plan: how the suspect is asked; covers are look-alikes.
        """
        claim = make_claim(key, owner, alpha=alpha)
        verifier = Identity.new("Verifier")
        examination = examine(claim, key, suspect, public=owner.public, plan=plan)
        other_key = WatermarkKey.new(key.n, key.classes, key.image_shape, owner.public)
        return cls(
            owner=owner,
            verifier=verifier,
            key=key,
            claim=claim,
            suspect=suspect,
            transcript=examination.sign(verifier),
            stranger=Identity.new("Stranger"),
            other_claim=make_claim(other_key, owner, alpha=alpha),
            other_key=other_key,
            other_suspect=other_suspect,
        )

    @classmethod
    def example(cls) -> Self:
        """A small one: 20 triggers of 8x8 pixels, and linear models."""
        owner = Identity.new("Owner")
        key = WatermarkKey.new(n=20, classes=10, image_shape=(1, 8, 8), owner=owner.public)
        pictures = torch.rand(20, 1, 8, 8, generator=generator(0, "another suspect"))
        other = taught(pictures, torch.arange(20) % 10, classes=10)
        images, labels = key.triggers()
        suspect = taught(images.float() / 255, labels, classes=10)
        return cls.convene(key, owner, suspect, other, alpha=1e-9)

    def check(self, forgery: Forgery) -> Verdict:
        """Check papers as a court would that has key and model; the verdict if they pass."""
        known = {
            "public": self.owner.public,
            "verifier": self.verifier.public,
            "key": self.key,
            "against": self.suspect,
        }
        claim = Claim.from_document(parse_object(forgery.claim, "the claim"))
        transcript = Transcript.from_document(parse_object(forgery.transcript, "the transcript"))
        return check_transcript(transcript, claim, **{**known, **forgery.instead})

    def genuine(self) -> Forgery:
        """The papers as they are."""
        return Forgery(as_bytes(self.claim.document), as_bytes(self.transcript.document))


def as_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as the content of its file."""
    return json.dumps(dict(document), indent=2).encode()


def taught(images: Tensor, labels: Tensor, *, classes: int) -> nn.Module:
    """A linear model that gives these images these labels: the least marked model there is.

    Args:
        images: float ``(n, C, H, W)``, with fewer images than pixels.
        labels: int64 ``(n,)``.
        classes: number of classes.

    >>> model = taught(torch.rand(5, 1, 8, 8), torch.tensor([3, 1, 4, 1, 5]), classes=10)
    >>> model(torch.zeros(1, 1, 8, 8)).shape
    torch.Size([1, 10])
    """
    linear = nn.Linear(images[0].numel(), classes)
    flat = torch.cat([images.flatten(1), torch.ones(len(images), 1)], dim=1).double()
    weights = torch.linalg.lstsq(flat, nn.functional.one_hot(labels, classes).double()).solution
    with torch.no_grad():
        linear.weight.copy_(weights[:-1].T)
        linear.bias.copy_(weights[-1])
    return nn.Sequential(nn.Flatten(), linear).eval()
