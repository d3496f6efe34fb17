"""Ways to forge a claim or a transcript, one function each, filed by name.

>>> len(FORGERIES) > 20, FORGERIES.summary("replay: another suspect")
(True, 'The transcript is said to be about another model.')
>>> court = Courtroom.example()
>>> forged = FORGERIES["replay: another suspect"](court, random.Random(0))
>>> court.check(forged)
Traceback (most recent call last):
doorward.errors.IntegrityError: this is not the suspect of the transcript: ...

`doorward.watermark.verifying.lies` adds false contents, with and without a signature.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Iterator
from typing import Any

from doorward.registry import Registry
from doorward.watermark.verifying.courtroom import Courtroom, Forgery, as_bytes

__all__ = ["FORGERIES", "Forger"]

Forger = Callable[[Courtroom, random.Random], Forgery]

FORGERIES: Registry[Forger] = Registry("forgery")
"""Every way to forge; each makes papers that differ from the genuine ones."""

_STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 2**31, 10**400, 1.5, -1e308, "", "NaN", "0" * 64, [], [[]], {}, "\u202e",
)  # fmt: skip


def _file(court: Courtroom, which: str) -> bytes:
    return court.genuine().claim if which == "claim" else court.genuine().transcript


def _with(court: Courtroom, which: str, content: bytes) -> Forgery:
    genuine = court.genuine()
    if which == "claim":
        return Forgery(content, genuine.transcript)
    return Forgery(genuine.claim, content)


# What anybody can do to a file, whatever it says.


def _flip(content: bytes, draws: random.Random) -> bytes:
    """One bit is flipped."""
    place = draws.randrange(8 * len(content))
    changed = bytearray(content)
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def _truncate(content: bytes, draws: random.Random) -> bytes:
    """The end is missing."""
    return content[: draws.randrange(len(content))]


def _cut(content: bytes, draws: random.Random) -> bytes:
    """Some bytes in the middle are missing."""
    start = draws.randrange(len(content) - 1)
    return content[:start] + content[start + draws.randint(1, 64) :]


def _swap(content: bytes, draws: random.Random) -> bytes:
    """Two stretches are exchanged."""
    a, b, c = sorted(draws.sample(range(len(content) + 1), 3))
    return content[:a] + content[b:c] + content[a:b] + content[c:]


def _repeat_a_name(content: bytes, draws: random.Random) -> bytes:
    """A name occurs twice in an object, so that two readers could see two values."""
    found = draws.choice(list(re.finditer(rb'"\w+": ', content)))
    return content[: found.start()] + found.group() + b"0, " + content[found.start() :]


def _no_number(content: bytes, draws: random.Random) -> bytes:
    """A number becomes NaN, infinite, or larger than any computer's."""
    found = draws.choice(list(re.finditer(rb"(?<=[ \n])-?\d+(\.\d+)?(?=[,\n])", content)))
    odd = draws.choice([b"NaN", b"Infinity", b"-Infinity", b"1e999", b"9" * 5000, b"9" * 400])
    return content[: found.start()] + odd + content[found.end() :]


def _strange_value(content: bytes, draws: random.Random) -> bytes:
    """A value of another type, or far outside its range."""
    document = json.loads(content)
    holder, name = draws.choice(list(_values(document)))
    holder[name] = draws.choice(_STRANGE)
    return as_bytes(document)


def _remove(content: bytes, draws: random.Random) -> bytes:
    """A field or an entry is missing."""
    document = json.loads(content)
    holder, name = draws.choice(list(_values(document)))
    del holder[name]
    return as_bytes(document)


def _file_forger(which: str, change: Callable[[bytes, random.Random], bytes]) -> Forger:
    def forge(court: Courtroom, draws: random.Random) -> Forgery:
        return _with(court, which, change(_file(court, which), draws))

    forge.__doc__ = change.__doc__
    return forge


for _which in ("claim", "transcript"):
    for _name, _change in {
        "bit flip": _flip,
        "truncation": _truncate,
        "missing bytes": _cut,
        "swapped bytes": _swap,
        "repeated name": _repeat_a_name,
        "no number": _no_number,
        "strange value": _strange_value,
        "missing field": _remove,
    }.items():
        FORGERIES.register(f"{_which}: {_name}")(_file_forger(_which, _change))


def _values(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a JSON document, as its holder and its name or number there."""
    names = document if isinstance(document, dict) else range(len(document))
    for name in list(names):
        yield document, name
        if isinstance(document[name], dict | list):
            yield from _values(document[name])


# Genuine papers in the wrong place.


@FORGERIES.register("replay: another claim")
def _another_claim(court: Courtroom, draws: random.Random) -> Forgery:
    """The transcript is shown with another claim of the same owner, and its key."""
    claim = as_bytes(court.other_claim.document)
    return Forgery(claim, court.genuine().transcript, {"key": court.other_key})


@FORGERIES.register("replay: another owner")
def _another_owner(court: Courtroom, draws: random.Random) -> Forgery:
    """Somebody else says that the claim is theirs."""
    genuine = court.genuine()
    return Forgery(genuine.claim, genuine.transcript, {"public": court.stranger.public})


@FORGERIES.register("replay: another verifier")
def _another_verifier(court: Courtroom, draws: random.Random) -> Forgery:
    """Somebody else says that they asked."""
    genuine = court.genuine()
    return Forgery(genuine.claim, genuine.transcript, {"verifier": court.stranger.public})


@FORGERIES.register("replay: another key")
def _another_key(court: Courtroom, draws: random.Random) -> Forgery:
    """Another key is shown for the claim."""
    genuine = court.genuine()
    return Forgery(genuine.claim, genuine.transcript, {"key": court.other_key})


@FORGERIES.register("replay: another suspect")
def _another_suspect(court: Courtroom, draws: random.Random) -> Forgery:
    """The transcript is said to be about another model."""
    genuine = court.genuine()
    return Forgery(genuine.claim, genuine.transcript, {"against": court.other_suspect})


@FORGERIES.register("replay: the claim as transcript")
def _claim_as_transcript(court: Courtroom, draws: random.Random) -> Forgery:
    """A document that was signed for one purpose is shown for another."""
    genuine = court.genuine()
    if draws.random() < 0.5:
        return Forgery(genuine.claim, genuine.claim)
    return Forgery(genuine.transcript, genuine.transcript)
