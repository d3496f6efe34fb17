import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doorward.bundles.merkle import (
    MerkleProof,
    MerkleTree,
    commit,
    leaf,
    verify_commitment,
    verify_proof,
)
from doorward.errors import IntegrityError, InvalidInput


def sha(content):
    return hashlib.sha256(content).digest()


def leaves(size):
    return [leaf(i, bytes([i]) * 16, b"content", bytes([i])) for i in range(size)]


def test_three_leaves_by_hand():
    a, b, c = leaves(3)
    salt = (16).to_bytes(8, "big") + b"\x02" * 16
    parts = (7).to_bytes(8, "big") + b"content" + (1).to_bytes(8, "big") + b"\x02"
    # prefix 0 and index 2 as 8 bytes, then salt and contents each behind their length
    assert c == sha(b"\0" + (2).to_bytes(8, "big") + salt + parts)
    top = sha(b"\1" + sha(b"\1" + a + b) + c)  # the odd leaf is promoted, not doubled
    assert MerkleTree([a, b, c]).root == sha(b"\2" + (3).to_bytes(8, "big") + top)
    assert MerkleTree([a, b, c]).proof(2).path == (sha(b"\1" + a + b).hex(),)


@given(size=st.integers(1, 70), data=st.data())
def test_every_leaf_proves_itself_and_only_itself(size, data):
    entries = leaves(size)
    tree = MerkleTree(entries)
    index = data.draw(st.integers(0, size - 1))
    proof = MerkleProof.from_dict(tree.proof(index).to_dict())
    verify_proof(tree.root, entries[index], proof)
    salt = bytes([index]) * 16
    wrong = {
        "content": leaf(index, salt, b"contenT", bytes([index])),
        "split": leaf(index, salt, b"conten", b"t", bytes([index])),
        "index": leaf(index + 1, salt, b"content", bytes([index])),
        "salt": leaf(index, b"z" * 16, b"content", bytes([index])),
        "node": sha(b"\1" + entries[0] + entries[-1]),
    }
    for entry in wrong.values():
        with pytest.raises(IntegrityError):
            verify_proof(tree.root, entry, proof)


@given(size=st.integers(1, 40), data=st.data())
def test_a_changed_proof_is_rejected(size, data):
    entries = leaves(size)
    tree = MerkleTree(entries)
    index = data.draw(st.integers(0, size - 1))
    good = tree.proof(index)
    path = list(good.path)
    changes = [
        {"size": size + 1},
        {"path": [*path, "0" * 64]},
        {"index": index + size},
        *({"index": other} for other in range(size) if other != index),
        *({"path": path[:i] + path[i + 1 :]} for i in range(len(path))),
        *({"path": [*path[:i], "0" * 64, *path[i + 1 :]]} for i in range(len(path))),
    ]
    if size > 1:
        changes.append({"size": size - 1})
    for change in changes:
        with pytest.raises(IntegrityError):
            verify_proof(
                tree.root, entries[index], MerkleProof.from_dict({**good.to_dict(), **change})
            )


@given(size=st.integers(2, 40), data=st.data())
def test_order_and_number_change_the_root(size, data):
    entries = leaves(size)
    i, j = data.draw(
        st.lists(st.integers(0, size - 1), min_size=2, max_size=2, unique=True).map(sorted)
    )
    swapped = list(entries)
    swapped[i], swapped[j] = entries[j], entries[i]
    assert MerkleTree(swapped).root != MerkleTree(entries).root
    assert MerkleTree([*entries, entries[-1]]).root != MerkleTree(entries).root


def test_bad_input():
    with pytest.raises(InvalidInput, match="at least one"):
        MerkleTree([])
    with pytest.raises(InvalidInput):
        MerkleTree([b"short"])
    with pytest.raises(InvalidInput, match="too short"):
        leaf(0, b"salt")
    with pytest.raises(InvalidInput):
        leaf(-1, b"s" * 16)
    with pytest.raises(InvalidInput, match="no leaf 3"):
        MerkleTree(leaves(3)).proof(3)
    with pytest.raises(InvalidInput):
        MerkleProof.from_dict({"index": 0, "size": 1, "path": ["zz"]})


@given(content=st.binary(), other=st.binary())
def test_commitments(content, other):
    commitment = commit(b"s" * 16, content)
    verify_commitment(commitment, b"s" * 16, content)
    assert commitment != leaf(0, b"s" * 16, content)
    with pytest.raises(IntegrityError):
        verify_commitment(commitment, b"t" * 16, content)
    if content != other:
        with pytest.raises(IntegrityError):
            verify_commitment(commitment, b"s" * 16, other)
