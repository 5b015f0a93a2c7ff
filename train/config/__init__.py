"""Training configs: `ml_collections` dicts with the fields of `train.config.schema`."""

from ml_collections import ConfigDict

from train.config.argument import parse_config_argument
from train.config.fields import default_values, flatten
from train.config.schema import Config
from train.config.validation import validate

__all__ = ["default_config", "flatten", "parse_config_argument", "validate"]


def default_config() -> ConfigDict:
    """Return a config with every field at its default; config files change what they need.

    Its fields take values of any type, such as NumPy's numbers; `validate` checks them.
    """
    return ConfigDict(default_values(Config), type_safe=False)
