"""What a row of evidence holds, and the digest that chains it to the one before.

>>> row = Row(number=1, time=0, kind="answer", tenant="ada", account="ada", count=0, facts="{}",
...           queries=b"", answers=b"")
>>> row.digest(GENESIS).hex()[:8]
'71a75095'
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from doorward.files import canonical_json

__all__ = ["GENESIS", "HASH_BYTES", "Row"]

GENESIS = hashlib.sha256(b"doorward gateway evidence 1").digest()
"""What the first row is chained to."""

HASH_BYTES = 32


@dataclass(frozen=True)
class Row:
    """One row.

    Args:
        number: 1, 2, 3 ... without a gap.
        time: microseconds since 1970, UTC.
        kind: ``"answer"``, or ``"move"`` of a tenant to another stage.
        tenant: name.
        account: the tenant's, or its group's.
        count: images.
        facts: canonical JSON: what answered, under which policy, or why the tenant was moved.
        queries: salted hashes of the images, 32 bytes each.
        answers: salted hashes of what each was answered.
    """

    number: int
    time: int
    kind: str
    tenant: str
    account: str
    count: int
    facts: str
    queries: bytes
    answers: bytes

    def digest(self, previous: bytes) -> bytes:
        """SHA-256 of the row before and of everything in this one."""
        named = [self.number, self.time, self.kind, self.tenant, self.account, self.count]
        content = hashlib.sha256(previous)
        content.update(canonical_json([*named, self.facts]))
        content.update(hashlib.sha256(self.queries).digest())
        content.update(hashlib.sha256(self.answers).digest())
        return content.digest()
