"""Run the examples in the docstrings, and check `__all__`."""

import doctest
import importlib
import pkgutil

import pytest

import optax_gc

_MODULES = [f"optax_gc.{module.name}" for module in pkgutil.iter_modules(optax_gc.__path__)]


@pytest.mark.parametrize("name", _MODULES)
def test_docstring_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize("module", [optax_gc, optax_gc.diagnostics, optax_gc.official])
def test_public_names_exist(module):
    assert all(hasattr(module, name) for name in module.__all__)
