"""The versions in pyproject.toml, and the workflow that tests them."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
TRIGGERS = WORKFLOW[True]  # YAML reads the key `on` as a boolean
JOBS = WORKFLOW["jobs"]

LIBRARY = PROJECT["dependencies"]
EXTRAS = [entry for entries in PROJECT["optional-dependencies"].values() for entry in entries]
TRAINER = LIBRARY + PROJECT["optional-dependencies"]["train"]
MAY_BE_CAPPED = {"orbax-checkpoint", "transformers"}  # docs/development/versions.md: why


def is_capped(requirement):
    """Return whether a requirement forbids later versions."""
    operators = {part.operator for part in Requirement(requirement).specifier}
    return not operators <= {">=", ">", "!="}


def lower_bounds(requirements):
    """Return the highest lower bound of each package that has one."""
    bounds = {}
    for requirement in map(Requirement, requirements):
        for part in requirement.specifier:
            if part.operator == ">=":
                bounds.setdefault(requirement.name, []).append(part.version)
    return {name: max(versions, key=Version) for name, versions in bounds.items()}


def pinned(name):
    """Return the version of each pinned package in a file of .github/floor."""
    text = (ROOT / ".github/floor" / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^(\S+)==(\S+)$", text, re.MULTILINE))


def commands(job):
    return [line for step in JOBS[job]["steps"] for line in step.get("run", "").splitlines()]


# Upper caps


@pytest.mark.parametrize(
    "requirement", ["jax<0.13", "jax>=0.7,<=1", "jax~=0.10", "jax==0.10.*", "jax===0.10.0"]
)
def test_cap_is_recognized(requirement):
    assert is_capped(requirement)


@pytest.mark.parametrize("requirement", LIBRARY)
def test_no_dependency_of_the_library_is_capped(requirement):
    assert not is_capped(requirement)


def test_only_named_dependencies_of_extras_are_capped():
    assert {Requirement(entry).name for entry in EXTRAS if is_capped(entry)} == MAY_BE_CAPPED


# Lower bounds


@pytest.mark.parametrize(
    ("file", "requirements"), [("library.txt", LIBRARY), ("trainer.txt", TRAINER)]
)
def test_floor_job_pins_the_lower_bounds(file, requirements):
    pins, bounds = pinned(file), lower_bounds(requirements)
    assert pins.pop("jaxlib") == pins["jax"]
    assert pins == bounds


# The workflow


def test_workflow_tests_every_python():
    pythons = JOBS["test"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    assert PROJECT["requires-python"] == f">={pythons[0]}"


def test_newest_versions_are_tested_weekly():
    assert re.fullmatch(r"\d+ \d+ \* \* \d", TRIGGERS["schedule"][0]["cron"])
    assert "schedule" in JOBS["newest"]["if"]
    assert [command for command in commands("newest") if "--upgrade-strategy eager" in command]


@pytest.mark.parametrize("job", JOBS)
def test_commands_name_what_exists(job):
    makefile = (ROOT / "Makefile").read_text()
    for command in commands(job):
        for target in re.findall(r"^make (\w+)", command):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), command
        for path in re.findall(r"(?:--requirement|--constraint|-m pytest) ([\w./]+)", command):
            assert (ROOT / path).exists(), command
        for extra in re.findall(r"\.\[(\w+)\]", command):
            assert extra in PROJECT["optional-dependencies"], command
