"""What is on disk: sealed keys, signed documents, commitments.

>>> from doorward.bundles import Identity, check_document, sign_document
>>> ada = Identity.new("Ada")
>>> document = sign_document({"accuracy": 0.98}, ada, purpose="note")
>>> check_document(document, ada.public, purpose="note")
{'accuracy': 0.98}
"""

from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.merkle import (
    MerkleProof,
    MerkleTree,
    commit,
    leaf,
    verify_commitment,
    verify_proof,
)
from doorward.bundles.sealing import read_passphrase, seal, seal_file, unseal, unseal_file
from doorward.bundles.signed import check_document, read_document, sign_document, write_document
from doorward.bundles.signing import SIGNATURE, check_folder, sign_folder

__all__ = [
    "SIGNATURE",
    "Identity",
    "MerkleProof",
    "MerkleTree",
    "PublicIdentity",
    "check_document",
    "check_folder",
    "commit",
    "leaf",
    "read_document",
    "read_passphrase",
    "seal",
    "seal_file",
    "sign_document",
    "sign_folder",
    "unseal",
    "unseal_file",
    "verify_commitment",
    "verify_proof",
    "write_document",
]
