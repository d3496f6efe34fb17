"""Small digits and models that several tests of the honeypot share."""

from __future__ import annotations

import pytest

from doorward.data import ImageData, load


@pytest.fixture(scope="session")
def leaning_digits() -> ImageData:
    """300 digits of 16x16 pixels."""
    return load("digits").sample(300, seed=0).resized(16)
