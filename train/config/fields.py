"""What the fields of any config are checked for: names, types, numbers that a device holds."""

import difflib
from collections.abc import Iterable
from typing import Any

from ml_collections import ConfigDict

from train.errors import UserError, short_repr, truncate

# What the devices count and compute with: int32 and float32, whose zero begins below TINY.
MAX_INT = 2**31 - 1
TINY, HUGE, ALMOST_ONE = 2.0**-126, 2.0**127, 1 - 2.0**-24


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """`{"data.name": "digits", ...}`, in the config's order."""
    fields = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            fields.update(flatten(value, f"{prefix}{name}."))
        else:
            fields[f"{prefix}{name}"] = value
    return fields


def check_fields(given: dict[str, Any], known: dict[str, Any], start: str) -> None:
    """Checks the names and the types of a flattened config's fields.

    Args:
      given: the config's.
      known: those that there are, with a value of the right type each.
      start: what a config file should have started from.

    Raises:
      UserError: a field is missing, unknown or of the wrong type.
    """
    if unknown := sorted(given.keys() - known.keys()):
        raise unknown_field(unknown[0], known)
    if missing := sorted(known.keys() - given.keys()):
        raise UserError(f"config.{missing[0]} is missing; start the config from {start}")
    for name, value in given.items():
        _check_type(name, value, known[name])


def unknown_field(name: str, known: Iterable[str]) -> UserError:
    """The mistake of a name that is not among those of a flattened config."""
    known = list(known)
    if inside := [field for field in known if field.startswith(f"{name}.")]:
        return UserError(f"config.{name} is not a field but a group; name one: {', '.join(inside)}")
    group, _, last = name.rpartition(".")
    beside = [field for field in known if group and field.startswith(f"{group}.")]
    groups = list(dict.fromkeys(field.partition(".")[0] for field in known))
    if group and not beside:
        meant, close = {field: field for field in known}, name
    else:
        meant = {field.rpartition(".")[2]: field for field in reversed(beside or known)}
        meant, close = meant | {top: top for top in groups if not beside}, last
    found = difflib.get_close_matches(close, meant, 1)
    allowed = beside or groups
    hint = f"did you mean {meant[found[0]]}?" if found else f"allowed: {', '.join(sorted(allowed))}"
    return UserError(f"config.{truncate(name, 100)} is not a field; {hint}")


def _check_type(name: str, value: Any, example: Any) -> None:
    if isinstance(example, bool) or isinstance(value, bool):
        fits = isinstance(example, bool) and isinstance(value, bool)
    elif isinstance(example, float):
        fits = isinstance(value, int | float)
    elif isinstance(example, tuple):
        fits = isinstance(value, tuple | list)
    else:
        fits = isinstance(value, type(example))
    if not fits:
        raise bad(name, value, f"of type {type(example).__name__}")
    if isinstance(value, str) and not value.isprintable():
        raise bad(name, value, "printable text")


def is_number(value: Any) -> bool:
    """Whether a device can hold it: NaN, what overflows and what would become 0 are none."""
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return abs(value) <= MAX_INT
    return isinstance(value, float) and (value == 0 or TINY <= abs(value) <= HUGE)


def most(example: float) -> str:
    return str(MAX_INT) if isinstance(example, int) else f"{HUGE:.2g}"


def bad(name: str, value: Any, allowed: str) -> UserError:
    return UserError(f"config.{name}={short_repr(value)} is not allowed; it must be {allowed}")
