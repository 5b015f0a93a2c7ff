"""From a schema to its fields: defaults, checks with one-line errors, and descriptions."""

import contextlib
import difflib
import functools
import os
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import pydantic
from annotated_types import Ge, Gt, Le, Lt
from ml_collections import ConfigDict

from train.config.types import Check
from train.errors import UserError, short_repr, truncate

Affects = Literal["result", "output", "none"]
"""What a field changes: the trained weights, only what is written and when, or neither."""

_BOUNDS = ((Ge, "ge", "at least"), (Gt, "gt", "above"), (Le, "le", "at most"), (Lt, "lt", "below"))


class Section(pydantic.BaseModel):
    """A group of fields."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


def field(default: Any, description: str, affects: Affects = "result") -> Any:
    """Return a field with its default value and a sentence that describes it."""
    return pydantic.Field(default, description=description, json_schema_extra={"affects": affects})


class FieldSpec(NamedTuple):
    """One field of a schema.

    Attributes:
      name: Such as "data.batch_size".
      type: The name of the Python type.
      default: The default value.
      allowed: The allowed values; completes the sentence "It must be ...".
      description: One sentence.
      affects: See `Affects`.
    """

    name: str
    type: str
    default: Any
    allowed: str
    description: str
    affects: Affects


@functools.cache
def field_specs(schema: type[Section], prefix: str = "") -> Mapping[str, FieldSpec]:
    """Return the fields of a schema by name, in its order; fields of nested sections included."""
    specs: dict[str, FieldSpec] = {}
    for name, info in schema.model_fields.items():
        if section := as_section(info):
            specs.update(field_specs(section, f"{prefix}{name}."))
            continue
        extra = info.json_schema_extra
        specs[prefix + name] = FieldSpec(
            name=prefix + name,
            type=type(info.default).__name__,
            default=info.default,
            allowed=_allowed(info),
            description=info.description or "",
            affects=extra["affects"] if isinstance(extra, dict) else "result",  # type: ignore
        )
    return specs


def as_section(info: pydantic.fields.FieldInfo) -> type[Section] | None:
    """Return the section that a field of a schema is, or None for a plain field."""
    annotation = info.annotation
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return None


def default_values(schema: type[Section]) -> dict[str, Any]:
    """Return the defaults of a schema as a nested dict."""
    return schema().model_dump()


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Return the fields of a config by name, such as `{"data.name": "digits"}`, in its order."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            fields.update(flatten(value, f"{prefix}{name}."))
        else:
            fields[f"{prefix}{name}"] = value
    return fields


def to_plain_values(config: ConfigDict, schema: type[Section] | None = None) -> None:
    """Replace NumPy's and JAX's numbers, arrays and texts, and paths, by Python's values.

    Args:
      config: Is changed.
      schema: Integers of its fields for floats become floats, and texts of its fields for tuples
        become tuples, so that a flag takes any value of the field.
    """
    with config.ignore_type(), config.unlocked():
        for name, value in config.items():
            info = schema.model_fields.get(name) if schema else None
            if isinstance(value, ConfigDict):
                to_plain_values(value, as_section(info) if info else None)
            elif (plain := _plain(value, info)) is not value:
                config[name] = plain


def _plain(value: Any, info: pydantic.fields.FieldInfo | None = None) -> Any:
    if info and type(value) is int and type(info.default) is float:
        with contextlib.suppress(OverflowError):  # reported as out of range
            return float(value)
    if hasattr(value, "tolist"):  # the values of the elements, exactly
        value = value.tolist()
    elif isinstance(value, os.PathLike):
        return os.fspath(value)
    if info and isinstance(value, str) and isinstance(info.default, tuple):
        return (value,)  # as on the command line
    if isinstance(value, list | tuple):
        elements = tuple(map(_plain, value))
        is_plain = all(new is old for new, old in zip(elements, value, strict=True))
        return value if is_plain and isinstance(value, tuple) else elements
    return value


def check_names(given: Iterable[str], known: Iterable[str], start: str) -> None:
    """Check that a config has exactly the known fields.

    Args:
      given: The names of the config's fields.
      known: The names of the schema's fields.
      start: The function that a config file should start from.

    Raises:
      UserError: If a field is missing or unknown.
    """
    given, known = list(given), list(known)
    if unknown := sorted(set(given) - set(known)):
        raise unknown_field(unknown[0], known)
    if missing := sorted(set(known) - set(given)):
        raise UserError(f"config.{missing[0]} is missing; start the config from {start}")


def check_values(values: Mapping[str, Any], schema: type[Section]) -> None:
    """Check the types and ranges of nested values whose names are right.

    Raises:
      UserError: If one is wrong; the error names the first one in the order of the schema.
    """
    try:
        schema.model_validate(values)
    except pydantic.ValidationError as error:
        specs = field_specs(schema)
        wrong = {_field_of(mistake["loc"], specs) for mistake in error.errors()}
        name = next(name for name in specs if name in wrong)
        value = functools.reduce(lambda node, key: node[key], name.split("."), values)
        raise invalid_field(name, value, specs[name].allowed) from None


def invalid_field(name: str, value: Any, allowed: str) -> UserError:
    """Return the error for a value that is not allowed."""
    return UserError(f"config.{name}={short_repr(value)} is not allowed; it must be {allowed}")


def unknown_field(name: str, known: Iterable[str]) -> UserError:
    """Return the error for a name that is not a field, with the closest field or all fields."""
    known = list(known)
    if members := [field for field in known if field.startswith(f"{name}.")]:
        return UserError(f"config.{name} is a group, not a field; name one: {', '.join(members)}")
    group, _, last = name.rpartition(".")
    siblings = [field for field in known if group and field.startswith(f"{group}.")]
    groups = list(dict.fromkeys(field.partition(".")[0] for field in known))
    if group and not siblings:
        targets, target = {field: field for field in known}, name
    else:
        # Fields by their last name, so that a field is found without its group.
        targets = {field.rpartition(".")[2]: field for field in reversed(siblings or known)}
        targets, target = targets | {top: top for top in groups if not siblings}, last
    close = difflib.get_close_matches(target, targets, 1)
    allowed = ", ".join(sorted(siblings or groups))
    hint = f"did you mean {targets[close[0]]}?" if close else f"allowed: {allowed}"
    return UserError(f"config.{truncate(name, 100)} is not a field; {hint}")


def _field_of(location: tuple[int | str, ...], specs: Mapping[str, FieldSpec]) -> str:
    """Return the field at a location, which may continue into the field's value."""
    names = (".".join(map(str, location[:length])) for length in range(1, len(location) + 1))
    return next(name for name in names if name in specs)


def _allowed(info: pydantic.fields.FieldInfo) -> str:
    """Return the allowed values of a field."""
    for item in info.metadata:
        if isinstance(item, Check):
            return item.allowed
    if choices := list(_choices(info.annotation)):
        return f"one of {', '.join(choices)}"
    if info.annotation is bool:
        return "True or False"
    bounds = [
        f"{words} {getattr(item, attribute):.10g}"
        for bound, attribute, words in _BOUNDS
        for item in info.metadata
        if isinstance(item, bound)
    ]
    kind = "an integer" if info.annotation is int else "a float32 number"
    return f"{kind} {' and '.join(bounds)}"


def _choices(annotation: Any) -> Iterator[str]:
    """Return the values of a `Literal`."""
    if typing.get_origin(annotation) is Literal:
        yield from typing.get_args(annotation)
