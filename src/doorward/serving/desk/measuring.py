"""Counting again: a command of the operator's choice, in a process of its own, with a time limit.

The desk itself runs no model. The command gets the files as arguments and prints JSON; Doorward has
one, and any other will do::

    measure = ("doorward", "desk", "count", "{trial}", "{listing}", "{opening}", "--json")
    {"right": {"successes": 971, "trials": 1000}, "attack": {"successes": 48, "trials": 500}}

``{trial}`` and ``{opening}`` are paths (the second is empty in a dispute about accuracy),
``{listing}`` is the path of the listing as JSON, ``{ground}`` is accuracy, attack or key. The
files are strangers': run the command in a container or under another user where that matters.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from doorward.bundles.documents import parse_object
from doorward.errors import DoorwardError, InvalidInput
from doorward.files import write_json
from doorward.trading.protocol import Measurement
from doorward.trading.protocol.terms import Listing

__all__ = ["CommandMeasure", "Evidence", "Measure"]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """The files of a disputed deal.

    Attributes:
        ground: accuracy, attack or key.
        listing: what was promised.
        trial: the trial bundle.
        opening: the opened key, or None in a dispute about accuracy.
    """

    ground: str
    listing: Listing
    trial: Path
    opening: bytes | None


class Measure(Protocol):
    """Counts again, from the files alone; raises `DoorwardError` when it cannot."""

    def __call__(self, evidence: Evidence) -> Measurement:
        """The desk's own count."""
        ...


class CommandMeasure:
    """Runs a command (see the module).

    Args:
        command: the program and its arguments, with placeholders.
        seconds: time after which it is stopped.

    Raises:
        InvalidInput: the command does not use ``{trial}``.
    """

    def __init__(self, command: tuple[str, ...], *, seconds: int = 3600) -> None:
        if not any("{trial}" in word for word in command):
            raise InvalidInput(
                "the measuring command does not take the trial", remedy="put {trial} into it"
            )
        self.command, self.seconds = command, seconds

    def __call__(self, evidence: Evidence) -> Measurement:
        """Run the command and read what it printed."""
        with tempfile.TemporaryDirectory(prefix="doorward-measure-") as name:
            folder = Path(name)
            listing = folder / "listing.json"
            write_json(listing, evidence.listing.to_dict())
            opening = folder / "opening"
            if evidence.opening is not None:
                opening.write_bytes(evidence.opening)
            words = {
                "{trial}": str(evidence.trial.absolute()),  # the command runs in another folder
                "{opening}": str(opening) if evidence.opening is not None else "",
                "{listing}": str(listing),
                "{ground}": evidence.ground,
            }
            answer = self._run([_filled(word, words) for word in self.command], folder)
        try:
            return Measurement.from_dict(parse_object(answer, "the measurement"))
        except DoorwardError as error:
            raise DoorwardError(
                "the measuring command printed no measurement",
                why=str(error),
                remedy="see doorward.serving.desk.measuring",
            ) from error

    def _run(self, words: list[str], folder: Path) -> bytes:
        # No secret of the desk is handed down: not its passphrase, not the URL of its database.
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("DOORWARD_PASS", "DOORWARD_DESK", "PG"))
        }
        try:
            done = subprocess.run(  # noqa: S603 - the operator's own command, without a shell
                words,
                capture_output=True,
                timeout=self.seconds,
                cwd=folder,
                env=environment,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise DoorwardError("the measuring command did not finish", why=str(error)) from error
        if done.returncode != 0:
            raise DoorwardError(
                f"the measuring command failed with exit code {done.returncode}",
                why=done.stderr.decode(errors="replace").strip()[-500:],
            )
        return done.stdout


def _filled(word: str, words: dict[str, str]) -> str:
    for placeholder, value in words.items():
        word = word.replace(placeholder, value)
    return word
