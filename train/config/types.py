"""Types of config fields: numbers that int32 and float32 can represent, texts and lists."""

from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator, GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

MAX_INT = 2**31 - 1
TINY, HUGE = 2.0**-126, 1.7e38  # the smallest normal float32, and a bound on the largest


def _to_float32(value: float) -> float:
    """Return a value rounded to float32, so that limits are checked as the device sees them."""
    if value and not TINY <= abs(value) <= HUGE:
        raise ValueError("not a float32 number")
    return float(np.float32(value))


Count = Annotated[int, Ge(0), Le(MAX_INT)]
PositiveInt = Annotated[int, Ge(1), Le(MAX_INT)]


def _check_is_number(value: Any) -> Any:
    """Raise ValueError for other types that convert to float: they are not in JSON."""
    if not isinstance(value, int | float):
        raise ValueError("not a number")
    return value


Float = Annotated[float, BeforeValidator(_check_is_number), AfterValidator(_to_float32)]
NonNegative = Annotated[Float, Ge(0), Le(HUGE)]
Positive = Annotated[Float, Gt(0), Le(HUGE)]
UpToOne = Annotated[Float, Gt(0), Le(1)]
ZeroToOne = Annotated[Float, Ge(0), Le(1)]
BelowOne = Annotated[Float, Ge(0), Lt(1)]


class Check:
    """A condition on a value, in the metadata of a type.

    Attributes:
      allowed: The allowed values; completes the sentence "It must be ...".
    """

    def __init__(self, holds: Callable[[Any], bool], allowed: str):
        self._holds = holds
        self.allowed = allowed

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._validate, handler(source))

    def _validate(self, value: Any) -> Any:
        if not self._holds(value):
            raise ValueError(self.allowed)
        return value


Text = Annotated[str, Check(str.isprintable, "printable text")]


def _list_to_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


LIST = BeforeValidator(_list_to_tuple)
"""In the metadata of a tuple type: a list is allowed too."""


def is_increasing(values: tuple) -> bool:
    """Return whether each value is larger than the one before."""
    return list(values) == sorted(set(values))


def is_unique(values: tuple) -> bool:
    """Return whether no value occurs twice."""
    return len(set(values)) == len(values)
