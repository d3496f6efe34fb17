"""Errors of the command line: one paragraph and 2 for the user's, a traceback and 3 for ours."""

import errno
import json

import pytest
import typer
from typer.testing import CliRunner

from doorward import cli
from doorward.cli.common import answer, paragraph
from doorward.cli.root import Root
from doorward.errors import MissingData


def _app(action):
    app = typer.Typer(cls=Root, pretty_exceptions_enable=False)

    @app.callback()
    def root():
        pass

    @app.command()
    def act(as_json: cli.common.Json = False):
        action()

    return app


def _raise(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MissingData("there is no x", remedy="fetch it"), "there is no x. Fetch it."),
        (KeyboardInterrupt(), "Interrupted."),
        (OSError(errno.ENOSPC, "No space left on device", "/tmp/x"), "Free space"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x"),
        (MemoryError(), "not enough memory"),
    ],
)
def test_errors_of_the_user_are_one_paragraph_and_2(error, said):
    result = CliRunner().invoke(_app(_raise(error)), ["act"])
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr


def test_errors_under_json_are_a_document():
    result = CliRunner().invoke(_app(_raise(MissingData("there is no x"))), ["act", "--json"])
    assert result.exit_code == 2
    assert json.loads(result.stdout) == {
        "error": {"kind": "MissingData", "message": "there is no x"}
    }


def test_invalid_records_name_the_field():
    from pydantic import ValidationError

    from doorward.training import Recipe

    with pytest.raises(ValidationError) as caught:
        Recipe(lr=-1)
    assert "lr: Input should be greater than 0 (given: -1)" in (paragraph(caught.value) or "")


def test_faults_of_doorward_keep_their_traceback_and_exit_with_3(monkeypatch, capsys):
    broken = _app(_raise(ZeroDivisionError("division by zero")))
    monkeypatch.setattr("sys.argv", ["doorward", "act"])
    monkeypatch.setattr("doorward.cli.root.app", broken)
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 3
    said = capsys.readouterr().err
    assert "ZeroDivisionError" in said
    assert "Traceback" in said
    assert "report it" in said


@pytest.mark.parametrize(("yes", "code"), [(True, 0), (False, 1)])
@pytest.mark.parametrize("as_json", [True, False])
def test_answers(yes, code, as_json):
    app = _app(lambda: answer({"a": 1.5}, as_json=as_json, lines=["a is 1.5"], yes=yes))
    result = CliRunner().invoke(app, ["act"])
    assert result.exit_code == code
    if as_json:
        assert json.loads(result.stdout) == {"a": 1.5}
    else:
        assert result.stdout == "a is 1.5\n"
