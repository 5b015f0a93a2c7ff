"""Keys of results: equal settings have equal keys, also after the trainer got new fields."""

import hashlib
import json
from typing import Any

from ml_collections import ConfigDict

from train.config import flatten
from train.config.fields import field_specs
from train.config.schema import Config, affects_result

Settings = dict[str, Any]
"""What a result depends on: the fields of a training config by name, and more."""


def result_fields(config: ConfigDict) -> Settings:
    """Return the fields of a training config that can change its result."""
    return {name: value for name, value in flatten(config).items() if affects_result(name)}


def digest(kind: str, settings: Settings) -> str:
    """Return the key of the results of some settings.

    Fields with their default value are left out. So a new field, with a default that changes
    nothing, does not change the keys of older results. A line of `results.jsonl` contains its
    settings, and its key is computed again when the line is read. So a changed default changes
    the keys of the older results, not those of the new ones.
    """
    text = json.dumps({"kind": kind} | _without_defaults(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without_defaults(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_defaults(item) for item in value]
    if not isinstance(value, dict):
        return value
    specs = field_specs(Config)
    return {
        name: _without_defaults(item)
        for name, item in value.items()
        if name not in specs or _plain(item) != _plain(specs[name].default)
    }


def _plain(value: Any) -> Any:
    """Return a value as JSON gives it back."""
    return list(value) if isinstance(value, tuple) else value
