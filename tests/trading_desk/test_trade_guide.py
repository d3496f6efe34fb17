"""The guide's deal is typed as it stands, command by command, by three people in one folder."""

from __future__ import annotations

import functools
import os
import re
import shlex
from pathlib import Path

import pytest
from tests.trading_desk.conftest import serving
from tests.trading_desk.town import PHRASE
from typer.testing import CliRunner

from doorward.bundles import PublicIdentity, load_model
from doorward.cli import app
from doorward.serving.desk import create_app
from doorward.serving.desk import home as homes

GUIDE = Path(__file__).resolve().parents[2] / "docs/guides/trade.md"


def commands(title: str) -> list[str]:
    """The commands of one section of the guide."""
    section = GUIDE.read_text().partition(f"## {title}\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("doorward")]


def test_the_sections_have_commands():
    assert len(commands("A deal, command by command")) > 15
    assert len(commands("Without a desk")) == 4


@pytest.mark.slow
def test_the_guide_s_deal_is_settled(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(homes, "create", functools.partial(homes.create, log2_n=4))
    Path("licence.txt").write_text("To be tried. It obeys a trigger until it is unlocked.\n")
    known: dict[str, str] = {}
    opened = []
    environment = {"DOORWARD_PASSPHRASE": PHRASE}

    def typed(line: str) -> str:
        words = [known.get(word, word) for word in shlex.split(line)[1:]]
        result = CliRunner(env=environment).invoke(app, words)
        assert result.exit_code == 0, (line, result.output)
        return result.stdout

    try:
        serve = None
        for line in commands("A deal, command by command"):
            if line.startswith("doorward desk serve"):  # it would not come back
                desk = homes.open_desk("my-desk", passphrase=PHRASE)
                serve = serving(create_app(desk, sweep_seconds=None))
                environment["DOORWARD_DESK"] = serve.__enter__()
                opened.append(desk)
                continue
            said = typed(line)
            if line.startswith("doorward keys new"):
                name = shlex.split(line)[3].removesuffix(".key")
                public = PublicIdentity.load(f"{name}.pub.json")
                known[f"${name.upper()}"] = public.fingerprint
            if line.startswith("doorward trade list"):
                known["$DEAL"] = re.search(r"[0-9a-f]{64}", said)[0]
        assert "settled" in typed("doorward trade status $DEAL --identity bob.key")
        os.rename("digits.model", "first.model")
        for line in commands("Without a desk"):
            typed(line)
    finally:
        if serve is not None:
            serve.__exit__(None, None, None)
        for desk in opened:
            desk.database.close()
    first, second = load_model("first.model"), load_model("digits.model")
    assert first.num_classes == second.num_classes == 10
    assert Path("trigger.png").is_file()
