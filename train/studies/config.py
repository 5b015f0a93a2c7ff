"""Study configs: the fields of a study, and the check of a config."""

from typing import Annotated, Any, Literal, get_args

import pydantic
from ml_collections import ConfigDict

from train.config import default_config, validate
from train.config.fields import (
    Section,
    check_names,
    check_values,
    default_values,
    field,
    field_specs,
    flatten,
    to_plain_values,
)
from train.config.optimization import OPTIMIZERS, OptimizerName
from train.config.reference import markdown_page
from train.config.schema import Config
from train.config.types import (
    LIST,
    Check,
    Count,
    NonNegative,
    Positive,
    PositiveInt,
    Text,
    is_increasing,
    is_unique,
)
from train.errors import UserError, short_repr

GcArm = Literal[
    "none", "all", "conv", "all@update", "conv@update", "whole_tensor", "first_axis_out"
]

_INTRODUCTION = """\
The config file of a study starts from `train.studies.config.default_study(base)`, where `base` is
a training config. Change a field on the command line with `--config.FIELD=VALUE`; the fields of
the training are in `config.base`, for example `--config.base.num_epochs=20`. `config.variants` is
a dict from a name to the fields of `base` that differ, such as `{"gn": {"model": {"norm":
"group"}}}`. `python -m train.study --help` prints the fields too.
"""
_FIXED_FIELDS = (
    *("seed", "gc.", "data.", "report."),
    *("optimizer.name", "optimizer.learning_rate", "optimizer.weight_decay"),
)
"""Fields of `base` that a variant cannot change: the study sets them, or reads the data once."""


def _is_unique_and_given(values: tuple) -> bool:
    return bool(values) and is_unique(values)


Optimizers = Annotated[
    tuple[OptimizerName, ...],
    LIST,
    Check(_is_unique_and_given, f"one or more of {', '.join(OPTIMIZERS)}, each once"),
]
GcArms = Annotated[
    tuple[GcArm, ...],
    LIST,
    Check(_is_unique_and_given, f"one or more of {', '.join(get_args(GcArm))}, each once"),
]
Seeds = Annotated[
    tuple[Count, ...],
    LIST,
    Check(_is_unique_and_given, "one or more integers of at least 0, each once"),
]
Decays = Annotated[
    tuple[NonNegative, ...], LIST, Check(is_unique, "numbers of at least 0, each once")
]
BatchSizes = Annotated[
    tuple[PositiveInt, ...], LIST, Check(is_unique, "integers of at least 1, each once")
]
Rates = Annotated[tuple[Positive, ...], LIST, Check(is_increasing, "increasing numbers above 0")]

_RATE_FIELDS: dict[str, Any] = {
    name: (Rates, field((), "Rates to choose from; () for that of `base`.")) for name in OPTIMIZERS
}
LearningRates = pydantic.create_model(
    "LearningRates",
    __base__=Section,
    __doc__="The learning rates to choose from, for each optimizer.",
    **_RATE_FIELDS,
)


class Tuning(Section):
    """The choice of a learning rate for each arm."""

    seeds: Seeds = field((1000,), "Seeds of the runs that choose a rate.")
    validation_examples: Count = field(0, "Examples to split off the training set for them.")


class Timing(Section):
    """The time of a training step, measured in alternation for the arms of a comparison."""

    pairs: PositiveInt = field(7, "The number of measurements of each arm.")
    steps: PositiveInt = field(50, "The number of steps in a measurement.")


class Engine(Section):
    """The tasks of `--engine=ray` and `--engine=slurm`: what each of them gets."""

    cpus: PositiveInt = field(
        1, "Cores of a task. It makes so many runs side by side, if it has no GPU."
    )
    gpus: Count = field(0, "GPUs of a task. It makes so many runs side by side, if not 0.")
    minutes: PositiveInt = field(60, "Time limit of a Slurm job.")


class Study(Section):
    """A study; the fields of its training runs are those of a training config, under base."""

    optimizers: Optimizers = field(
        ("sgd", "momentum", "adagrad", "rmsprop", "adam"), "Optimizers to compare GC with."
    )
    gc: GcArms = field(
        ("none", "all"),
        "The arms: `gc.mode`, and `@update` for that `gc.location`; the others are compared with "
        "the first.",
    )
    weight_decays: Decays = field((), "Weight decays; () for that of `base`.")
    batch_sizes: BatchSizes = field((), "Batch sizes; () for that of `base`.")
    baseline: Text = field("", "The variant that the other variants are compared with; or none.")
    seeds: Seeds = field((0, 1, 2, 3, 4), "Seeds of the reported runs.")
    learning_rates: LearningRates = LearningRates()  # type: ignore[valid-type]
    tuning: Tuning = Tuning()
    target_loss: Positive = field(0.1, "Training loss in nats; the report has the steps to it.")
    landscape_examples: Count = field(
        0,
        "Training examples on which reported runs measure, at each log line, how loss and gradient "
        "change along the update; 0 for none. Costs as much as ten passes over these examples.",
    )
    timing: Timing = Timing()
    runs_at_once: Count = field(0, "Runs at the same time, one on each device or core; 0 for all.")
    runs_per_device: PositiveInt = field(
        1, "Runs on one device in one `vmap`, which is slow on a CPU."
    )
    engine: Engine = Engine()


def default_study(base: ConfigDict) -> ConfigDict:
    """Return a study config with every field at its default.

    Args:
      base: A training config; the study sets its seed, optimizer, learning rate, weight decay,
        batch size and GC.
    """
    return ConfigDict({"base": base, "variants": {}, **default_values(Study)})


def validate_study(config: ConfigDict) -> None:
    """Check everything that can be checked without the data.

    Raises:
      UserError: If a field is missing, unknown, of the wrong type or out of range, or if fields
        contradict each other.
    """
    if not isinstance(config.get("base"), ConfigDict):
        raise UserError(
            "the config has no base, so it is not a study's; start it from "
            "train.studies.config.default_study(), or use python -m train"
        )
    to_plain_values(config)
    _check_base(config.base)
    start = "train.studies.config.default_study()"
    if "variants" not in config:
        raise UserError(f"config.variants is missing; start the config from {start}")
    own = {name: value for name, value in config.items() if name not in ("base", "variants")}
    known = [*field_specs(Study), *(f"base.{name}" for name in field_specs(Config)), "variants"]
    given = [*flatten(ConfigDict(own)), *(f"base.{name}" for name in flatten(config.base))]
    check_names([*given, "variants"], known, start)
    check_values(ConfigDict(own).to_dict(), Study)
    _check_variants(config)
    _check_tuning(config)


def _check_base(base: ConfigDict) -> None:
    try:
        validate(base)
    except UserError as error:
        raise UserError(str(error).replace("config.", "config.base.")) from None


def _check_tuning(config: ConfigDict) -> None:
    if both := set(config.seeds) & set(config.tuning.seeds):
        raise UserError(
            f"config.tuning.seeds and config.seeds both contain {min(both)}; choose rates with "
            "seeds that are not reported"
        )
    for name in config.optimizers:
        rates = config.learning_rates[name]
        if len(rates) > 1 and not config.tuning.validation_examples:
            raise UserError(
                f"config.learning_rates.{name} has {len(rates)} rates to choose from; set "
                "config.tuning.validation_examples, or leave one rate"
            )


def _check_variants(config: ConfigDict) -> None:
    """Check names and types; values are checked in the training configs of the runs."""
    variants = config.variants
    if not isinstance(variants, ConfigDict):
        raise UserError("config.variants must be a dict of dicts; start it from {}")
    known = flatten(default_config())
    allowed = [name for name in known if not name.startswith(_FIXED_FIELDS)]
    for name, changes in variants.items():
        if not isinstance(changes, ConfigDict):
            raise UserError(
                f"config.variants.{name}={short_repr(changes)} must be a dict of fields, such as "
                "{'model': {'norm': 'group'}}"
            )
        given = flatten(changes)
        if fixed := [field for field in given if field in known and field not in allowed]:
            raise UserError(
                f"config.variants.{name}.{fixed[0]} cannot vary: the study sets it, or reads the "
                "data once for all variants; leave it out"
            )
        try:
            check_names([*allowed, *given], allowed, "")
            check_values(_merge(config.base.to_dict(), changes.to_dict()), Config)
        except UserError as error:
            raise UserError(str(error).replace("config.", f"config.variants.{name}.", 1)) from None
    if config.baseline and config.baseline not in variants:
        raise UserError(
            f"config.baseline={short_repr(config.baseline)} is not a variant; it must be empty or "
            f"one of {', '.join(variants)}"
        )


def _merge(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return nested values with some of them changed."""
    merged = {
        name: _merge(base[name], value) if isinstance(value, dict) else value
        for name, value in changes.items()
    }
    return base | merged


def study_page() -> str:
    """Return `docs/studies/configuration.md`."""
    file = "docs/studies/configuration.md"
    return markdown_page("Study configuration", "train.studies.config", file, _INTRODUCTION, Study)


if __name__ == "__main__":
    print(study_page(), end="")
