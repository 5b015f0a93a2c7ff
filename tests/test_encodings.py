"""Every text file is opened with its encoding; the default is that of the user's locale."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("optax_gc", "train", "configs", "benchmarks")
FILES = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
OPENERS = {"open", "read_text", "write_text", "fdopen", "TextIOWrapper"}
NOT_TEXT = {"os", "Image"}  # os.open() and Image.open()


def without_encoding(source):
    """Return the lines of the calls that open a text file without an encoding."""
    return [call.lineno for call in ast.walk(ast.parse(source)) if _lacks_encoding(call)]


def _lacks_encoding(call):
    if not isinstance(call, ast.Call):
        return False
    function = call.func
    name = getattr(function, "attr", getattr(function, "id", None))
    owner = getattr(getattr(function, "value", None), "id", None)
    if name not in OPENERS or (name == "open" and owner in NOT_TEXT):
        return False
    texts = [part.value for part in call.args if isinstance(part, ast.Constant)]
    is_binary = any(isinstance(text, str) and "b" in text and len(text) < 4 for text in texts)
    has_encoding = any(keyword.arg == "encoding" for keyword in call.keywords)
    # The encoding is the fourth argument of open(), and the first or second of the others.
    return not (is_binary or has_encoding or (name == "open" and len(call.args) > 3))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_text_files_have_an_encoding(file):
    assert without_encoding(file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("open(file)", [1]),
        ("open(file, 'w')", [1]),
        ("\npath.read_text()", [2]),
        ("path.write_text('b')\npath.open('a')", [2]),
        ("open(file, 'rb')\npath.open('wb')\nos.open(file, 0)", []),
        ("path.read_text(encoding='utf-8')\nopen(2, 'w', 1, 'utf-8')", []),
    ],
)
def test_missing_encoding_is_found(source, lines):
    assert without_encoding(source) == lines
