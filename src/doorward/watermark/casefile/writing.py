"""Gather the papers of a case in a folder.

write_case("case", claim="claim.json", public="ada.pub.json",
transcripts=[("transcript.json", "judge.pub.json")])
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from doorward.bundles.documents import read_limited
from doorward.errors import InvalidInput
from doorward.files import atomic_folder, sha256_file, write_bytes, write_text
from doorward.watermark.casefile.checking import LARGEST, SUMS, CaseResult, Place, examine_papers

__all__ = ["write_case"]

_README = "README.md"


def write_case(
    out: Place,
    *,
    claim: Place,
    public: Place,
    stamps: Sequence[Place] = (),
    authorities: Place | None = None,
    witnesses: Sequence[tuple[Place, Place]] = (),
    transcripts: Sequence[tuple[Place, Place]] = (),
    openings: Sequence[tuple[Place, Place]] = (),
) -> CaseResult:
    """Gather the papers of a case in a folder, after checking each.

    Args:
        out: the folder; an older case there is replaced.
        claim: the claim.
        public: the owner's public identity.
        stamps: answers of time-stamp authorities about the claim.
        authorities: their root certificates, PEM.
        witnesses: statements of witnesses, each with the witness's public identity.
        transcripts: minutes of verifications, each with the verifier's public identity.
        openings: the owner's answers in disputes, each with the judge's challenge.

    Raises:
        IntegrityError: a paper does not hold, or is about something else; nothing is written.
        BadFile, MissingData: a file is not what it should be, or not there.
        InvalidInput: `out` is something else than a case, or stamps lack their authorities.
    """
    place = Path(out)
    if place.exists() and not (place / SUMS).is_file():
        raise InvalidInput(
            f"{out} exists and is no case", why="it would be replaced", remedy="name another folder"
        )
    if stamps and authorities is None:
        raise InvalidInput(
            "time stamps were given without authorities",
            why="a stamp is worth something only under a root certificate that the court trusts",
            remedy="give the authorities' root certificates as PEM",
        )
    papers: dict[str, Place] = {"claim.json": claim, "owner.pub.json": public}
    if authorities is not None:
        papers["stamps/authorities.pem"] = authorities
    for number, stamp in enumerate(stamps, start=1):
        papers[f"stamps/{number}.tsr"] = stamp
    for folder, second, pairs in (
        ("witnesses", "pub", witnesses),
        ("transcripts", "pub", transcripts),
        ("openings", "challenge", openings),
    ):
        for number, (paper, other) in enumerate(pairs, start=1):
            papers[f"{folder}/{number}.json"] = paper
            papers[f"{folder}/{number}.{second}.json"] = other
    with atomic_folder(place) as temporary:
        for name, source in papers.items():
            content = read_limited(source, LARGEST)
            target = temporary / name
            target.parent.mkdir(exist_ok=True)
            write_bytes(target, content)
        result = examine_papers(temporary, None, ())
        write_text(temporary / _README, _readme(result))
        sums = [f"{sha256_file(temporary / name)}  {name}" for name in [*sorted(papers), _README]]
        write_text(temporary / SUMS, "\n".join(sums) + "\n")
    return result


def _readme(result: CaseResult) -> str:
    """What is in the folder, for people who have never heard of Doorward."""
    papers = [
        f"## {finding.file}\n\n{finding.shows}\n\nThe word of {finding.by}.\n"
        for finding in result.findings
    ]
    proof = (
        "Minutes in this folder say that the mark was proven."
        if result.proven
        else "No minutes in this folder say that the mark was proven."
    )
    return "\n".join(
        [
            f"# The case of {result.owner}\n",
            f"{result.owner} claims that a model is theirs: it answers to secret pictures with "
            "labels that were committed to in the claim. " + proof + "\n",
            _CHECK,
            *papers,
        ]
    )


_CHECK = """To check all of it, offline, without the key and without asking anybody:

    sha256sum -c SHA256SUMS
    doorward watermark check-case .

Every signature, date and count is checked anew. What a folder cannot show: that the people named
here are who they say (compare their fingerprints with a source that you trust, or give their public
identities with `--public` and `--verifier`), and that the suspect really gave the answers in the
minutes, which is the verifier's word. To ask the suspect yourself, use `doorward watermark verify`,
for which the owner has to trust you with the key, or `challenge`, `disclose` and `judge`, for which
they do not.
"""
