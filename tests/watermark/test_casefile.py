"""The folder for the court: what holds is shown, and whatever was changed is refused."""

import hashlib
import random
import re

import pytest
import torch

from doorward.bundles import Identity, write_document
from doorward.errors import BadFile, DoorwardError, IntegrityError, InvalidInput, MissingData
from doorward.files import write_json
from doorward.watermark import WatermarkKey
from doorward.watermark.casefile import check_case, write_case
from doorward.watermark.disclosure import BurnLedger, disclose, make_challenge
from doorward.watermark.disputes import witness_claim
from doorward.watermark.verifying.courtroom import Courtroom, taught

REFUSED = (IntegrityError, BadFile, MissingData, InvalidInput)


@pytest.fixture(scope="module")
def court():
    owner = Identity.new("Ada")
    key = WatermarkKey.new(n=100, classes=10, image_shape=(1, 16, 16), owner=owner.public)
    images, labels = key.triggers()
    suspect = taught(images.float() / 255, labels, classes=10)
    other = taught(torch.rand(20, 1, 16, 16), torch.arange(20) % 10, classes=10)
    return Courtroom.convene(key, owner, suspect, other)


@pytest.fixture(scope="module")
def notary():
    return Identity.new("The notary")


@pytest.fixture(scope="module")
def papers(court, notary, tmp_path_factory):
    """All papers of a case, as they lie about."""
    folder = tmp_path_factory.mktemp("papers")
    court.claim.save(folder / "claim.json")
    court.transcript.save(folder / "minutes.json")
    challenge = make_challenge(court.claim, "named:rival", "round 1000")
    challenge.save(folder / "challenge.json")
    ledger = BurnLedger(folder / "burned.json", court.key)
    disclose(court.key, court.claim, challenge, court.owner, ledger).save(folder / "opening.json")
    write_document(folder / "seen.json", witness_claim(court.claim, notary))
    for name, who in (("ada", court.owner), ("judge", court.verifier), ("notary", notary)):
        write_json(folder / f"{name}.pub.json", who.public.to_dict())
    return folder


def whole(papers):
    return {
        "claim": papers / "claim.json",
        "public": papers / "ada.pub.json",
        "witnesses": [(papers / "seen.json", papers / "notary.pub.json")],
        "transcripts": [(papers / "minutes.json", papers / "judge.pub.json")],
        "openings": [(papers / "opening.json", papers / "challenge.json")],
    }


@pytest.fixture
def case(papers, tmp_path):
    write_case(tmp_path / "case", **whole(papers))
    return tmp_path / "case"


def listed(case):
    """The list made anew: what somebody does who changes a paper and knows about the list."""
    files = sorted(file for file in case.rglob("*") if file.is_file() and file.name != "SHA256SUMS")
    lines = [
        f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(case)}"
        for file in files
    ]
    (case / "SHA256SUMS").write_text("\n".join(lines) + "\n")


def test_a_case_shows_what_its_papers_show(case, court, notary):
    result = check_case(case, public=court.owner.public, verifiers=[court.verifier.public])
    assert (result.proven, result.transcripts, result.owner) == (True, 1, "Ada")
    assert [finding.file for finding in result.findings] == [
        "claim.json", "witnesses/1.json", "transcripts/1.json", "openings/1.json",
    ]  # fmt: skip
    claim, seen, minutes, opening = result.findings
    assert court.key.commitment()[:16] in claim.shows
    assert notary.public.fingerprint in seen.by
    assert "VERIFIED. Ada committed to 100" in minutes.shows
    assert "Triggers" in opening.shows
    readme = (case / "README.md").read_text()
    for finding in result.findings:
        assert finding.shows in readme
        assert finding.file in readme
    assert "doorward watermark check-case" in readme


def test_the_list_is_one_that_sha256sum_reads(case):
    lines = (case / "SHA256SUMS").read_text().splitlines()
    assert len(lines) == len([file for file in case.rglob("*") if file.is_file()]) - 1
    for line in lines:
        digest, name = re.fullmatch(r"([0-9a-f]{64})  ([\w./]+)", line).groups()
        assert hashlib.sha256((case / name).read_bytes()).hexdigest() == digest


def test_nothing_secret_is_gathered(papers, court, tmp_path):
    court.key.seal(tmp_path / "mark.key", "x", log2_n=10)
    court.owner.seal(tmp_path / "ada.key", "x", log2_n=10)
    for name, wrong in (
        ("claim", tmp_path / "mark.key"),
        ("public", tmp_path / "ada.key"),
        ("transcripts", [(tmp_path / "mark.key", papers / "judge.pub.json")]),
        ("witnesses", [(papers / "seen.json", tmp_path / "ada.key")]),
    ):
        with pytest.raises(REFUSED):
            write_case(tmp_path / "case", **(whole(papers) | {name: wrong}))
        assert not (tmp_path / "case").exists()


def test_any_changed_file_is_noticed(case):
    draws = random.Random(0)
    for file in sorted(file for file in case.rglob("*") if file.is_file()):
        content = file.read_bytes()
        place = draws.randrange(len(content) - 1)
        changed = bytearray(content)
        changed[place] ^= 1 << draws.randrange(8)
        for other in (bytes(changed), content[:place], b""):
            file.write_bytes(other)
            with pytest.raises(REFUSED):
                check_case(case)
        file.write_bytes(content)
    assert check_case(case).proven


def test_files_added_or_taken_away_are_noticed(case):
    (case / "more.txt").write_text("trust me")
    with pytest.raises(IntegrityError, match=r"more\.txt"):
        check_case(case)
    (case / "more.txt").unlink()
    (case / "openings" / "1.json").rename(case / "openings" / "2.json")
    with pytest.raises(IntegrityError, match="other files than its list"):
        check_case(case)


def test_a_new_list_does_not_help(case, court, papers):
    """Papers are checked by their signatures, whatever the list says."""
    minutes = case / "transcripts" / "1.json"
    content = minutes.read_text()
    minutes.write_text(content.replace('"matches": 100', '"matches": 99'))
    listed(case)
    with pytest.raises(IntegrityError):
        check_case(case)
    minutes.write_text(content)
    write_json(case / "transcripts" / "1.pub.json", court.stranger.public.to_dict())
    listed(case)
    with pytest.raises(IntegrityError, match="somebody else"):
        check_case(case)
    (case / "transcripts" / "1.pub.json").write_bytes((papers / "judge.pub.json").read_bytes())
    court.other_claim.save(case / "claim.json")
    listed(case)
    with pytest.raises(IntegrityError):
        check_case(case)


def test_forged_papers_never_pass(case, court):
    """Genuine folders with one paper forged, and the list made anew."""
    from doorward.watermark.verifying.forgeries import FORGERIES

    draws = random.Random(1)
    content = (case / "transcripts" / "1.json").read_bytes()
    claim = (case / "claim.json").read_bytes()
    for name in [name for name in FORGERIES if "replay" not in name and "lie" not in name]:
        forged = FORGERIES[name](court, draws)
        (case / "claim.json").write_bytes(forged.claim)
        (case / "transcripts" / "1.json").write_bytes(forged.transcript)
        listed(case)
        if forged.claim == claim and forged.transcript == content:
            continue
        with pytest.raises(DoorwardError):
            check_case(case)


def test_whom_to_trust_is_the_readers_choice(case, court):
    with pytest.raises(IntegrityError, match="not by Stranger"):
        check_case(case, public=court.stranger.public)
    with pytest.raises(IntegrityError, match="none of those accepted"):
        check_case(case, verifiers=[court.stranger.public])


def test_what_is_no_case_is_said(papers, tmp_path):
    with pytest.raises(MissingData, match="no case"):
        check_case(tmp_path)
    (tmp_path / "diary").mkdir()
    with pytest.raises(InvalidInput, match="is no case"):
        write_case(tmp_path / "diary", **whole(papers))
    with pytest.raises(InvalidInput, match="without authorities"):
        write_case(tmp_path / "case", **whole(papers), stamps=[papers / "seen.json"])
    write_case(tmp_path / "case", claim=papers / "claim.json", public=papers / "ada.pub.json")
    again = write_case(tmp_path / "case", **whole(papers))  # a case may be renewed
    assert check_case(tmp_path / "case") == again
