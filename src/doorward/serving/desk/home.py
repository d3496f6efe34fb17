"""A desk on disk: one folder with its keys, settings, database and what the sellers left.

::

    create("my-desk", name="The desk", passphrase="correct horse")
    desk = open_desk("my-desk", passphrase="correct horse")

``desk.json`` holds the settings, ``desk.key`` the identity and ``custody.key`` the custody key
(both sealed with the passphrase), ``desk.pub.json`` the public identity to hand out,
``desk.sqlite`` the database (unless another URL is given), ``goods/`` the trials. Back up all of
it together.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from doorward.bundles.documents import read_object
from doorward.bundles.identity import Identity
from doorward.bundles.sealing import seal_file, unseal_file
from doorward.errors import BadFile, InvalidInput, MissingData
from doorward.files import write_json
from doorward.randomness import Secret
from doorward.serving.database import Database
from doorward.serving.desk.custody import Custody
from doorward.serving.desk.desk import Desk
from doorward.serving.desk.rails import PaymentRail
from doorward.serving.desk.settings import DeskSettings

__all__ = ["create", "open_desk"]

_PURPOSE = "desk-custody"


def create(
    folder: str | os.PathLike[str],
    *,
    name: str,
    passphrase: str,
    settings: DeskSettings | None = None,
    log2_n: int = 17,
) -> Identity:
    """Make the folder of a new desk.

    Args:
        folder: must not hold a desk yet.
        name: what the desk is called, on its pages and in its identity.
        passphrase: seals both keys.
        settings: limits; can be edited later, in ``desk.json``.
        log2_n: work of the sealing (see `doorward.bundles.seal_file`).

    Returns:
        The desk's identity.

    Raises:
        InvalidInput: there is a desk already.
    """
    folder = Path(folder)
    if (folder / "desk.json").exists():
        raise InvalidInput(
            f"{folder} holds a desk already",
            why="its keys would be lost",
            remedy="choose another folder",
        )
    identity = Identity.new(name)
    identity.seal(folder / "desk.key", passphrase, log2_n=log2_n)
    seal_file(
        folder / "custody.key",
        Secret.new(),
        passphrase,
        purpose=_PURPOSE,
        public={"desk": identity.public.fingerprint},
        log2_n=log2_n,
    )
    identity.public.save(folder / "desk.pub.json")
    write_json(folder / "desk.json", (settings or DeskSettings()).to_dict())
    return identity


def open_desk(
    folder: str | os.PathLike[str],
    *,
    passphrase: str,
    database: str | None = None,
    rails: Sequence[PaymentRail] = (),
) -> Desk:
    """Open the desk in a folder; its database is made or brought up to date.

    Args:
        folder: what `create` made.
        passphrase: of both keys.
        database: URL of another database than ``desk.sqlite`` in the folder.
        rails: ways for money to come and go, besides the built-in one.

    Raises:
        MissingData: there is no desk.
        BadFile: the settings are not valid.
        KeyRefused: the passphrase is wrong, or a key was damaged or belongs to another desk.
    """
    folder = Path(folder)
    if not (folder / "desk.json").is_file():
        raise MissingData(f"there is no desk in {folder}", remedy="run: doorward desk init")
    try:
        settings = DeskSettings.from_dict(read_object(folder / "desk.json"))
    except InvalidInput as error:
        raise BadFile(f"{folder / 'desk.json'} is not valid", why=error.why) from error
    identity = Identity.open(folder / "desk.key", passphrase)
    custody, public = unseal_file(folder / "custody.key", passphrase, purpose=_PURPOSE)
    if public.get("desk") != identity.public.fingerprint:
        raise BadFile(f"{folder / 'custody.key'} belongs to another desk", remedy="use your backup")
    return Desk(
        Database(database or folder / "desk.sqlite"),
        identity,
        Custody(folder / "goods", Secret(custody)),
        settings,
        rails=rails,
    )
