"""What is on disk: model folders, sealed keys, signatures, evidence.

A model becomes a folder that names its own content, and comes back from it:

>>> import tempfile, pathlib
>>> from doorward.bundles import Identity, check_folder, digest, load_model, save_model, sign_folder
>>> from doorward.models import create
>>> folder = pathlib.Path(tempfile.mkdtemp()) / "digits.model"
>>> card = save_model(create("resnet8", classes=10, width=4), folder, licence="Apache-2.0")
>>> load_model(folder).architecture, digest(folder) == card.digest()
('resnet8', True)

Its owner signs the folder (OpenSSF model signing), others check it:

>>> ada = Identity.new("Ada")                 # ada.seal("ada.key", passphrase) stores it
>>> _ = sign_folder(folder, ada)
>>> check_folder(folder, ada.public)
('model.json', 'model.safetensors')

Claims are signed JSON documents; many facts are committed to with one Merkle root:

>>> from doorward.bundles import check_document, sign_document
>>> claim = sign_document({"model": digest(folder)}, ada, purpose="claim")
>>> check_document(claim, ada.public, purpose="claim") == {"model": card.digest()}
True

`open_model` and `open_black_box` open whatever a user names; `convert` turns foreign checkpoints
into folders. Nothing is ever unpickled.
"""

from doorward.bundles.card import ModelCard, read_card
from doorward.bundles.convert import convert, read_checkpoint
from doorward.bundles.identity import Identity, PublicIdentity
from doorward.bundles.loading import digest, load_model, load_module, read_evidence
from doorward.bundles.merkle import (
    MerkleProof,
    MerkleTree,
    commit,
    leaf,
    verify_commitment,
    verify_proof,
)
from doorward.bundles.opening import open_black_box, open_model
from doorward.bundles.saving import save_model
from doorward.bundles.sealing import read_passphrase, seal, seal_file, unseal, unseal_file
from doorward.bundles.signed import check_document, read_document, sign_document, write_document
from doorward.bundles.signing import SIGNATURE, check_folder, sign_folder

__all__ = [
    "SIGNATURE",
    "Identity",
    "MerkleProof",
    "MerkleTree",
    "ModelCard",
    "PublicIdentity",
    "check_document",
    "check_folder",
    "commit",
    "convert",
    "digest",
    "leaf",
    "load_model",
    "load_module",
    "open_black_box",
    "open_model",
    "read_card",
    "read_checkpoint",
    "read_document",
    "read_evidence",
    "read_passphrase",
    "save_model",
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
