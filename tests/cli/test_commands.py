"""Every command, walked: help with a working example, --json, exit codes that are documented."""

import shlex
import subprocess
import sys

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from doorward.cli import app


def walk(command, path=("doorward",)):
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, (*path, name))


EVERYTHING = [
    pytest.param(path, command, id=" ".join(path)) for path, command in walk(get_command(app))
]
COMMANDS = [entry for entry in EVERYTHING if not hasattr(entry.values[1], "commands")]


def test_the_commands_of_the_design_exist():
    found = {" ".join(entry.values[0][1:]) for entry in COMMANDS}
    assert found == {
        "demo", "train", "eval", "sign", "check", "convert", "poison", "steal",
        "scan", "purge", "remove", "distance", "harden",
        "data list", "data fetch", "data show", "keys new", "keys show",
        "watermark keygen", "watermark embed", "watermark claim", "watermark verify",
        "watermark verify-blended",
        "watermark check-transcript",
        "watermark paper keygen", "watermark paper mark", "watermark paper verify",
        "watermark challenge", "watermark cut-and-choose", "watermark disclose",
        "watermark inspect", "watermark judge", "watermark status",
        "watermark attack", "watermark certify", "watermark dispute", "watermark false-claims",
        "watermark stamp-request", "watermark witness", "watermark case", "watermark check-case",
        "watermark copy", "watermark trace", "watermark buyers show", "watermark buyers commit",
        "watermark buyers receipt", "watermark buyers check",
        "bench list", "bench run", "bench report",
        "desk account", "desk count", "desk init", "desk rule", "desk serve", "desk verify",
        "export onnx",
        "gateway evidence check", "gateway evidence find", "gateway evidence moves",
        "gateway reference", "gateway tenant add", "gateway tenant list", "gateway tenant place",
        "gateway tenant revoke",
        "honeypot claim", "honeypot fit", "honeypot keygen", "honeypot verify",
        "serve",
        "trade accept", "trade deposit", "trade dispute", "trade evaluate",
        "trade evaluate-report", "trade list", "trade lock", "trade offers", "trade opened",
        "trade pay", "trade receiver", "trade register", "trade reveal", "trade seal",
        "trade status", "trade trace", "trade trial", "trade unlock", "trade withdraw",
    }  # fmt: skip


@pytest.mark.parametrize(("path", "command"), EVERYTHING)
def test_help_shows_an_example(path, command):
    result = CliRunner().invoke(app, [*path[1:], "--help"])
    assert result.exit_code == 0
    assert f"Example: {' '.join(path)}" in " ".join(result.stdout.split())


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_the_example_is_a_possible_call(path, command):
    words = shlex.split(command.epilog.removeprefix("Example: "))
    arguments = words[len(path) :]
    assert words[: len(path)] == list(path)
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in arguments if word.startswith("--")} <= known
    required = [p for p in command.params if p.required and p.param_type_name == "option"]
    assert all(set(option.opts) & set(arguments) for option in required)


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_every_command_takes_json_and_describes_its_options(path, command):
    options = {name for parameter in command.params for name in parameter.opts}
    assert "--json" in options
    assert all(parameter.help for parameter in command.params)


@pytest.mark.parametrize("words", [["train", "--nonsense"], ["nonsense"], ["train"], []])
def test_wrong_calls_exit_with_2(words):
    assert CliRunner().invoke(app, words).exit_code == 2


def test_help_does_not_load_torch():
    code = "import sys, doorward, doorward.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_version():
    import doorward

    assert CliRunner().invoke(app, ["--version"]).stdout == f"doorward {doorward.__version__}\n"


def test_completion_proposes_names(monkeypatch):
    from doorward.cli.options import _complete_architecture
    from doorward.cli.poison import _complete_attack

    assert "resnet8" in _complete_architecture("resn")
    assert "vgg11-bn" not in _complete_architecture("resn")
    assert "badnets" in _complete_attack("bad")


def test_completion_script_is_printed():
    environment = {"_DOORWARD_COMPLETE": "source_bash"}
    code = "import sys; sys.argv = ['doorward']; from doorward.cli import main; main()"
    import os

    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert "complete" in done.stdout
