"""The papers of a trade that commands read: licence, signed listing, signed commitments.

::

    text = licence_text(path, trial)                    # given, or the one in the trial's bundle
    listing, seller = read_listing(path, seller=None)   # checked: signature, fingerprint, content
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from doorward.bundles import PublicIdentity
    from doorward.trading import OpenedKey
    from doorward.trading.protocol import Listing
    from doorward.trading.trials import Trial

__all__ = [
    "CommitmentsFile",
    "LicenceFile",
    "ListingFile",
    "SellerFile",
    "TrialPlace",
    "check_trial",
    "licence_text",
    "read_commitments",
    "read_listing",
    "read_opened",
    "read_text",
]

TrialPlace = Annotated[
    Path, typer.Argument(help="The trial bundle: a folder, or the zip of a desk.")
]
LicenceFile = Annotated[
    Path | None,
    typer.Option(
        "--licence",
        help="The licence's text, as agreed on. Default: the one in the trial's bundle.",
        show_default=False,
    ),
]
CommitmentsFile = Annotated[
    Path | None,
    typer.Option(
        "--commitments", help="The seller's signed commitments, as they came with the trial."
    ),
]
ListingFile = Annotated[
    Path | None,
    typer.Option(
        help="The seller's signed listing, which doorward trade trial leaves beside the trial.",
        show_default=False,
    ),
]
SellerFile = Annotated[
    Path | None,
    typer.Option(
        help="The seller's public identity, if you have it over another channel; without it the "
        "signer of the listing is taken.",
        show_default=False,
    ),
]


def licence_text(licence: Path | None, trial: Trial) -> str:
    """The text of a licence's file, or what the trial's bundle states.

    Raises:
        MissingData, BadFile: the file is not there, or no text.
        InvalidInput: there is neither.
    """
    from doorward.errors import InvalidInput

    if licence is not None:
        return read_text(licence)
    if trial.licence is None:
        raise InvalidInput(
            "the trial's bundle states no licence",
            why="a key is bound to the licence that was agreed on",
            remedy="give it by --licence",
        )
    return trial.licence


def read_text(path: Path) -> str:
    """The text in a file of at most 10,000 characters, which is what a bundle can state.

    Raises:
        MissingData: there is no such file.
        BadFile: it is too large, or not UTF-8.
    """
    from doorward.bundles.documents import read_limited
    from doorward.errors import BadFile

    try:
        return read_limited(path, 10_000).decode()
    except UnicodeDecodeError as error:
        raise BadFile(f"{path} is not UTF-8 text", remedy="store it as plain text") from error


def read_commitments(
    path: Path | None, seller: PublicIdentity | None, trial: Trial, licence: str | None
) -> dict[str, str]:
    """What the seller committed to in a signed statement about this trial; nothing without one.

    Args:
        path: of the statement.
        seller: who must have signed it.
        trial: what it must be about.
        licence: likewise; None takes what the trial's bundle states.

    Raises:
        InvalidInput: it is not said who must have signed it.
        BadFile: it is no such statement.
        IntegrityError: the signature does not fit, or it is about something else.
    """
    from doorward.bundles.documents import read_object
    from doorward.errors import InvalidInput
    from doorward.trading.keys import check_statement

    if path is None:
        return {}
    if seller is None:
        raise InvalidInput("whose commitments are they?", remedy="give --seller, or --listing")
    text = licence if licence is not None else licence_text(None, trial)
    return check_statement(read_object(path), seller, trial=trial.model, licence=text)


def read_listing(path: Path, seller: Path | None) -> tuple[Listing, PublicIdentity]:
    """A signed listing and who signed it.

    Args:
        path: of the document.
        seller: public identity that must have signed it; None takes the signer that it names.

    Raises:
        BadFile: it is no signed listing.
        IntegrityError: the signature does not fit, or somebody else signed it.
    """
    from doorward.bundles import PublicIdentity
    from doorward.bundles.documents import read_object
    from doorward.errors import BadFile, InvalidInput
    from doorward.trading.protocol import check_listing

    document = read_object(path)
    try:
        public = PublicIdentity.load(seller) if seller else _signer(document)
        public.check()
        return check_listing(document, public), public
    except (InvalidInput, KeyError, TypeError, ValueError) as error:
        raise BadFile(
            f"{path} is no signed listing",
            why=str(error),
            remedy="fetch it again: doorward trade trial",
        ) from error


def check_trial(trial: Path, offer: Listing) -> None:
    """Refuse another trial than the listed one: a zip, or the folder that packs into it.

    Raises:
        IntegrityError: its digest is another.
    """
    from doorward.errors import IntegrityError

    found = _digest(trial)
    if found != offer.trial:
        raise IntegrityError(
            "this is not the trial of the listing",
            why=f"its digest is {found[:16]}, listed is {offer.trial[:16]}",
            remedy="fetch it again: doorward trade trial",
        )


def read_opened(key: Path, offer: Listing | None) -> OpenedKey:
    """An opened key, which must be the one that the listing commits to, if there is one.

    Raises:
        BadFile: it is no whole opened key.
        IntegrityError: it is another one.
    """
    from doorward.bundles.documents import read_limited
    from doorward.errors import IntegrityError
    from doorward.trading import OpenedKey

    opened = OpenedKey.from_bytes(read_limited(key, 2**31))
    if offer is not None:
        opened.check_commitments({**opened.commitments(), **offer.commitments})
        if opened.digest() != offer.opening:
            raise IntegrityError(
                "this is not the key that the listing commits to",
                why=f"its digest is {opened.digest()[:16]}, listed is {offer.opening[:16]}",
                remedy="give the one that doorward trade unlock wrote, or dispute the deal",
            )
    return opened


def _digest(trial: Path) -> str:
    """SHA-256 of a trial as a listing names it."""
    import tempfile

    from doorward.files import sha256_file
    from doorward.serving.desk.packing import pack

    if trial.is_file():
        return sha256_file(trial)
    with tempfile.TemporaryDirectory() as name:
        packed = Path(name) / "trial.zip"
        pack(trial, packed)
        return sha256_file(packed)


def _signer(document: dict[str, object]) -> PublicIdentity:
    from doorward.bundles import PublicIdentity

    signer = document["signer"]
    if not isinstance(signer, dict):
        raise TypeError("the signer is no identity")
    return PublicIdentity.from_dict(signer)
