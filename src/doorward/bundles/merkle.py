"""Commit to many things with 32 bytes; show any one of them later, and nothing else.

>>> import secrets
>>> salts = [secrets.token_bytes(32) for _ in range(5)]
>>> tree = MerkleTree([leaf(i, salts[i], f"picture {i}".encode()) for i in range(5)])
>>> verify_proof(tree.root, leaf(3, salts[3], b"picture 3"), tree.proof(3))
>>> verify_proof(tree.root, leaf(3, salts[3], b"picture 4"), tree.proof(3))
Traceback (most recent call last):
doorward.errors.IntegrityError: leaf 3 is not under the committed root: ...

The construction is that of Merkle (1987) with the leaf and node prefixes of RFC 6962. A leaf
binds its index and a salt, so that equal contents look different and guessing is hopeless; an
odd node is promoted, never doubled; the root binds the number of leaves.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from doorward.errors import IntegrityError, InvalidInput
from doorward.records import STRICT, Record

__all__ = ["MerkleProof", "MerkleTree", "commit", "leaf", "verify_commitment", "verify_proof"]

_LEAF, _NODE, _ROOT, _COMMITMENT = b"\0", b"\1", b"\2", b"\3"
_MAX_LEAVES = 2**40


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MerkleProof(Record):
    """The way from one leaf to the root.

    Attributes:
        index: which leaf, from 0.
        size: number of leaves in the tree.
        path: the sibling hashes from the bottom to the top, as hex; levels at which the node is
            promoted have none.
    """

    index: Annotated[int, Field(ge=0, strict=True)]
    size: Annotated[int, Field(ge=1, le=_MAX_LEAVES, strict=True)]
    path: Annotated[
        tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")], ...], Field(max_length=64)
    ]


def leaf(index: int, salt: bytes, *content: bytes) -> bytes:
    """Hash of one leaf: SHA-256 of prefix 0, index, salt and contents, each with its length.

    Args:
        index: place in the tree, from 0.
        salt: secret, at least 16 bytes, fresh or derived for each leaf.
        content: any number of byte strings; ("ab",) and ("a", "b") are different leaves.

    Returns:
        32 bytes.

    Raises:
        InvalidInput: negative index or short salt.
    """
    if not 0 <= index < _MAX_LEAVES:
        raise InvalidInput(f"leaf index {index} is not in 0..2**40-1")
    return _hash(_LEAF + index.to_bytes(8, "big"), _checked(salt), *content)


class MerkleTree:
    """All levels of a tree over given leaf hashes.

    Args:
        leaves: 32-byte hashes from `leaf`, in order, at least one.

    Raises:
        InvalidInput: no leaves, or one that is not 32 bytes.
    """

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not leaves or any(len(entry) != 32 for entry in leaves):
            raise InvalidInput(
                "a Merkle tree needs at least one leaf, each of 32 bytes",
                remedy="make them with doorward.bundles.leaf",
            )
        self._levels = [list(leaves)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            level = [_join(*below[i : i + 2]) for i in range(0, len(below) - 1, 2)]
            self._levels.append(level + below[len(below) & ~1 :])

    def __len__(self) -> int:
        return len(self._levels[0])

    @property
    def root(self) -> bytes:
        """The 32-byte commitment to all leaves, their order and their number."""
        return _top(len(self), self._levels[-1][0])

    def proof(self, index: int) -> MerkleProof:
        """The path that shows leaf `index` to be under `root`.

        Raises:
            InvalidInput: there is no such leaf.
        """
        if not 0 <= index < len(self):
            raise InvalidInput(f"there is no leaf {index}", why=f"the tree has {len(self)}")
        path, place = [], index
        for level in self._levels[:-1]:
            if place ^ 1 < len(level):
                path.append(level[place ^ 1].hex())
            place >>= 1
        return MerkleProof(index=index, size=len(self), path=tuple(path))


def verify_proof(root: bytes, entry: bytes, proof: MerkleProof) -> None:
    """Check that a leaf stands at its place under a root.

    Args:
        root: `MerkleTree.root`, from where the owner published it.
        entry: the leaf hash, recomputed with `leaf` from index, salt and content shown.
        proof: the path. Check that ``proof.index`` is the index you asked about.

    Raises:
        IntegrityError: it does not.
    """
    siblings = [bytes.fromhex(step) for step in proof.path]
    node, place, width = entry, proof.index, proof.size
    used = 0
    while width > 1 and place < width:
        if place ^ 1 < width:
            if used == len(siblings):
                break
            pair = (siblings[used], node) if place & 1 else (node, siblings[used])
            node, used = _join(*pair), used + 1
        place, width = place >> 1, (width + 1) >> 1
    complete = width == 1 and place == 0 and used == len(siblings)
    if not (complete and hmac.compare_digest(_top(proof.size, node), root)):
        raise IntegrityError(
            f"leaf {proof.index} is not under the committed root",
            why="its content, index, salt or path was changed",
            remedy="do not trust it",
        )


def commit(salt: bytes, *content: bytes) -> bytes:
    """Commit to one content: binding (SHA-256) and hiding (the salt is secret).

    >>> verify_commitment(commit(b"s" * 16, b"heads"), b"s" * 16, b"heads")
    """
    return _hash(_COMMITMENT, _checked(salt), *content)


def verify_commitment(commitment: bytes, salt: bytes, *content: bytes) -> None:
    """Check an opened commitment.

    Raises:
        IntegrityError: the content or the salt is not the one committed to.
    """
    if not hmac.compare_digest(commit(salt, *content), commitment):
        raise IntegrityError(
            "the content does not fit its commitment",
            why="content or salt was changed",
            remedy="do not trust it",
        )


def _hash(prefix: bytes, *parts: bytes) -> bytes:
    state = hashlib.sha256(prefix)
    for part in parts:
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.digest()


def _join(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


def _top(size: int, node: bytes) -> bytes:
    return hashlib.sha256(_ROOT + size.to_bytes(8, "big") + node).digest()


def _checked(salt: bytes) -> bytes:
    if len(salt) < 16:
        raise InvalidInput(
            f"a salt of {len(salt)} bytes is too short",
            why="a short salt can be guessed, and with it the content",
            remedy="use secrets.token_bytes(32) or Secret.derive",
        )
    return salt
