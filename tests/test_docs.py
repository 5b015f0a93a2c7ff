"""The documentation: examples run, and links, paths, commands and field names are right."""

import collections
import doctest
import importlib.util
import json
import pathlib
import re

import jax
import pytest
from ml_collections import ConfigDict

from train import models
from train.config import default_config, validate
from train.studies.config import default_study, validate_study

_ROOT = pathlib.Path(__file__).parents[1]
_INDEX = _ROOT / "docs" / "index.md"
_SITE = _ROOT / "mkdocs.yml"
_PAGES = [_ROOT / "README.md", _ROOT / "CONTRIBUTING.md", *sorted(_ROOT.glob("docs/**/*.md"))]
_README_WORDS = 600

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE_CODE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^()\s]+)\)|^\[[^\]]+\]: (\S+)$", re.MULTILINE)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
# Placeholders are in upper case, so they do not match.
_FOLDERS = "optax_gc|train|configs|tests|benchmarks|results|docs"
_PATH = re.compile(rf"(?<![\w/.~-])(?:{_FOLDERS})/(?:[a-z0-9_.-]+/)*[a-z0-9_.-]*[a-z0-9_]")
_MODULE = re.compile(r"python -m (\w+(?:\.\w+)*)")
_OVERRIDE = re.compile(r"--config\.([a-z][\w.]*)")
_FIELD = re.compile(r"(?:config\.)?((\w+)\.(?!md|html)[a-z]\w*(?:\.\w+)*)(?:=.*)?")

for_each_page = pytest.mark.parametrize(
    "page", _PAGES, ids=lambda page: page.relative_to(_ROOT).as_posix()
)


class _MarkdownParser(doctest.DocTestParser):
    """Treat the fence after an example as the end of its output."""

    def parse(self, string, name="<string>"):
        return super().parse(re.sub(r"^```.*$", "", string, flags=re.MULTILINE), name)


def _without_fences(page: pathlib.Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def _links(page: pathlib.Path) -> list[str]:
    text = _INLINE_CODE.sub("", _without_fences(page))
    links = ["".join(groups) for groups in _LINK.findall(text)]
    return [link for link in links if not re.match(r"https?://", link)]


def _anchors(page: pathlib.Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    anchors, count = set(), collections.Counter()
    for heading in _HEADING.findall(_without_fences(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        anchors.add(f"{slug}-{count[slug]}" if count[slug] else slug)
        count[slug] += 1
    return anchors


def _fields(config: ConfigDict, prefix: str = "") -> set[str]:
    fields = set()
    for name, value in config.items():
        fields.add(f"{prefix}{name}")
        if isinstance(value, ConfigDict):
            fields |= _fields(value, f"{prefix}{name}.")
    return fields


_TRAINER_FIELDS = _fields(default_config())
_ALL_FIELDS = _TRAINER_FIELDS | _fields(default_study(default_config()))
_GROUPS = {name.partition(".")[0] for name in _TRAINER_FIELDS if "." in name}


def _is_field(name: str) -> bool:
    return re.sub(r"^variants\.\w+\.", "", name) in _ALL_FIELDS


@pytest.mark.slow
@for_each_page
def test_doctests_pass(page):
    # The layers of Keras and of Hugging Face promote ranks.
    promotion = "allow" if page.name == "frameworks.md" else "raise"
    with jax.numpy_rank_promotion(promotion):
        failed, _ = doctest.testfile(
            str(page), module_relative=False, parser=_MarkdownParser(), encoding="utf-8"
        )
    assert failed == 0


@for_each_page
def test_python_blocks_run(page, monkeypatch):
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))  # blocks may add a model
    for language, code in _FENCE.findall(page.read_text()):
        if language == "python" and not code.startswith(">>>"):
            names: dict = {}
            exec(compile(code, str(page), "exec"), names)
            if "get_config" in names:
                config = names["get_config"]()
                (validate_study if "base" in config else validate)(config)


@for_each_page
def test_links_have_targets(page):
    broken = []
    for link in _links(page):
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)
    assert not broken


@for_each_page
def test_named_paths_exist(page):
    missing = [path for path in _PATH.findall(page.read_text()) if not (_ROOT / path).exists()]
    assert not missing


@for_each_page
def test_commands_name_modules_and_fields(page):
    text = page.read_text()
    assert not [name for name in _MODULE.findall(text) if importlib.util.find_spec(name) is None]
    assert not [name for name in _OVERRIDE.findall(text) if not _is_field(name)]


@for_each_page
def test_named_fields_exist(page):
    codes = map(_FIELD.fullmatch, _INLINE_CODE.findall(_without_fences(page)))
    named = {match[1] for match in codes if match and match[2] in _GROUPS}
    files = {"data.json"}  # of a work folder
    assert not [name for name in named - files if not _is_field(name)]


def test_index_links_to_every_page():
    linked = {(_INDEX.parent / link).resolve() for link in _links(_INDEX)}
    assert set(_INDEX.parent.glob("*/*.md")) <= linked


def test_site_has_every_page():
    """The navigation of the site names every page and every notebook, once."""
    nav = re.findall(r"^ +- (?:[\w ]+: )?(\S+\.(?:md|ipynb))$", _SITE.read_text(), re.MULTILINE)
    docs = _INDEX.parent
    pages = [*docs.rglob("*.md"), *docs.rglob("*.ipynb")]
    assert sorted(nav) == sorted(page.relative_to(docs).as_posix() for page in pages)


def test_notebooks_have_no_outputs():
    """`make docs` runs them, so that the site has what the code does."""
    for notebook in _INDEX.parent.rglob("*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        assert not any(cell.get("outputs") for cell in cells), notebook


def test_readme_is_short():
    assert len((_ROOT / "README.md").read_text().split()) <= _README_WORDS
