"""The layers of the trainer: no module imports upwards or in a circle."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LAYERS = [  # from low to high; modules of one line may import each other, but not in a circle
    {"train.errors"},
    {"train.tfds_names"},
    {"train.config", "train.runtime"},
    {"train.data"},
    {"train.models"},
    {"train.tasks"},
    {"train.engine"},
    {"train.output"},
    {"train.checkpoints"},
    {"train.experiment"},
    {"train.loop", "train.trained"},
    {"train.studies"},
    {"train.cli", "train.trained_command"},
    {
        "train.__main__",
        "train.aot",
        "train.evaluate",
        "train.export",
        "train.predict",
        "train.prepare",
        "train.study",
    },
]


def module_name(file):
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(file): file for file in sorted(ROOT.glob("train/**/*.py"))}


def imports(file):
    """Return the modules of the trainer that a file imports, in functions too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else node.module for name in names}
    return {name for name in found if name.partition(".")[0] == "train"}


def layer(name):
    return next(
        index
        for index, packages in enumerate(LAYERS)
        for package in packages
        if name == package or name.startswith(f"{package}.")
    )


@pytest.mark.parametrize("name", [name for name in FILES if name != "train"])
def test_no_import_upwards(name):
    upwards = [other for other in imports(FILES[name]) if layer(other) > layer(name)]
    assert not upwards


def test_no_circular_import():
    graph = {name: imports(file) - {name} for name, file in FILES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError


def test_library_does_not_import_the_trainer():
    assert not [file for file in ROOT.glob("optax_gc/**/*.py") if imports(file)]


def test_few_modules_beside_the_packages():
    assert len([file for file in ROOT.glob("train/*.py") if file.name != "__init__.py"]) <= 14
