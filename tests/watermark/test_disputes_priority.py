"""Which claim came first: time stamps of an authority made here, witnesses, beacons, tampering."""

import dataclasses
import hashlib
import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from doorward.bundles import Identity, sign_document
from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingData, MissingDependency
from doorward.watermark.claim import make_claim
from doorward.watermark.derivation import KeyParameters
from doorward.watermark.disputes import (
    Dating,
    Evidence,
    Priority,
    check_stamp,
    check_witness,
    claim_digest,
    dating,
    decide_priority,
    random_keys,
    read_authorities,
    stamp_request,
    witness_claim,
)

DER = serialization.Encoding.DER


def day(number, hour=12):
    return datetime(2026, 3, number, hour, tzinfo=UTC)


class Authority:
    """A time-stamp authority after RFC 3161: a root certificate, and one that signs."""

    def __init__(self, name="TSA", usage=ExtendedKeyUsageOID.TIME_STAMPING):
        self.key, root_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        self.root = self.certificate(f"{name} root", None, root_key, root_key, None)
        self.leaf = self.certificate(name, f"{name} root", self.key, root_key, usage)

    @staticmethod
    def certificate(name, issuer, key, signer, usage):
        def named(text):
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        build = (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named(issuer or name))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(day(1, 0))
            .not_valid_after(day(30, 0))
            .add_extension(x509.BasicConstraints(ca=usage is None, path_length=None), True)
        )
        if usage is not None:
            build = build.add_extension(x509.ExtendedKeyUsage([usage]), True)
        return build.sign(signer, hashes.SHA256())

    def stamp(self, message, when, accuracy=None, algorithm="sha256"):
        """The authority's answer to a query about `message`."""
        tsp = pytest.importorskip("asn1crypto.tsp")
        from asn1crypto import algos, cms, core
        from asn1crypto import x509 as asn1

        digest = {"algorithm": algorithm}
        fields = {
            "version": "v1",
            "policy": "1.2.3.4",
            "message_imprint": {
                "hash_algorithm": digest,
                "hashed_message": hashlib.new(algorithm, message).digest(),
            },
            "serial_number": 7,
            "gen_time": when,
        }
        if accuracy is not None:
            fields["accuracy"] = {"seconds": accuracy}
        info = tsp.TSTInfo(fields).dump()
        leaf = asn1.Certificate.load(self.leaf.public_bytes(DER))
        attributes = cms.CMSAttributes(
            [
                {"type": "content_type", "values": ["tst_info"]},
                {"type": "message_digest", "values": [hashlib.sha256(info).digest()]},
            ]
        )
        signature = self.key.sign(attributes.dump(), ec.ECDSA(hashes.SHA256()))
        signed = cms.SignedData(
            {
                "version": "v3",
                "digest_algorithms": [algos.DigestAlgorithm({"algorithm": "sha256"})],
                "encap_content_info": {
                    "content_type": "tst_info",
                    "content": core.ParsableOctetString(info),
                },
                "certificates": [leaf],
                "signer_infos": [
                    {
                        "version": "v1",
                        "sid": cms.SignerIdentifier(
                            "issuer_and_serial_number",
                            {"issuer": leaf.issuer, "serial_number": leaf.serial_number},
                        ),
                        "digest_algorithm": {"algorithm": "sha256"},
                        "signed_attrs": attributes,
                        "signature_algorithm": {"algorithm": "sha256_ecdsa"},
                        "signature": signature,
                    }
                ],
            }
        )
        token = {"content_type": "signed_data", "content": signed}
        answer = {"status": {"status": "granted"}, "time_stamp_token": token}
        return tsp.TimeStampResp(answer).dump()


def claim_of(name, beacon=None):
    parameters = KeyParameters(n=40, image_shape=(1, 8, 8), beacon=beacon)
    return make_claim(
        next(random_keys(parameters, 1, seed=len(name))), Identity.new(name), alpha=2.0**-40
    )


@pytest.fixture(scope="module")
def tsa():
    return Authority()


@pytest.fixture(scope="module")
def notary():
    return Identity.new("Notary")


@pytest.fixture(scope="module")
def claims():
    return [claim_of("Ada"), claim_of("Eve Pirate", beacon="pulse 20")]


BEACONS = {"pulse 20": day(20)}


def message(claim):
    return dating._stamped(claim)[0]


def evidence(tsa, notary, **fields):
    return Evidence(**{"authorities": [tsa.root], "witnesses": [notary.public], **fields})


# What each party has (a day of March, and how exact the authority says it is), and what follows.
TABLE = {
    "nobody": (None, None, {}, None, "open"),
    "the earlier stamp": ((5, 1), (9, 1), {}, 0, "earlier"),
    "the other way round": ((9, 1), (5, 1), {}, 1, "earlier"),
    "equal times": ((5, 1), (5, 1), {}, None, "open"),
    "within accuracy": ((5, 50_000), (6, 50_000), {}, None, "open"),
    "accuracy not stated": ((5, None), (6, None), {}, 0, "earlier"),
    "only one": ((5, 1), None, {}, 0, "only"),
    "only the other": (None, (25, 1), BEACONS, 1, "only"),
    "before the beacon": ((5, 1), (25, 1), BEACONS, 0, "proven"),
    "before the beacon, alone": ((5, 1), None, BEACONS, 0, "proven"),
    "after the beacon": ((21, 1), (25, 1), BEACONS, 0, "earlier"),
    "earlier than its own beacon": ((9, 1), (5, 1), BEACONS, 0, "proven"),
    "a beacon of which the judge knows nothing": ((9, 1), (5, 1), {}, 1, "earlier"),
}


@pytest.mark.parametrize(("ada", "eve", "beacons", "first", "grade"), TABLE.values(), ids=TABLE)
def test_priority_table(claims, tsa, notary, ada, eve, beacons, first, grade):
    stamps = [
        tsa.stamp(message(claim), day(seen[0]), seen[1])
        for claim, seen in zip(claims, (ada, eve), strict=True)
        if seen is not None
    ]
    random.Random(0).shuffle(stamps)  # whose stamp is whose is found out
    decision = decide_priority(claims, evidence(tsa, notary, stamps=stamps, beacons=beacons))
    assert (decision.first, decision.grade) == (first, grade)
    assert decision.owner == (None if first is None else claims[first].signer.name)
    assert Priority.from_dict(json.loads(json.dumps(decision.to_dict()))) == decision
    assert bool(decision.refused) == (eve == (5, 1) and ada == (9, 1) and beacons == BEACONS)


def test_what_signers_say_of_time_is_no_evidence(claims):
    claim = make_claim(
        next(random_keys(KeyParameters(n=40, image_shape=(1, 8, 8)), 1)),
        Identity.new("Backdater"),
        alpha=2.0**-40,
        created=datetime(1999, 1, 1, tzinfo=UTC),
    )
    assert decide_priority([claims[0], claim]).first is None


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("form", [0, 1], ids=["canonical", "file"])
def test_a_stamp_of_the_claim_or_of_its_file(claims, tsa, algorithm, form, tmp_path):
    claim = claims[0]
    claim.save(tmp_path / "claim.json")
    content = (message(claim), (tmp_path / "claim.json").read_bytes())[form]
    seen = check_stamp(tsa.stamp(content, day(5), 2, algorithm), claim, [tsa.root])
    assert (seen.earliest, seen.latest) == ("2026-03-05T11:59:58Z", "2026-03-05T12:00:02Z")
    assert (seen.kind, seen.by) == ("rfc3161", "CN=TSA")


def test_the_request_asks_for_the_claims_hash(claims, tsa):
    tsp = pytest.importorskip("asn1crypto.tsp")
    request = tsp.TimeStampReq.load(stamp_request(claims[0]))
    asked = request["message_imprint"]["hashed_message"].native
    assert asked.hex() == claim_digest(claims[0]) == hashlib.sha256(message(claims[0])).hexdigest()
    assert request["cert_req"].native


def test_stamps_that_do_not_hold(claims, tsa):
    good = tsa.stamp(message(claims[0]), day(5))
    with pytest.raises(IntegrityError, match="no time-stamp authority is trusted"):
        check_stamp(good, claims[0], [])
    with pytest.raises(IntegrityError, match="does not hold"):
        check_stamp(good, claims[0], [Authority().root])  # same names, other keys
    with pytest.raises(IntegrityError, match=r"[Mm]ismatch"):
        check_stamp(good, claims[1], [tsa.root])
    with pytest.raises(IntegrityError):  # the certificate was not valid then
        check_stamp(tsa.stamp(message(claims[0]), day(31)), claims[0], [tsa.root])
    web = Authority("Web server", usage=ExtendedKeyUsageOID.SERVER_AUTH)
    with pytest.raises(IntegrityError):
        check_stamp(web.stamp(message(claims[0]), day(5)), claims[0], [web.root])


def test_a_stamp_is_fuzzed(claims, tsa):
    """Truncated, bits flipped, rubbish: refused, always with one of two errors, never accepted."""
    good = tsa.stamp(message(claims[0]), day(5), 1)
    told = check_stamp(good, claims[0], [tsa.root])
    draw = random.Random(1)
    bad = [good[: draw.randrange(len(good))] for _ in range(40)] + [b"", b"\x30\x80" * 40]
    for _ in range(300):
        place, bit = draw.randrange(len(good)), draw.randrange(8)
        bad.append(good[:place] + bytes([good[place] ^ 1 << bit]) + good[place + 1 :])
    accepted = []
    for stamp in bad:
        try:
            accepted.append(check_stamp(stamp, claims[0], [tsa.root]))
        except (BadFile, IntegrityError):
            continue
    # Some bytes are outside the signature (the status text, a certificate nobody needs): a change
    # there may pass, but it never changes what was stamped, or when.
    assert all((one.earliest, one.latest) == (told.earliest, told.latest) for one in accepted)
    assert len(accepted) < 20


def test_witnesses(claims, notary):
    paper = witness_claim(claims[0], notary, seen=day(5))
    seen = check_witness(json.loads(json.dumps(paper)), claims[0], [notary.public])
    assert seen == Dating(
        earliest="2026-03-05T12:00:00Z", latest="2026-03-05T12:00:00Z", kind="witness", by="Notary"
    )
    stranger = Identity.new("Notary")
    other = sign_document({"claim": claim_digest(claims[0])}, notary, purpose="watermark-claim")
    cases = [
        (paper, claims[1], [notary.public], IntegrityError),
        (paper, claims[0], [], IntegrityError),
        (paper, claims[0], [stranger.public], IntegrityError),
        ({**paper, "created": "2026-03-01T12:00:00Z"}, claims[0], [notary.public], IntegrityError),
        (other, claims[0], [notary.public], IntegrityError),
        ({}, claims[0], [notary.public], BadFile),
        ([1, 2], claims[0], [notary.public], BadFile),
        ({**paper, "signature": 7}, claims[0], [notary.public], BadFile),
    ]
    for document, claim, trusted, error in cases:
        with pytest.raises(error):
            check_witness(document, claim, trusted)


def test_refused_evidence_is_listed_and_counts_for_nothing(claims, tsa, notary):
    tampered = bytearray(tsa.stamp(message(claims[1]), day(2)))
    tampered[-1] ^= 1
    pieces = evidence(
        tsa,
        notary,
        stamps=[bytes(tampered), b"rubbish", tsa.stamp(message(claims[0]), day(9))],
        papers=[
            witness_claim(claims[1], Identity.new("Friend of Eve"), seen=day(1)),
            witness_claim(claims[1], notary, seen=datetime(2999, 1, 1, tzinfo=UTC)),
            {"not": "a paper"},
        ],
    )
    decision = decide_priority(claims, pieces)
    assert (decision.first, decision.grade) == (0, "only")
    assert len(decision.refused) == 5
    assert any("2999" in reason for reason in decision.refused)
    assert any("Friend of Eve" in reason for reason in decision.refused)


def test_the_earliest_valid_date_counts_and_kinds_mix(claims, tsa, notary):
    pieces = evidence(
        tsa,
        notary,
        stamps=[tsa.stamp(message(claims[0]), day(9)), tsa.stamp(message(claims[1]), day(8))],
        papers=[witness_claim(claims[0], notary, seen=day(4))],
    )
    decision = decide_priority(claims, pieces)
    assert (decision.first, decision.grade) == (0, "earlier")
    assert decision.timelines[0].dated.kind == "witness"
    assert decision.timelines[1].dated.kind == "rfc3161"


def test_three_claims(claims, notary, tsa):
    third = claim_of("Carol")
    papers = [
        witness_claim(claim, notary, seen=day(d))
        for claim, d in zip([*claims, third], (9, 8, 7), strict=True)
    ]
    decision = decide_priority([*claims, third], evidence(tsa, notary, papers=papers))
    assert (decision.first, decision.owner, len(decision.timelines)) == (2, "Carol", 3)


def test_wrong_calls(claims, monkeypatch):
    with pytest.raises(InvalidInput, match="two different"):
        decide_priority(claims[:1])
    with pytest.raises(InvalidInput, match="two different"):
        decide_priority([claims[0], claims[0]])
    with pytest.raises(InvalidInput, match="time zone"):
        decide_priority(claims, Evidence(beacons={"x": datetime(2026, 1, 1)}))
    document = json.loads(json.dumps(dict(claims[0].document)))
    document["created"] = "1999-01-01T00:00:00Z"
    with pytest.raises(IntegrityError):
        decide_priority([dataclasses.replace(claims[0], document=document), claims[1]])
    monkeypatch.setitem(__import__("sys").modules, "rfc3161_client", None)
    with pytest.raises(MissingDependency, match=r"doorward\[sign\]"):
        stamp_request(claims[0])


def test_authorities_are_read_from_pem(tsa, tmp_path):
    pem = tsa.root.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "roots.pem").write_bytes(pem + pem)
    assert read_authorities(tmp_path / "roots.pem") == [tsa.root, tsa.root]
    (tmp_path / "none.pem").write_text("nothing")
    with pytest.raises(BadFile):
        read_authorities(tmp_path / "none.pem")
    with pytest.raises(MissingData):
        read_authorities(tmp_path / "absent.pem")


def test_rounding_is_never_in_favour():
    moment = day(5) + timedelta(milliseconds=300)
    assert dating._round(moment, up=False) == "2026-03-05T12:00:00Z"
    assert dating._round(moment, up=True) == "2026-03-05T12:00:01Z"
    assert dating._round(day(5), up=True) == "2026-03-05T12:00:00Z"
