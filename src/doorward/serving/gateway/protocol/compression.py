"""Bodies sent under ``Content-Encoding: gzip`` or ``deflate``, unpacked up to a limit.

>>> import gzip
>>> unpacked(gzip.compress(b"pixels"), "gzip", limit=100)
b'pixels'
>>> unpacked(gzip.compress(bytes(10**6)), "gzip", limit=100)
Traceback (most recent call last):
doorward.serving.gateway.refusals.Refusal: the body unpacks to more than 100 bytes...
"""

from __future__ import annotations

import zlib

from doorward.serving.gateway.refusals import Refusal

__all__ = ["unpacked"]

_WINDOWS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


def unpacked(body: bytes, encoding: str | None, *, limit: int) -> bytes:
    """`body` without its compression; never more than `limit` bytes are made of it.

    Args:
        body: as it came.
        encoding: the header Content-Encoding; None or ``"identity"`` for none.
        limit: bytes.

    Raises:
        Refusal: 415 for another encoding, 413 beyond the limit, 400 for damaged data.
    """
    word = (encoding or "identity").strip().lower()
    if word in ("identity", ""):
        return body
    if word not in _WINDOWS:
        raise Refusal(
            f"the encoding {word[:40]!r} is not read",
            remedy="send gzip, deflate or none",
            status=415,
        )
    unpacker = zlib.decompressobj(_WINDOWS[word])
    try:
        content = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise Refusal(f"the body is no valid {word}", why=str(error)) from error
    if len(content) > limit:
        raise Refusal(
            f"the body unpacks to more than {limit} bytes", remedy="send fewer images", status=413
        )
    if not unpacker.eof:
        raise Refusal(f"the body is no valid {word}", why="it ends too early")
    return content
