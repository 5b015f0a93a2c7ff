"""Every example in the public docstrings and in the documents runs."""

import doctest
import importlib
import pathlib
import pkgutil

import pytest

import optax_gc

_MODULES = [f"optax_gc.{module.name}" for module in pkgutil.iter_modules(optax_gc.__path__)]
_ROOT = pathlib.Path(__file__).parents[2]
_DOCUMENTS = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("name", _MODULES)
def test_docstring_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize("path", _DOCUMENTS, ids=lambda path: path.name)
def test_document_examples(path):
    failed, _ = doctest.testfile(str(path), module_relative=False, encoding="utf-8")
    assert failed == 0


def test_modules_are_attributes():
    assert callable(optax_gc.official.sgd_gc)
    assert callable(optax_gc.diagnostics.removed_fraction)
