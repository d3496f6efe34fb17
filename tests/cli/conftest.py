"""Tiny models through the command line: digits at 16 pixels, a network four channels wide."""

import json

import pytest
from typer.testing import CliRunner

from doorward.cli import app

TINY = ["--size", "16", "--option", "width=4", "--batch-size", "128", "--epochs", "1"]
DIGITS = ["--data", "digits", *TINY]


@pytest.fixture(scope="session")
def doorward():
    """Run a command; check its exit code; give its JSON document, or the whole result."""

    def call(*words, code=0, parse=True):
        words = [str(word) for word in words]
        result = CliRunner(env={"DOORWARD_PASSPHRASE": "correct horse"}).invoke(
            app, [*words, "--json"] if parse else words
        )
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.stderr
        return json.loads(result.stdout) if parse else result

    return call


@pytest.fixture(scope="session")
def house(tmp_path_factory, doorward):
    """A folder with an identity, a key, a claim, and a small trained model."""
    folder = tmp_path_factory.mktemp("house")
    doorward("keys", "new", folder / "ada.key", "--name", "Ada")
    doorward("train", *DIGITS, "--out", folder / "plain.model")
    doorward(
        "watermark", "keygen", folder / "mark.key", "--data", "digits", "--size", 16, "--n", 40,
        "--owner", folder / "ada.pub.json",
    )  # fmt: skip
    doorward(
        "watermark", "claim", folder / "mark.key", "--identity", folder / "ada.key",
        "--out", folder / "claim.json", "--alpha-bits", 20,
    )  # fmt: skip
    return folder
