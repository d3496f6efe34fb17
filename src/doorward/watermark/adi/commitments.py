"""Com and Open: one salted hash for each picture and each label, 2n in all.

>>> import torch
>>> salt, picture = bytes(32), torch.zeros(1, 8, 8, dtype=torch.uint8)
>>> seen = commit_picture(0, salt, picture)
>>> opens_picture(seen, 0, salt, picture), opens_picture(seen, 1, salt, picture)
(True, False)

Binding: a second opening is a collision of SHA-256. Hiding: the salts are 32 secret random bytes.
The paper asks for *statistically* hiding commitments, which not even unlimited computing power
opens; salted hashes are *computationally* hiding (and ideal in the random-oracle model). Kinds and
places are told apart (a label's commitment fits no picture, picture 3's does not fit place 4).
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from torch import Tensor

from doorward.bundles import commit

__all__ = [
    "SALT_BYTES",
    "commit_label",
    "commit_picture",
    "digest_of",
    "opens_label",
    "opens_picture",
]

SALT_BYTES = 32

_PICTURE, _LABEL = b"doorward adi-2018 picture", b"doorward adi-2018 label"


def commit_picture(index: int, salt: bytes, picture: Tensor) -> bytes:
    """``Com(t_i, rt_i)``: 32 bytes that bind to a picture, its shape and its place.

    Args:
        index: i, from 0.
        salt: rt_i, 32 secret random bytes.
        picture: uint8 ``(C, H, W)``.
    """
    pixels = picture.cpu().contiguous().numpy().tobytes()
    shape = b"".join(_number(side) for side in picture.shape)
    return commit(salt, _PICTURE, _number(index), shape, pixels)


def commit_label(index: int, salt: bytes, label: int) -> bytes:
    """``Com(l_i, rl_i)``: 32 bytes that bind to a label and its place.

    Args:
        index: i, from 0.
        salt: rl_i, 32 secret random bytes.
        label: l_i, 0 or more.
    """
    return commit(salt, _LABEL, _number(index), _number(label))


def opens_picture(commitment: bytes, index: int, salt: bytes, picture: Tensor) -> bool:
    """``Open(ct_i, t_i, rt_i)``."""
    return hmac.compare_digest(commitment, commit_picture(index, salt, picture))


def opens_label(commitment: bytes, index: int, salt: bytes, label: int) -> bool:
    """``Open(cl_i, l_i, rl_i)``."""
    return hmac.compare_digest(commitment, commit_label(index, salt, label))


def digest_of(pictures: Sequence[str], labels: Sequence[str]) -> str:
    """One hash, hex, over all 2n commitments, given as hex."""
    text = "".join([*pictures, *labels])
    return hashlib.sha256(b"doorward adi-2018 key\0" + bytes.fromhex(text)).hexdigest()


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
