"""The list of all config fields: for `--help`, and as the page `docs/trainer/configuration.md`.

python -m train.config.reference > docs/trainer/configuration.md
"""

import re
import textwrap
from collections.abc import Iterator

from train.config.fields import FieldSpec, Section, as_section, field_specs
from train.config.schema import Config
from train.config.types import HUGE, MAX_INT

_WIDTH = 100
_INTRODUCTION = """\
A config file is a Python file with a function `get_config()` that starts from
`train.config.default_config()` and returns an `ml_collections.ConfigDict`. Change a field on the
command line with `--config.FIELD=VALUE`, for example `--config.gc.mode=none`.
`python -m train --help` prints the fields too.
"""
_TYPE_LIMIT = re.compile(rf" and at most ({MAX_INT}|{re.escape(f'{HUGE:.10g}')})")


def describe_fields(schema: type[Section]) -> str:
    """Return every field of a schema in groups: name, default, meaning and allowed values."""
    blocks = []
    for title, specs in _groups(schema, ""):
        lines = [f"{title}:"]
        for spec in specs:
            lines.append(f"  --config.{spec.name}={_shown(spec.default)}")
            text = f"{spec.description} {_limits(spec)}".rstrip()
            lines += textwrap.wrap(
                text.replace("`", ""), _WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6
            )
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def markdown_page(title: str, module: str, file: str, text: str, schema: type[Section]) -> str:
    """Return a documentation page with every field of a schema.

    Args:
      title: The title of the page.
      module: The module that prints the page.
      file: The file of the page.
      text: An introduction.
      schema: The schema.
    """
    generated = f"This page is generated: `python -m {module} > {file}`."
    return f"# {title}\n\n{generated}\n\n{text}\n{_markdown_tables(schema)}\n"


def training_page() -> str:
    """Return `docs/trainer/configuration.md`."""
    file = "docs/trainer/configuration.md"
    return markdown_page("Configuration", "train.config.reference", file, _INTRODUCTION, Config)


def _markdown_tables(schema: type[Section]) -> str:
    """Return every field of a schema as Markdown, one table for each group."""
    blocks = []
    for title, specs in _groups(schema, ""):
        rows = [
            f"| `{spec.name}` | `{_shown(spec.default)}` | {spec.description} | "
            f"{_TYPE_LIMIT.sub('', spec.allowed)} |"
            for spec in specs
        ]
        head = ["| field | default | meaning | allowed |", "|---|---|---|---|"]
        blocks.append("\n".join([f"## {title}\n", *head, *rows]))
    return "\n\n".join(blocks)


def _groups(schema: type[Section], prefix: str) -> Iterator[tuple[str, list[FieldSpec]]]:
    """Yield a title and the fields of each section: first the plain fields of `schema` itself."""
    plain = [
        spec._replace(name=f"{prefix}{spec.name}")
        for spec in field_specs(schema).values()
        if "." not in spec.name
    ]
    title = (schema.__doc__ or "").strip().rstrip(".")
    if plain:
        yield f"{title} ({prefix.rstrip('.')})" if prefix else title, plain
    for name, info in schema.model_fields.items():
        if section := as_section(info):
            yield from _groups(section, f"{prefix}{name}.")


def _limits(spec: FieldSpec) -> str:
    """Return the allowed values, without limits that no one meets."""
    if spec.allowed in ("True or False", "printable text"):
        return ""
    return f"Allowed: {_TYPE_LIMIT.sub('', spec.allowed)}."


def _shown(default: object) -> str:
    return str(default or '""') if isinstance(default, str) else repr(default)


if __name__ == "__main__":
    print(training_page(), end="")
