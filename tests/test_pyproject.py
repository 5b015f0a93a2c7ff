"""The declared versions: no caps for the library, and floors that the workflow tests."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
TRAINER = PROJECT["optional-dependencies"]["train"]


def floors(requirements):
    """Return the lower bound of each requirement that has one."""
    matches = (re.match(r"([\w-]+)\s*>=\s*([\w.]+)", text) for text in requirements)
    return {match[1]: match[2] for match in matches if match}


def pins(name):
    text = (ROOT / ".github" / "floor" / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w-]+)==([\w.]+)$", text, re.M))


def numbers(version):
    parts = [int(part) for part in version.split(".")]
    return parts + [0] * (4 - len(parts))


@pytest.mark.parametrize("requirement", PROJECT["dependencies"])
def test_library_has_no_upper_cap(requirement):
    assert not re.search(r"<|==|~=", requirement)


def test_trainer_caps_orbax_alone():
    capped = [text for text in TRAINER if "<" in text]
    assert len(capped) == 1
    assert capped[0].startswith("orbax-checkpoint")
    assert capped[0].endswith("<1")


@pytest.mark.parametrize(
    ("file", "requirements"),
    [("library.txt", PROJECT["dependencies"]), ("trainer.txt", PROJECT["dependencies"] + TRAINER)],
)
def test_workflow_tests_the_floors(file, requirements):
    declared, pinned = floors(requirements), pins(file)
    assert declared.keys() <= pinned.keys()
    assert {name: numbers(pinned[name]) for name in declared} == {
        name: numbers(version) for name, version in declared.items()
    }


def test_every_supported_python_is_tested():
    workflow = (ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8")
    for version in ("3.11", "3.12", "3.13", "3.14"):
        assert f'"{version}"' in workflow
    assert "schedule:" in workflow
