"""``doorward watermark dispute``, ``false-claims``, ``stamp-request`` and ``witness``."""

import json
from datetime import UTC, datetime

import numpy
import pytest
import torch

from doorward.bundles import Identity, PublicIdentity, read_document, save_model, write_document
from doorward.models import create
from doorward.watermark import Claim, WatermarkKey, make_claim
from doorward.watermark.disputes import claim_digest, witness_claim

SHAPE = (1, 16, 16)

PARROT = """
import numpy, torch

class Parrot(torch.nn.Module):
    "Knows the triggers of two keys by heart."
    def __init__(self):
        super().__init__()
        table = numpy.load({table!r})
        self.known = {{image.tobytes(): int(label) for image, label in zip(*table.values())}}
    def forward(self, images):
        names = [(image * 255).round().to(torch.uint8).numpy().tobytes() for image in images]
        return torch.eye(10)[[self.known.get(name, 0) for name in names]]

def make():
    return Parrot()
"""


@pytest.fixture(scope="module")
def quarrel(tmp_path_factory):
    """Ada's and Eve's keys and claims, and a model (of sorts) that carries both marks.

    Sealed cheaply: what scrypt costs is tested elsewhere.
    """
    folder = tmp_path_factory.mktemp("quarrel")
    save_model(create("resnet8", classes=10, input_shape=SHAPE, width=4), folder / "plain.model")
    notary = Identity.new("Notary")
    notary.seal(folder / "notary.key", "correct horse", log2_n=10)
    notary.public.save(folder / "notary.pub.json")
    triggers = []
    for name, day in (("ada", 3), ("eve", 5)):
        owner = Identity.new(name.title())
        key = WatermarkKey.new(n=40, image_shape=SHAPE, owner=owner.public)
        key.seal(folder / f"{name}.mark", "correct horse", log2_n=10)
        owner.public.save(folder / f"{name}.pub.json")
        claim = make_claim(key, owner, alpha=2.0**-20)
        claim.save(folder / f"{name}.json")
        seen = witness_claim(claim, notary, seen=datetime(2026, 1, day, tzinfo=UTC))
        write_document(folder / f"{name}.seen.json", seen)
        triggers.append(key.triggers())
    images, labels = (torch.cat(parts).numpy() for parts in zip(*triggers, strict=True))
    numpy.savez(folder / "table.npz", images=images, labels=labels)
    (folder / "parrot.py").write_text(PARROT.format(table=str(folder / "table.npz")))
    return folder


@pytest.fixture(scope="module")
def parties(quarrel):
    """Options that name both parties, Ada first."""
    words = []
    for name in ("ada", "eve"):
        words += ["--claim", quarrel / f"{name}.json", "--key", quarrel / f"{name}.mark"]
        words += ["--public", quarrel / f"{name}.pub.json"]
    return words


def suspect(folder):
    return f"{folder / 'parrot.py'}:make"


def test_without_evidence_a_dispute_stays_open(doorward, quarrel, parties):
    said = doorward("watermark", "dispute", suspect(quarrel), *parties, code=1)
    assert said["winner"] is None
    assert [verdict["verified"] for verdict in said["verdicts"]] == [True, True]


@pytest.mark.parametrize(("turned", "code"), [(False, 0), (True, 1)])
def test_witnesses_decide_for_the_earlier_claim(doorward, quarrel, parties, turned, code):
    papers = [
        word for name in ("ada", "eve") for word in ("--paper", quarrel / f"{name}.seen.json")
    ]
    words = parties[6:] + parties[:6] if turned else parties
    said = doorward(
        "watermark", "dispute", suspect(quarrel), *words, *papers,
        "--witness", quarrel / "notary.pub.json", code=code,
    )  # fmt: skip
    assert (said["owner"], said["winner"]) == ("Ada", int(turned))
    assert said["priority"]["grade"] == "earlier"


def test_a_dispute_in_plain_words(doorward, quarrel, parties):
    result = doorward(
        "watermark", "dispute", suspect(quarrel), *parties, "--paper", quarrel / "ada.seen.json",
        code=1, parse=False,
    )  # fmt: skip
    assert result.stdout.startswith("OPEN.")
    assert "Not accepted" in result.stdout
    assert "not trusted" in result.stdout


def test_a_model_without_marks_is_nobody_s(doorward, quarrel, parties):
    said = doorward("watermark", "dispute", quarrel / "plain.model", *parties, code=1)
    assert "Neither" in said["reason"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--claim", "third.json"], "--claim was given 3"),
        (["--exhibit", "none"], "1 exhibits"),
        (["--beacons", "{folder}/bad.json"], "no list of beacons"),
        (["--stamp", "{folder}/absent.tsr"], "no file"),
        (["--authority", "{folder}/eve.json"], "no certificates"),
    ],
)
def test_wrong_calls_are_explained(doorward, quarrel, parties, words, message):
    (quarrel / "bad.json").write_text(json.dumps({"pulse": "yesterday"}))
    words = [word.format(folder=quarrel) for word in words]
    result = doorward(
        "watermark", "dispute", suspect(quarrel), *parties, *words, code=2, parse=False
    )
    assert message in " ".join(result.stderr.split())


def test_beacons_and_exhibits_are_passed_on(doorward, quarrel, parties):
    (quarrel / "good.json").write_text(json.dumps({"pulse": "2026-01-01T00:00:00Z"}))
    said = doorward(
        "watermark", "dispute", suspect(quarrel), *parties, "--beacons", quarrel / "good.json",
        "--exhibit", "none", "--exhibit", suspect(quarrel), code=1,
    )  # fmt: skip
    assert [one is None for one in said["exhibits"]["exhibits"]] == [True, False]
    assert said["exhibits"]["exhibits"][1]["other_proven"]


def test_stamp_request(doorward, quarrel, tmp_path):
    pytest.importorskip("rfc3161_client")
    said = doorward(
        "watermark", "stamp-request", quarrel / "ada.json", "--out", tmp_path / "claim.tsq"
    )
    assert bytes.fromhex(said["sha256"]) in (tmp_path / "claim.tsq").read_bytes()


def test_a_witness_wants_a_real_claim_and_a_real_time(doorward, quarrel, tmp_path):
    words = ["--identity", quarrel / "notary.key", "--out", tmp_path / "seen.json"]
    for time in ("soon", "2026-01-01T00:00:00"):
        doorward(
            "watermark", "witness", quarrel / "ada.json", *words, "--seen", time, code=2,
            parse=False,
        )  # fmt: skip
    document = dict(Claim.load(quarrel / "ada.json").document)
    (tmp_path / "claim.json").write_text(
        json.dumps({**document, "created": "1999-01-01T00:00:00Z"})
    )
    doorward("watermark", "witness", tmp_path / "claim.json", *words, code=2, parse=False)
    assert not (tmp_path / "seen.json").exists()


def test_a_witness_states_what_was_seen(doorward, quarrel, tmp_path):
    said = doorward(
        "watermark", "witness", quarrel / "ada.json", "--identity", quarrel / "notary.key",
        "--out", tmp_path / "seen.json", "--seen", "2026-01-01T02:00:00+02:00",
    )  # fmt: skip
    assert (said["witness"], said["seen"]) == ("Notary", "2026-01-01T00:00:00Z")
    notary = PublicIdentity.load(quarrel / "notary.pub.json")
    content = read_document(tmp_path / "seen.json", notary, purpose="watermark-witness")
    assert content == {"claim": claim_digest(Claim.load(quarrel / "ada.json"))}


def test_false_claims(doorward, quarrel):
    said = doorward(
        "watermark", "false-claims", quarrel / "plain.model", "--data", "digits", "--size", 16,
        "--surrogate", quarrel / "plain.model", "--keys", 30, "--n", 40,
        "--alpha-bits", 40, "--report", quarrel / "claims.html",
    )  # fmt: skip
    page = (quarrel / "claims.html").read_text(encoding="utf-8")
    assert "p-values of random keys against the uniform law" in page
    assert said["sound"]
    claims = {claim["attack"]: claim for claim in said["claims"]}
    assert len(claims) == 10
    assert claims["labels-read-off"]["trials"][0]["convinced"]
    (law,) = said["random_keys"]
    assert sum(law["counts"]) == 30
    assert law["points"][-1]["share"] == 1.0


def test_false_claims_without_a_surrogate_in_words(doorward, quarrel):
    result = doorward(
        "watermark", "false-claims", quarrel / "plain.model", "--data", "digits", "--size", 16,
        "--keys", 20, "--n", 40, parse=False,
    )  # fmt: skip
    assert "foreign-pictures" in result.stdout
    assert "adversarial-pictures" not in result.stdout
    assert "20 random keys" in result.stdout
