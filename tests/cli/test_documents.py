"""README and docs: their examples run, their tables are fresh, their commands exist."""

import contextlib
import dataclasses
import importlib.util
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from doorward.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def _blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL)


def _module(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def short_recipes(monkeypatch):
    """Two steps instead of a training: the examples must run, not shine."""
    import doorward.watermark.embedding as embedding

    known = embedding.recipe_for
    short = lambda *names: dataclasses.replace(known(*names), max_steps=2)  # noqa: E731
    monkeypatch.setattr(embedding, "recipe_for", short)


EXAMPLES = [
    pytest.param(code, id=f"{path.stem}-{number}")
    for path in PAGES
    for number, code in enumerate(_blocks(path, "python"))
    if "import doorward" in code
]


@pytest.mark.parametrize("code", EXAMPLES)
def test_python_examples_run(code, short_recipes):
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "example", "exec"), {})
    if "explain()" in code:
        assert "VERIFIED" in said.getvalue()


def test_the_readme_has_an_example_of_ten_lines():
    (code,) = _blocks(ROOT / "README.md", "python")
    assert len([line for line in code.splitlines() if line.strip()]) <= 10


@pytest.mark.slow
def test_the_readme_s_example_proves_the_mark():
    (code,) = _blocks(ROOT / "README.md", "python")
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(code, "example", "exec"), {})
    assert "\nVERIFIED" in said.getvalue()


def test_the_tables_of_the_readme_are_fresh():
    tables = _module("tables")
    text = (ROOT / "README.md").read_text()
    assert tables.fill(text) == text, "run: make tables"
    stale = text.replace("`resnet8`", "`resnet9`")
    assert tables.fill(stale) == text


def test_tables_list_what_is_registered_and_nothing_else():
    from doorward.models import ARCHITECTURES

    tables = _module("tables")
    listed = re.findall(r"^\| `([^`]+)`", tables.architectures(), re.MULTILINE)
    assert listed == ARCHITECTURES.names()
    for name in re.findall(r"^\| `([^`]+)`", tables.systems(), re.MULTILINE):
        assert importlib.util.find_spec(f"doorward.{name}") is not None


def _calls():
    for path in PAGES:
        for block in _blocks(path, "sh"):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:1] == ["doorward"]:
                    yield pytest.param(words[1:], id=f"{path.stem}: {' '.join(words)}")


@pytest.mark.parametrize("words", list(_calls()))
def test_commands_in_the_documents_exist(words):
    command = get_command(app)
    while getattr(command, "commands", None) and words and not words[0].startswith("-"):
        assert words[0] in command.commands
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known | {"--help"}


def test_docstring_examples_become_code_blocks():
    fenced = _module("docstrings").fenced
    assert fenced("A::\n\n    x = 1\n") == "A:\n\n    x = 1\n"
    assert fenced(">>> 1\n1\n\nB") == "```pycon\n>>> 1\n1\n```\n\nB"
    assert fenced("  >>> 1\n  1") == "  ```pycon\n  >>> 1\n  1\n  ```"


def test_the_site_builds_strictly(tmp_path):
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={"NO_MKDOCS_2_WARNING": "1", "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "index.html").read_text()
    loaded = re.findall(r'<(?:script|img|link)[^>]+(?:src|href)="(https?:[^"]+)"', page)
    assert loaded == []
    assert "resnet8" in (tmp_path / "guides" / "train" / "index.html").read_text()
