"""Every example in a public docstring runs."""

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


def test_modules_are_attributes():
    assert callable(optax_gc.official.sgd_gc)
    assert callable(optax_gc.diagnostics.removed_fraction)
