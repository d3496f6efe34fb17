"""Is every paper of a case what it says, and what does each show?

result = check_case("case", public=ada)
result.proven, [finding.shows for finding in result.findings]
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic.dataclasses import dataclass

from doorward.bundles import PublicIdentity
from doorward.bundles.documents import read_limited, read_object
from doorward.errors import BadFile, IntegrityError, MissingData
from doorward.files import sha256_file
from doorward.records import STRICT, Record
from doorward.watermark.claim import Claim
from doorward.watermark.disclosure import Challenge, Opening
from doorward.watermark.disputes import check_stamp, check_witness, read_authorities
from doorward.watermark.verdict import Verdict
from doorward.watermark.verifying import Transcript, check_transcript

__all__ = ["LARGEST", "SUMS", "CaseResult", "Finding", "Place", "check_case", "examine_papers"]

Place = str | os.PathLike[str]

SUMS = "SHA256SUMS"
LARGEST = 64 * 2**20
"""Bytes of a single paper."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Finding(Record):
    """One paper of a case.

    Attributes:
        file: its place in the folder.
        shows: what it shows, now that it was checked.
        by: whose word it is, with the fingerprint to be compared.
    """

    file: str
    shows: str
    by: str


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CaseResult(Record):
    """A case whose papers all hold.

    Attributes:
        owner: who claims.
        fingerprint: of the owner's public identity.
        findings: one per paper.
        transcripts: how many minutes of verifications there are.
        proven: some minutes say that the mark was proven.
    """

    owner: str
    fingerprint: str
    findings: tuple[Finding, ...]
    transcripts: int
    proven: bool


def check_case(
    folder: Place,
    *,
    public: PublicIdentity | None = None,
    verifiers: Sequence[PublicIdentity] = (),
) -> CaseResult:
    """Check every paper of a case, offline and without the key.

    Args:
        folder: as `write_case` left it.
        public: the owner's public identity from a source that you trust; None takes the folder's,
            whose fingerprint is then to be compared.
        verifiers: those whose minutes you accept; none takes the folder's.

    Raises:
        IntegrityError: a file was changed, added or removed, or a paper does not hold.
        BadFile, MissingData: it is no case.
    """
    place = Path(folder)
    if not (place / SUMS).is_file():
        raise MissingData(f"{folder} is no case", why=f"there is no {SUMS}")
    listed: dict[str, str] = {}
    for line in read_limited(place / SUMS, LARGEST).decode(errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        listed[name] = digest
    there = {str(file.relative_to(place)) for file in place.rglob("*") if not file.is_dir()}
    if there - {SUMS} != set(listed):
        odd = sorted((there - {SUMS}) ^ set(listed))
        raise IntegrityError(
            "the folder holds other files than its list",
            why=f"these differ: {', '.join(odd)[:200]}",
            remedy="ask for the folder again",
        )
    for name, digest in listed.items():
        if (place / name).is_symlink() or sha256_file(place / name) != digest:
            raise IntegrityError(f"{name} is not the file that was listed")
    return examine_papers(place, public, verifiers)


def examine_papers(
    place: Path, public: PublicIdentity | None, verifiers: Sequence[PublicIdentity]
) -> CaseResult:
    """Check the papers in a folder, whatever its list says; see `check_case`."""
    owner = PublicIdentity.load(place / "owner.pub.json")
    if public is not None and public.ed25519 != owner.ed25519:
        raise IntegrityError(
            f"the case is by {owner.name} ({owner.fingerprint[:16]}), not by {public.name} "
            f"({public.fingerprint[:16]})"
        )
    claim = Claim.load(place / "claim.json")
    claim.check(owner)
    word = f"{owner.name}, fingerprint {owner.fingerprint}"
    statement = claim.statement
    findings = [
        Finding(
            file="claim.json",
            shows=f"{owner.name} committed to {statement.key.n} pictures and labels (root "
            f"{statement.root[:16]}...) and to the rule p <= 2^{statement.log2_alpha:.4g}.",
            by=word,
        )
    ]
    findings += _dates(place, claim)
    verdicts = []
    for number, file in _numbered(place, "transcripts"):
        verdict, finding = _minutes(place, number, file, claim, owner, verifiers)
        verdicts.append(verdict)
        findings.append(finding)
    for number, file in _numbered(place, "openings"):
        challenge = Challenge.load(place / f"openings/{number}.challenge.json")
        opening = _named(file, Opening.load)
        opening.reveal(claim, challenge, owner)
        findings.append(
            Finding(
                file=f"openings/{number}.json",
                shows=f"Triggers {challenge.indices[0]} to {challenge.indices[-1]} are opened, as "
                f"drawn for {challenge.suspect} with the beacon {challenge.beacon}.",
                by=word,
            )
        )
    return CaseResult(
        owner=owner.name,
        fingerprint=owner.fingerprint,
        findings=tuple(findings),
        transcripts=len(verdicts),
        proven=any(verdict.verified for verdict in verdicts),
    )


def _dates(place: Path, claim: Claim) -> list[Finding]:
    findings = []
    for name, file in _numbered(place, "stamps", ".tsr"):
        authorities = read_authorities(place / "stamps/authorities.pem")
        dating = check_stamp(read_limited(file, LARGEST), claim, authorities)
        findings.append(
            Finding(
                file=f"stamps/{name}.tsr",
                shows=f"The claim existed on {dating.latest} at the latest.",
                by=f"{dating.by} (a time-stamp authority; its root is stamps/authorities.pem)",
            )
        )
    for name, file in _numbered(place, "witnesses"):
        witness = PublicIdentity.load(place / f"witnesses/{name}.pub.json")
        dating = check_witness(read_object(file), claim, [witness])
        findings.append(
            Finding(
                file=f"witnesses/{name}.json",
                shows=f"The claim was seen on {dating.latest}.",
                by=f"{witness.name}, fingerprint {witness.fingerprint}",
            )
        )
    return findings


def _minutes(
    place: Path,
    name: str,
    file: Path,
    claim: Claim,
    owner: PublicIdentity,
    verifiers: Sequence[PublicIdentity],
) -> tuple[Verdict, Finding]:
    verifier = PublicIdentity.load(place / f"transcripts/{name}.pub.json")
    if verifiers and verifier.ed25519 not in {known.ed25519 for known in verifiers}:
        raise IntegrityError(
            f"the verifier {verifier.name} ({verifier.fingerprint[:16]}) is none of those accepted"
        )
    minutes = _named(file, Transcript.load)
    verdict = check_transcript(minutes, claim, public=owner, verifier=verifier)
    return verdict, Finding(
        file=f"transcripts/{name}.json",
        shows=f"The suspect {minutes.record.suspect}: {verdict.explain()}",
        by=f"{verifier.name}, fingerprint {verifier.fingerprint}",
    )


T = TypeVar("T")


def _named(file: Path, load: Callable[[Path], T]) -> T:
    """Read a paper; an error names its file."""
    try:
        return load(file)
    except (BadFile, IntegrityError) as error:
        what = f"{file.parent.name}/{file.name}: {error.what}"
        raise type(error)(what, why=error.why, remedy=error.remedy) from error


def _numbered(place: Path, folder: str, ending: str = ".json") -> Iterator[tuple[str, Path]]:
    """The papers of one kind, 1, 2, ...; not what belongs to them (1.pub.json)."""
    names = [file.name.removesuffix(ending) for file in (place / folder).glob(f"*{ending}")]
    for name in sorted((name for name in names if name.isdecimal()), key=int):
        yield name, place / folder / f"{name}{ending}"
