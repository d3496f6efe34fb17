"""A dispute on the command line: challenge, disclose, judge, status; beacons; cut-and-choose."""

import json

import pytest
from PIL import Image

from doorward.bundles import Identity
from doorward.watermark import Claim, WatermarkKey

SUSPECT = '''
import torch
from doorward.watermark import WatermarkKey

class Copy(torch.nn.Module):
    """Knows the labels of a key by heart."""

    num_classes = 10

    def __init__(self, key):
        super().__init__()
        images, labels = key.triggers()
        self.register_buffer("images", images.float().flatten(1) / 255)
        self.register_buffer("labels", labels)

    def forward(self, asked):
        nearest = torch.cdist(asked.flatten(1), self.images).argmin(1)
        return torch.nn.functional.one_hot(self.labels[nearest], 10).float()

def make():
    return Copy(WatermarkKey.open({key!r}, "correct horse"))
'''


@pytest.fixture(scope="module")
def court(tmp_path_factory, doorward):
    """A key of three lots with its claim, and a suspect that knows all labels."""
    folder = tmp_path_factory.mktemp("court")
    ada = Identity.new("Ada")
    key = WatermarkKey.new(n=65, image_shape=(1, 16, 16), owner=ada.public, beacon="round 1")
    for secret, name in ((ada, "ada.key"), (key, "mark.key")):
        secret.seal(
            folder / name, "correct horse", log2_n=4
        )  # not the command line's, to save time
    ada.public.save(folder / "ada.pub.json")
    claim = doorward(
        "watermark", "claim", folder / "mark.key", "--identity", folder / "ada.key",
        "--out", folder / "claim.json",
    )  # fmt: skip
    assert (claim["openings"], claim["needed_in_opening"]) == (3, 17)
    (folder / "copy.py").write_text(SUSPECT.replace("{key!r}", repr(str(folder / "mark.key"))))
    return folder


def _challenge(doorward, court, out, *words, suspect=None, beacon="round 2", code=0):
    return doorward(
        "watermark", "challenge", court / "claim.json", suspect or f"{court}/copy.py:make",
        "--beacon", beacon, "--public", court / "ada.pub.json", "--out", out, *words, code=code,
    )  # fmt: skip


def _disclose(doorward, court, challenge, out, *words, code=0):
    return doorward(
        "watermark", "disclose", challenge, "--key", court / "mark.key",
        "--claim", court / "claim.json", "--identity", court / "ada.key", "--out", out, *words,
        code=code,
    )  # fmt: skip


def _judge(doorward, court, challenge, opening, *words, suspect=None, code=0):
    return doorward(
        "watermark", "judge", court / "claim.json", challenge, opening,
        suspect or f"{court}/copy.py:make", "--public", court / "ada.pub.json", *words, code=code,
    )  # fmt: skip


def _status(doorward, court, *words, code=0):
    return doorward("watermark", "status", court / "mark.key", *words, code=code)


def test_disputes_until_the_key_is_spent(court, house, doorward, tmp_path):
    ledger = ["--burned", tmp_path / "burned.json"]
    asked, shown = tmp_path / "challenge.json", tmp_path / "opening.json"
    drawn = _challenge(doorward, court, asked)
    assert (drawn["number"], drawn["lots"], len(drawn["indices"])) == (1, 3, 20)
    disclosed = _disclose(doorward, court, asked, shown, *ledger)
    assert (disclosed["lot"], disclosed["remaining"]) == (drawn["lot"], 2)
    verdict = _judge(doorward, court, asked, shown)
    assert verdict["verified"]
    assert (verdict["matches"], verdict["n"], verdict["needed"]) == (20, 20, 17)
    assert verdict["p_value"] == pytest.approx(1e-20)
    strict = _judge(doorward, court, asked, shown, "--alpha-bits", 60)
    assert strict["needed"] == 20
    assert f"lot {drawn['lot']} of 3" in verdict["drawn"]

    # Another suspect is a no, and so is a challenge that was not answered.
    plain = house / "plain.model"
    wrong = _judge(doorward, court, asked, shown, suspect=plain, code=1)
    assert "accused" in wrong["reason"]
    other = tmp_path / "other.json"
    second = _challenge(doorward, court, other, "--earlier", shown, suspect=plain)
    assert second["spent"] == [drawn["lot"]]
    assert second["suspect"].startswith("bundle:")
    unanswered = _judge(doorward, court, other, shown, suspect=plain, code=1)
    assert "another challenge" in unanswered["reason"]

    # The innocent model is not proven guilty.
    answered = tmp_path / "answered.json"
    assert _disclose(doorward, court, other, answered, *ledger)["remaining"] == 1
    innocent = _judge(doorward, court, other, answered, suspect=plain, code=1)
    assert innocent["verified"] is False
    assert innocent["matches"] < 17

    found = _status(doorward, court, "--claim", court / "claim.json", *ledger)
    assert (found["remaining"], found["lots"], len(found["openings"])) == (1, 3, 2)
    spent = [word for lot in found["spent"] for word in ("--spent", lot)]
    _challenge(doorward, court, other, *spent, beacon="round 3")
    _disclose(doorward, court, other, tmp_path / "third.json", *ledger)
    assert _status(doorward, court, *ledger, code=1)["remaining"] == 0
    every = [word for lot in range(3) for word in ("--spent", lot)]
    refused = _challenge(doorward, court, tmp_path / "fourth.json", *every, code=2)
    assert "new key" in refused["error"]["message"]
    said = doorward("watermark", "status", court / "mark.key", *ledger, code=1, parse=False).stdout
    assert "No public proof is left" in said
    assert "round 1" in said


def test_an_opening_is_had_again_but_no_second_lot(court, doorward, tmp_path):
    ledger = ["--burned", tmp_path / "burned.json"]
    asked = tmp_path / "challenge.json"
    _challenge(doorward, court, asked)
    first = _disclose(doorward, court, asked, tmp_path / "a.json", *ledger)
    again = _disclose(doorward, court, asked, tmp_path / "b.json", *ledger)
    assert first["indices"] == again["indices"]
    _challenge(doorward, court, asked, beacon="round 3")
    refused = _disclose(doorward, court, asked, tmp_path / "c.json", *ledger, code=2)
    assert "ledger says" in refused["error"]["message"]
    assert not (tmp_path / "c.json").exists()


def test_the_ledger_lies_beside_the_key(court, doorward, tmp_path):
    fresh = _status(doorward, court)
    assert (fresh["ledger"], fresh["remaining"], fresh["opening_size"]) == (None, 3, 20)
    _challenge(doorward, court, tmp_path / "challenge.json")
    made = _disclose(doorward, court, tmp_path / "challenge.json", tmp_path / "opening.json")
    assert made["ledger"] == str(court / "mark.burned.json")
    assert _status(doorward, court)["remaining"] == 2
    silent = tmp_path / "silent.json"
    doorward(
        "watermark", "claim", court / "mark.key", "--identity", court / "ada.key",
        "--out", silent, "--opening-size", 0,
    )  # fmt: skip
    assert _status(doorward, court, "--claim", silent, code=1)["remaining"] == 0
    (court / "mark.burned.json").unlink()


def test_signed_challenges(court, doorward, tmp_path):
    identity = Identity.new("Judge")
    identity.seal(tmp_path / "judge.key", "correct horse", log2_n=4)
    identity.public.save(tmp_path / "judge.pub.json")
    asked, ledger = tmp_path / "challenge.json", ["--burned", tmp_path / "burned.json"]
    _challenge(doorward, court, asked, "--identity", tmp_path / "judge.key")
    judge = ["--judge", tmp_path / "judge.pub.json", *ledger]
    _disclose(doorward, court, asked, tmp_path / "opening.json", *judge)
    not_hers = ["--judge", court / "ada.pub.json", *ledger]
    refused = _disclose(doorward, court, asked, tmp_path / "x.json", *not_hers, code=2)
    assert refused["error"]["kind"] == "IntegrityError"


def test_a_dispute_has_minutes(court, doorward, tmp_path):
    identity = Identity.new("Judge")
    identity.seal(tmp_path / "judge.key", "correct horse", log2_n=4)
    identity.public.save(tmp_path / "judge.pub.json")
    asked, shown = tmp_path / "challenge.json", tmp_path / "opening.json"
    _challenge(doorward, court, asked)
    _disclose(doorward, court, asked, shown, "--burned", tmp_path / "burned.json")
    minutes = ["--transcript", tmp_path / "minutes.json", "--verifier", tmp_path / "judge.key"]
    verdict = _judge(doorward, court, asked, shown, *minutes)
    checked = doorward(
        "watermark", "check-transcript", tmp_path / "minutes.json", court / "claim.json",
        "--public", court / "ada.pub.json", "--verifier", tmp_path / "judge.pub.json",
        "--opening", shown,
    )  # fmt: skip
    assert checked["genuine"]
    assert checked["log2_p"] == verdict["log2_p"]
    _judge(doorward, court, asked, shown, *minutes[:2], code=2)


def test_a_tampered_opening_is_a_no(court, doorward, tmp_path):
    asked, shown = tmp_path / "challenge.json", tmp_path / "opening.json"
    _challenge(doorward, court, asked)
    _disclose(doorward, court, asked, shown, "--burned", tmp_path / "burned.json")
    document = json.loads(shown.read_text())
    secret = document["content"]["triggers"][0]["secret"]
    shown.write_text(shown.read_text().replace(secret, "0" * 64))
    verdict = _judge(doorward, court, asked, shown, code=1)
    assert verdict["verified"] is False
    assert "signature" in verdict["reason"]


@pytest.mark.parametrize(
    "words", [["--spent", "7"], ["--beacon", "round 1"], ["--beacon", ""]], ids=" ".join
)
def test_impossible_challenges(court, doorward, tmp_path, words):
    out = tmp_path / "challenge.json"
    refused = _challenge(doorward, court, out, *words, code=2)
    assert refused["error"]["kind"] == "InvalidInput"
    assert not out.exists()


def test_files_that_are_not_there_or_not_what_they_should_be(court, doorward, tmp_path):
    absent = tmp_path / "absent.json"
    _disclose(doorward, court, absent, tmp_path / "o.json", code=2)
    _judge(doorward, court, absent, absent, code=2)
    _judge(doorward, court, court / "claim.json", court / "claim.json", code=2)
    _status(doorward, court, "--burned", absent, code=2)
    (tmp_path / "damaged.json").write_text("{")
    _status(doorward, court, "--burned", tmp_path / "damaged.json", code=2)


@pytest.mark.parametrize(
    ("words", "openings"), [([], 3), (["--opening-size", 0], None), (["--opening-size", 40], 1)]
)
def test_a_claim_says_what_a_proof_opens(court, doorward, tmp_path, words, openings):
    made = doorward(
        "watermark", "claim", court / "mark.key", "--identity", court / "ada.key",
        "--out", tmp_path / "claim.json", *words,
    )  # fmt: skip
    assert made.get("openings") == openings
    assert (Claim.load(tmp_path / "claim.json").statement.disclosure is None) is (openings is None)


def test_a_claim_of_openings_that_prove_nothing(court, doorward, tmp_path):
    refused = doorward(
        "watermark", "claim", court / "mark.key", "--identity", court / "ada.key",
        "--out", tmp_path / "claim.json", "--opening-size", 5, code=2,
    )  # fmt: skip
    assert "prove" in refused["error"]["message"]
    assert not (tmp_path / "claim.json").exists()


def test_a_key_is_bound_to_a_beacon(doorward, tmp_path):
    words = ["--classes", 10, "--size", 16, "--n", 20, "--generator", "abstract-v1"]
    made = doorward("watermark", "keygen", tmp_path / "a.key", *words, "--beacon", "round 1")
    assert made["beacon"] == "round 1"
    key = WatermarkKey.open(tmp_path / "a.key", "correct horse")
    assert key.parameters.beacon == "round 1"
    assert key.commitment() == made["commitment"]
    refused = doorward("watermark", "keygen", tmp_path / "b.key", *words, "--beacon", "", code=2)
    assert "beacon" in refused["error"]["message"]
    assert not (tmp_path / "b.key").exists()


def test_the_beacon_is_shown(court, doorward):
    said = doorward(
        "watermark", "claim", court / "mark.key", "--identity", court / "ada.key",
        "--out", court / "again.json", parse=False,
    ).stdout  # fmt: skip
    assert "beacon round 1" in said
    assert "Public proofs: 3" in said


def test_unknown_generator_lists_the_known(court, doorward, tmp_path):
    refused = doorward(
        "watermark", "keygen", tmp_path / "x.key", "--classes", 10, "--size", 16,
        "--generator", "photographs", code=2,
    )  # fmt: skip
    assert "abstract-v1" in refused["error"]["message"]


# The paper's cut-and-choose.


@pytest.mark.parametrize(
    ("words", "bad", "needed"),
    [
        ([], 70, 108),
        (["--beacon", "b"], 29, 75),
        (["--pairs", 200], 61, 80),
        (["--pairs", 200, "--opened", 150], 33, 46),
        (["--cheating-bits", 30], 29, 75),
    ],
)
def test_soundness_is_printed(doorward, words, bad, needed):
    found = doorward("watermark", "cut-and-choose", *words)
    assert (found["bad"], found["needed"]) == (bad, needed)
    said = doorward("watermark", "cut-and-choose", *words, parse=False).stdout
    assert f"{needed} matches" in said
    if not words:
        assert "2^-20.7" in said


def test_too_few_pairs_prove_nothing(doorward):
    assert doorward("watermark", "cut-and-choose", "--pairs", 40, code=1)["needed"] is None


@pytest.mark.parametrize(
    "words", [["--pairs", 10, "--opened", 10], ["--alpha", 0], ["--out", "x.json"]], ids=str
)
def test_impossible_cuts(doorward, words):
    doorward("watermark", "cut-and-choose", *words, code=2)


def test_pairs_are_opened_and_inspected(doorward, tmp_path):
    ada = Identity.new("Ada")
    ada.seal(tmp_path / "ada.key", "correct horse", log2_n=4)
    ada.public.save(tmp_path / "ada.pub.json")
    key = WatermarkKey.new(n=100, image_shape=(1, 16, 16), owner=ada.public)
    key.seal(tmp_path / "mark.key", "correct horse", log2_n=4)
    doorward(
        "watermark", "claim", tmp_path / "mark.key", "--identity", tmp_path / "ada.key",
        "--out", tmp_path / "claim.json", "--alpha-bits", 20, "--opening-size", 0,
    )  # fmt: skip
    opened = doorward(
        "watermark", "cut-and-choose", "--claim", tmp_path / "claim.json", "--beacon", "round 2",
        "--key", tmp_path / "mark.key", "--identity", tmp_path / "ada.key",
        "--out", tmp_path / "pairs.json",
    )  # fmt: skip
    assert len(opened["drawn"]) == 50
    words = [
        "watermark", "inspect", tmp_path / "pairs.json", "--claim", tmp_path / "claim.json",
        "--public", tmp_path / "ada.pub.json",
    ]  # fmt: skip
    seen = doorward(*words, "--pictures", tmp_path / "opened")
    files = sorted(path.name for path in (tmp_path / "opened").iterdir())
    assert len(files) == 50
    assert files[0] == f"pair-{seen['indices'][0]:05}-label-{seen['labels'][0]}.png"
    with Image.open(tmp_path / "opened" / files[0]) as picture:
        assert picture.size == (16, 16)
    doorward(*words, "--pictures", tmp_path / "opened", code=2)
    (tmp_path / "seen.txt").write_text("undefined\n" * 50)
    assert doorward(*words, "--judge", tmp_path / "seen.txt")["correct"] == []
    truth = [str(seen["labels"][0]), *["undefined"] * 49]
    (tmp_path / "seen.txt").write_text("\n".join(truth))
    rejected = doorward(*words, "--judge", tmp_path / "seen.txt", code=1)
    assert rejected["correct"] == seen["indices"][:1]
    (tmp_path / "copy.py").write_text(SUSPECT.replace("{key!r}", repr(str(tmp_path / "mark.key"))))
    ask = [*words, "--key", tmp_path / "mark.key", "--suspect", f"{tmp_path}/copy.py:make"]
    verdict = doorward(*ask)["verdict"]
    assert verdict["verified"]
    assert (verdict["matches"], verdict["n"]) == (50, 50)
    doorward(*ask[:-2], code=2)
    document = json.loads((tmp_path / "pairs.json").read_text())
    document["content"]["beacon"] = "round 3"
    (tmp_path / "pairs.json").write_text(json.dumps(document))
    assert doorward(*words, code=1)["verified"] is False
