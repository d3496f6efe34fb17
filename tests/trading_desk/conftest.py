"""A seller, a buyer and a stranger."""

import pytest

from doorward.bundles.identity import Identity


@pytest.fixture(scope="session")
def ada():
    return Identity.new("Ada")


@pytest.fixture(scope="session")
def bob():
    return Identity.new("Bob")


@pytest.fixture(scope="session")
def eve():
    return Identity.new("Eve")
