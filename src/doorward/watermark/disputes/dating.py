"""When did a claim exist at the latest? Time stamps by authorities, words of witnesses.

A signed claim says when it was made, and anybody can sign any date. Somebody neutral must have
seen it:

>>> from doorward.bundles import Identity
>>> from doorward.watermark.claim import make_claim
>>> from doorward.watermark.key import WatermarkKey
>>> ada, notary = Identity.new("Ada"), Identity.new("The notary")
>>> key = WatermarkKey.new(n=40, classes=10, image_shape=(1, 16, 16), owner=ada.public)
>>> claim = make_claim(key, ada, alpha=1e-9)
>>> paper = witness_claim(claim, notary)
>>> check_witness(paper, claim, [notary.public]).by
'The notary'

A time-stamp authority after RFC 3161 does this for everybody, over the internet, without learning
the claim: send it `stamp_request`, keep its answer, and `check_stamp` it (with the package
`rfc3161-client`) against the authority's root certificate. By hand::

    openssl ts -query -data claim.json -sha256 -cert -out claim.tsq
    curl -H "Content-Type: application/timestamp-query" --data-binary @claim.tsq URL > claim.tsr

A witness also covers every other way of publishing: who has found the claim's digest in a dated
public place (a newspaper, a transparency log, a block chain) states so with that date.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

from cryptography import x509
from pydantic.dataclasses import dataclass

from doorward.bundles import PublicIdentity, check_document, sign_document
from doorward.bundles.documents import Moment, canonical, read_limited
from doorward.bundles.identity import Identity
from doorward.bundles.signed import SignedDocument
from doorward.errors import BadFile, IntegrityError, InvalidInput, MissingDependency
from doorward.records import STRICT, Record
from doorward.watermark.claim import Claim

__all__ = [
    "WITNESS",
    "Dating",
    "check_stamp",
    "check_witness",
    "claim_digest",
    "read_authorities",
    "stamp_request",
    "witness_claim",
]

WITNESS = "watermark-witness"
"""Purpose of a witness's signed document."""

_MOMENT = "%Y-%m-%dT%H:%M:%SZ"
_UNSTATED = timedelta(seconds=1)
"""Accuracy of an authority that does not state any: the resolution of most of their clocks."""

_LARGEST_STAMP = 2**20


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dating(Record):
    """A claim was seen between two moments, and who says so.

    Attributes:
        earliest: the claim was not seen before this.
        latest: the claim existed at this moment, at the latest.
        kind: ``"rfc3161"`` for a time-stamp authority, ``"witness"``.
        by: the name of the authority's certificate, or of the witness.
    """

    earliest: Moment
    latest: Moment
    kind: Literal["rfc3161", "witness"]
    by: str


def claim_digest(claim: Claim) -> str:
    """What a witness signs: SHA-256 of the claim's canonical JSON, signature included, in hex."""
    return hashlib.sha256(_stamped(claim)[0]).hexdigest()


def stamp_request(claim: Claim) -> bytes:
    """A time-stamp query (RFC 3161, SHA-256) to send to an authority of your choice.

    Returns:
        DER bytes, to be posted with the content type ``application/timestamp-query``. They hold
        a hash of the claim and nothing else of it.

    Raises:
        MissingDependency: the package `rfc3161-client` is not installed.
    """
    protocol = _protocol()
    build = protocol.TimestampRequestBuilder().data(_stamped(claim)[0])
    request: bytes = build.hash_algorithm(protocol.HashAlgorithm.SHA256).build().as_bytes()
    return request


def check_stamp(stamp: bytes, claim: Claim, authorities: Sequence[x509.Certificate]) -> Dating:
    """Check an authority's answer against a claim.

    The stamp may cover the claim's canonical JSON (`stamp_request`) or its file as `Claim.save`
    writes it (``openssl ts -query -data claim.json``), with SHA-256, SHA-384 or SHA-512. The
    certificates must have been valid at the time of the stamp; whether one was revoked since is
    not asked, as that needs the network.

    Args:
        stamp: the answer as it came, DER (a ``.tsr`` file).
        claim: what it should cover.
        authorities: root certificates that you trust (see `read_authorities`).

    Raises:
        MissingDependency: the package `rfc3161-client` is not installed.
        BadFile: it is no answer of a time-stamp authority, or one that refuses.
        IntegrityError: no trusted authority signed it, or it covers something else.
    """
    protocol = _protocol()
    try:
        answer = protocol.decode_timestamp_response(stamp)
        info = answer.tst_info
        moment = info.gen_time.replace(tzinfo=UTC)
        accuracy = _accuracy(info)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadFile(
            "this is not the answer of a time-stamp authority",
            why=str(error) or type(error).__name__,
            remedy="keep the answer as it came, in DER",
        ) from error
    if not authorities:
        raise IntegrityError(
            "no time-stamp authority is trusted",
            remedy="give the root certificates of those that you trust",
        )
    builder = protocol.VerifierBuilder(roots=list(authorities))
    reasons = []
    for message in _stamped(claim):
        try:
            builder.build().verify_message(answer, message)
        except (protocol.VerificationError, ValueError, TypeError) as error:
            reasons.append(str(error))
            continue
        signers = {signer.serial_number for signer in answer.signed_data.signer_infos}
        return Dating(
            earliest=_round(moment - accuracy, up=False),
            latest=_round(moment + accuracy, up=True),
            kind="rfc3161",
            by=_name_of(answer.signed_data.certificates, signers, authorities),
        )
    raise IntegrityError(
        "the time stamp does not hold",
        why="; ".join(dict.fromkeys(reasons)),
        remedy="do not trust it; or trust the authority's root certificate, if it is the right one",
    )


def witness_claim(
    claim: Claim, witness: Identity, *, seen: datetime | None = None
) -> dict[str, Any]:
    """State, as a neutral third party, that a claim existed at a moment.

    Args:
        claim: what was seen.
        witness: your signing identity.
        seen: when (with a time zone); by default now.

    Returns:
        A signed document (see `bundles.sign_document`), to be kept beside the claim.
    """
    content = {"claim": claim_digest(claim)}
    return sign_document(content, witness, purpose=WITNESS, created=seen)


def check_witness(
    document: Mapping[str, Any], claim: Claim, witnesses: Iterable[PublicIdentity]
) -> Dating:
    """Check a witness's document against a claim.

    Raises:
        BadFile: it is no signed document.
        IntegrityError: it is by nobody whom you trust, or of something else, or was changed.
    """
    try:
        parsed = SignedDocument.from_dict(document)
    except (InvalidInput, TypeError, ValueError) as error:
        why = getattr(error, "why", "") or str(error)
        raise BadFile("this is not a witness's document", why=why) from error
    trusted = {public.ed25519: public for public in witnesses}.get(parsed.signer.ed25519)
    if trusted is None:
        raise IntegrityError(
            f"the witness {parsed.signer.name} ({parsed.signer.fingerprint[:16]}) is not trusted",
            remedy="give the public identities of the witnesses whom you trust",
        )
    content = check_document(document, trusted, purpose=WITNESS)
    if content != {"claim": claim_digest(claim)}:
        raise IntegrityError("the witness saw another claim than this one")
    return Dating(earliest=parsed.created, latest=parsed.created, kind="witness", by=trusted.name)


def read_authorities(path: str | os.PathLike[str]) -> list[x509.Certificate]:
    """Read the certificates in a PEM file.

    Raises:
        MissingData: there is no such file.
        BadFile: it holds no certificates.
    """
    try:
        return x509.load_pem_x509_certificates(read_limited(path, _LARGEST_STAMP))
    except ValueError as error:
        raise BadFile(
            f"{path} holds no certificates",
            why=str(error),
            remedy="give the authority's root certificate as PEM",
        ) from error


def _stamped(claim: Claim) -> tuple[bytes, bytes]:
    """What a stamp may cover: canonical JSON, and the file that `Claim.save` writes."""
    file = json.dumps(dict(claim.document), indent=2, allow_nan=False) + "\n"
    return canonical(claim.document, "the claim"), file.encode()


def _protocol() -> Any:
    try:
        import rfc3161_client
    except ImportError:
        raise MissingDependency.of("rfc3161-client", "sign", "check time stamps") from None
    return rfc3161_client


def _accuracy(info: Any) -> timedelta:
    stated = info.accuracy
    if stated is None:
        return _UNSTATED
    return timedelta(
        seconds=stated.seconds or 0,
        milliseconds=stated.millis or 0,
        microseconds=stated.micros or 0,
    )


def _round(moment: datetime, *, up: bool) -> str:
    part = timedelta(microseconds=moment.microsecond)
    whole = moment - part
    return (whole + timedelta(seconds=1 if up and part else 0)).strftime(_MOMENT)


def _name_of(
    embedded: Iterable[bytes], signers: set[int], authorities: Sequence[x509.Certificate]
) -> str:
    found = [x509.load_der_x509_certificate(content) for content in embedded]
    for certificate in (*found, *authorities):
        if certificate.serial_number in signers:
            return certificate.subject.rfc4514_string()
    return authorities[0].subject.rfc4514_string()
