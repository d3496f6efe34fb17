"""What a checked transcript rests on, in plain words: what was checked, and what is only believed.

>>> grounds = explain(key=True, opened=0, covers=False, against=False, concealed=True)
>>> grounds.believed[0]
"That the suspect gave these answers: the verifier's word; nothing of the suspect's signs them."
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Grounds", "explain"]

_FILES = (
    "The owner signed the claim, and the verifier the transcript, which is about this claim.",
    "The p-value, the rule and the verdict follow from the counts.",
)
_COUNTED = "All triggers were drawn again from the key, found among the questions, and counted."
_ORDER = "Order and kinds of the questions follow from the seed that was sealed."
_ASKED_AGAIN = "The suspect itself was asked again and gave the same answers."
_ANSWERS = (
    "That the suspect gave these answers: the verifier's word; nothing of the suspect's signs them."
)
_COUNTS = "How many answers were matches: the verifier's word, as no trigger is known here."
_OTHERS = (
    "How the triggers that were not opened were answered; they are not needed for the verdict."
)
_COVER_IMAGES = "Which images the covers were: only their hashes are here."
_TIME = "When it happened: the verifier's word, unless the file carries a time stamp."


class Grounds(NamedTuple):
    """Attributes: `checked`, what was found to be so; `believed`, what was not checked here."""

    checked: tuple[str, ...]
    believed: tuple[str, ...]


def explain(*, key: bool, opened: int, covers: bool, against: bool, concealed: bool) -> Grounds:
    """Say what a successful `check_transcript` proves, and what not.

    Args:
        key: the whole key was given.
        opened: number of opened triggers that were given instead.
        covers: the transcript has image covers, and they were not given.
        against: the suspect was asked again.
        concealed: the transcript holds no seed.
    """
    checked, believed = [*_FILES], []
    if key:
        checked.append(_COUNTED)
    elif opened:
        checked.append(f"{opened} opened triggers are the owner's; they were found and counted.")
        believed.append(_OTHERS)
    else:
        believed.append(_COUNTS)
    if key and not concealed:
        checked.append(_ORDER)
    if covers:
        believed.append(_COVER_IMAGES)
    if against:
        checked.append(_ASKED_AGAIN)
    else:
        believed.insert(0, _ANSWERS)
    return Grounds(tuple(checked), (*believed, _TIME))
