"""Every example in the public docstrings and in the documentation runs."""

import doctest
import importlib
import pathlib
import pkgutil
import re

import pytest

import optax_gc

_MODULES = [f"optax_gc.{module.name}" for module in pkgutil.iter_modules(optax_gc.__path__)]
_ROOT = pathlib.Path(__file__).parents[2]
_PAGES = [_ROOT / "README.md", *sorted(_ROOT.glob("docs/*.md"))]


class _MarkdownParser(doctest.DocTestParser):
    """Takes the fence after an example for the end of its output."""

    def parse(self, string, name="<string>"):
        return super().parse(re.sub(r"^```.*$", "", string, flags=re.MULTILINE), name)


@pytest.mark.parametrize("name", _MODULES)
def test_docstring_examples(name):
    failed, _ = doctest.testmod(importlib.import_module(name))
    assert failed == 0


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_examples_in_the_documentation(page):
    failed, _ = doctest.testfile(
        str(page), module_relative=False, parser=_MarkdownParser(), encoding="utf-8"
    )
    assert failed == 0


def test_modules_are_attributes():
    assert callable(optax_gc.official.sgd_gc)
    assert callable(optax_gc.diagnostics.removed_fraction)
