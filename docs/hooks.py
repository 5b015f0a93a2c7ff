"""Hooks of the documentation site: links to the repository, and formulas as MathML."""

import html
import posixpath
import re
from pathlib import Path

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_LINK = re.compile(r"(\]\()([^()\s#]+)(#[^()\s]*)?\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Include the changelog, mark examples as sessions, and make links that leave docs/ links to
    the repository.
    """
    if page.file.src_uri == "changelog.md":
        return Path("CHANGELOG.md").read_text(encoding="utf-8").replace("](docs/", "](")
    folder = posixpath.dirname(page.file.src_uri)

    def replace(match: re.Match[str]) -> str:
        start, link, anchor = match.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, link))
        if "://" in link or link.startswith("/") or path.startswith("docs/"):
            return match.group()
        return f"{start}{config.repo_url}/blob/main/{path}{anchor or ''})"

    markdown = markdown.replace("```python\n>>>", "```pycon\n>>>")  # site.css hides its prompts
    return _LINK.sub(replace, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace formulas by MathML, and the links of notebooks to others by links to their pages.

    Browsers show MathML without a script from another server.
    """
    own = posixpath.basename(page.file.src_uri)
    if own.endswith(".ipynb"):
        links = re.compile(rf'href="(?!{own})(\w+)\.ipynb"')
        content = links.sub(r'href="../\1/"', content)

    def replace(match: re.Match[str]) -> str:
        _, bracket, formula = match.groups()
        return convert(html.unescape(formula), display="block" if bracket == "[" else "inline")

    return _FORMULA.sub(replace, content)
