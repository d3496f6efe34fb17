"""Public draws by a hash: nobody has picked the numbers, and everybody can draw them again.

>>> draw(b"all that the draw depends on", population=10, count=4)
(6, 5, 1, 0)
"""

from __future__ import annotations

import hashlib

from doorward.randomness import Secret

__all__ = ["draw"]


def draw(transcript: bytes, population: int, count: int) -> tuple[int, ...]:
    """Draw different numbers below `population` (Fiat and Shamir 1986: a hash is the verifier).

    HMAC-SHA256 stands in for the random oracle; numbers are exactly uniform (rejection sampling),
    and drawn without replacement (Fisher and Yates).

    Args:
        transcript: all that the draw shall depend on, encoded without ambiguity.
        population: 1 or more.
        count: how many, at most `population`.

    Returns:
        The numbers in the order of the draw.
    """
    oracle = Secret(hashlib.sha256(b"doorward draw\0" + transcript).digest())
    left = list(range(population))
    for place in range(count):
        other = place + oracle.integer(place.to_bytes(4, "big"), population - place)
        left[place], left[other] = left[other], left[place]
    return tuple(left[:count])
