"""People who trade by commands: their files in the current folder, and a desk that is served."""

from __future__ import annotations

import json

import typer
from typer.testing import CliRunner

from doorward.bundles import Identity
from doorward.cli import desk as desk_commands
from doorward.cli import trade
from doorward.cli.root import Root

app = typer.Typer(cls=Root)  # the whole tree of commands is slow to build for every call
app.add_typer(trade.group, name="trade")
app.add_typer(desk_commands.group, name="desk")

PHRASE = "correct horse"


def people():
    """Ada's and Bob's identities, under a seal that is quick to open."""
    for name in ("ada", "bob"):
        identity = Identity.new(name.title())
        identity.seal(f"{name}.key", PHRASE, log2_n=4)
        identity.public.save(f"{name}.pub.json")


class Town:
    def __init__(self, url, desk):
        self.url, self.desk = url, desk

    def run(self, *words, who=None, code=0):
        environment = {
            "DOORWARD_PASSPHRASE": PHRASE, "DOORWARD_DESK": self.url,
            "DOORWARD_DESK_FINGERPRINT": self.desk.fingerprint,
            "DOORWARD_IDENTITY": f"{who}.key" if who else None,
        }  # fmt: skip
        words = [str(word) for word in words]
        result = CliRunner(env=environment).invoke(app, [*words, "--json"])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == code, result.output
        return json.loads(result.stdout)

    def open_accounts(self):
        for who in ("ada", "bob"):
            account = self.run("trade", "register", who=who)["fingerprint"]
            payment = ["--credit", "60.00", "--reference", f"receipt {who}"]
            assert self.run("desk", "account", "desk", account, *payment)["cents"] == 6000
