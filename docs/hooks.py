"""Hooks of the documentation site: links to the repository, and formulas as MathML."""

import html
import posixpath
import re

from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import Files
from mkdocs.structure.pages import Page

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_LINK = re.compile(r"(\]\()([^()\s#]+)(#[^()\s]*)?\)")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace relative links that leave docs/ by links to the repository."""
    folder = posixpath.dirname(page.file.src_uri)

    def replace(match: re.Match[str]) -> str:
        start, link, anchor = match.groups()
        path = posixpath.normpath(posixpath.join("docs", folder, link))
        if "://" in link or link.startswith("/") or path.startswith("docs/"):
            return match.group()
        return f"{start}{config.repo_url}/blob/main/{path}{anchor or ''})"

    return _LINK.sub(replace, markdown)


def on_page_content(content: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Replace formulas by MathML, which browsers show without a script from another server."""

    def replace(match: re.Match[str]) -> str:
        _, bracket, formula = match.groups()
        return convert(html.unescape(formula), display="block" if bracket == "[" else "inline")

    return _FORMULA.sub(replace, content)
