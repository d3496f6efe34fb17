"""What can go wrong, as one small tree of exceptions.

Every message says what is wrong, why, and what to do about it:

>>> raise InvalidInput("images are 8x8", why="the model takes 32x32", remedy="resize them")
Traceback (most recent call last):
doorward.errors.InvalidInput: images are 8x8: the model takes 32x32. Resize them.

The command line prints that paragraph and leaves with exit code 2. Library users catch
`DoorwardError`, or the branch they care about.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from difflib import get_close_matches

__all__ = [
    "BadFile",
    "DoorwardError",
    "EndpointFailed",
    "IntegrityError",
    "InvalidInput",
    "KeyRefused",
    "MissingData",
    "MissingDependency",
    "ModelUnsuitable",
    "StorageFailed",
    "TrainingDiverged",
    "TrainingInterrupted",
    "UnknownName",
    "UnsafeFile",
]


class DoorwardError(Exception):
    """Base of all errors that Doorward raises on purpose.

    Args:
        what: what is wrong, without a full stop.
        why: the reason, or what was expected; may be empty.
        remedy: what the caller can do now; may be empty.
    """

    def __init__(self, what: str, *, why: str = "", remedy: str = "") -> None:
        self.what, self.why, self.remedy = what, why, remedy
        super().__init__(what, why, remedy)

    def __reduce__(self) -> tuple[object, ...]:
        # Errors cross process borders (data loader workers, Ray) with all three parts.
        build = functools.partial(type(self), why=self.why, remedy=self.remedy)
        return build, (self.what,)

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.why}" if self.why else self.what
        if not self.remedy:
            return sentence
        return f"{sentence.rstrip('.')}. {self.remedy[0].upper()}{self.remedy[1:].rstrip('.')}."


class InvalidInput(DoorwardError, ValueError):
    """A value, tensor or option is outside what is accepted."""


class UnknownName(InvalidInput):
    """A registry has no entry of that name; the message lists the names that exist."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> UnknownName:
        """Build the error for an unknown `name` of a `kind` ("architecture", "data set", ...).

        >>> print(UnknownName.of("architecture", "resnet9", ["resnet8", "vit"]))
        no architecture is called 'resnet9'. Did you mean 'resnet8'? Known: resnet8, vit.
        """
        names = sorted(known)
        close = get_close_matches(name, names, n=1)
        listed = f"known: {', '.join(names)}"
        remedy = f"did you mean {close[0]!r}? K{listed[1:]}" if close else listed
        return cls(f"no {kind} is called {name!r}", remedy=remedy)


class MissingData(DoorwardError):
    """A data set, folder or file that is needed is not there."""


class MissingDependency(DoorwardError):
    """An optional package is needed for this call."""

    @classmethod
    def of(cls, package: str, extra: str, purpose: str) -> MissingDependency:
        """Build the error for a missing optional `package` that `extra` installs."""
        return cls(
            f"the package {package} is not installed",
            why=f"it is needed to {purpose}",
            remedy=f"run: pip install 'doorward[{extra}]'",
        )


class BadFile(DoorwardError):
    """A file is truncated, corrupt, or not of the expected format."""


class UnsafeFile(BadFile):
    """A file could run code when read (a pickle), so it is refused."""


class StorageFailed(DoorwardError):
    """Writing failed (disk full, no permission); nothing half-written is left behind."""


class ModelUnsuitable(DoorwardError):
    """A model lacks what a method needs (a head, a named layer, finite weights, the input size)."""


class TrainingDiverged(DoorwardError):
    """The loss became NaN or infinite, or exploded."""


class TrainingInterrupted(DoorwardError):
    """Training was stopped from outside; the message names the checkpoint to resume from."""


class IntegrityError(DoorwardError):
    """A signature, digest, commitment or Merkle path does not fit: do not trust the file."""


class KeyRefused(DoorwardError):
    """A key cannot be unsealed: wrong passphrase, or a damaged key file."""


class EndpointFailed(DoorwardError):
    """A model behind HTTP does not answer, or answers nonsense."""
