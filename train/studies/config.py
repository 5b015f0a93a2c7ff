"""What a study's config has, and the check that it passes before anything is run."""

from typing import Any

from ml_collections import ConfigDict

from train.config import OPTIMIZERS, default_config, validate
from train.config.fields import MAX_INT, check_fields, flatten
from train.errors import UserError, short_repr

GC = ("none", "all", "conv", "all@update", "conv@update")
"""`gc.mode`, and `gc.location` after an @ if it is not the gradient."""

_NOT_VARIED = (
    *("seed", "gc.", "data.", "report."),
    *("optimizer.name", "optimizer.learning_rate", "optimizer.weight_decay"),
)


def default_study(base: ConfigDict) -> ConfigDict:
    """A study's config with every field there is.

    Args:
      base: a trainer's config; the study changes its seed, optimizer, rate, decay, batch and GC.
    """
    return ConfigDict(
        {
            "base": base,
            "optimizers": ("sgd", "momentum", "adagrad", "rmsprop", "adam"),
            "gc": ("none", "all"),  # the others are compared with the first
            "weight_decays": (),  # of base.optimizer if empty
            "batch_sizes": (),  # of base.data if empty
            "variants": {},  # name to fields of base that differ, {"gn": {"model": {"norm": ...}}}
            "baseline": "",  # the variant that the others are compared with, beside GC; or none
            "seeds": (0, 1, 2, 3, 4),  # of the runs that are reported
            "learning_rates": dict.fromkeys(OPTIMIZERS, ()),  # to choose from; base's if empty
            "tuning": {
                "seeds": (1000,),  # of the runs that choose a rate
                "validation_examples": 0,  # that are cut off the training set for them
            },
            "target_loss": 0.1,  # nats, of training; the report counts the steps to it
            "timing": {"pairs": 7, "steps": 50},  # pairs of so many steps, one arm after the other
            "runs_at_once": 0,  # one on each device; 0: on all, and on a CPU one on each core
            "runs_per_device": 1,  # more: under one vmap, which a CPU does slowly
        }
    )


def validate_study(config: ConfigDict) -> None:
    """Checks every field that can be checked without the data.

    Raises:
      UserError: a field is missing, unknown, of the wrong type or out of its range.
    """
    if not isinstance(config.get("base"), ConfigDict):
        raise UserError(
            "the config has no base, so it is not a study's; start it from "
            "train.studies.config.default_study(), or train it with python -m train"
        )
    _check_base(config.base)
    variants = config.get("variants")
    given = {name: value for name, value in flatten(config).items() if not _of_variant(name)}
    check_fields(
        given, flatten(default_study(default_config())), "train.studies.config.default_study()"
    )
    _check_variants(variants)
    if config.baseline and config.baseline not in variants:
        raise UserError(
            f"config.baseline={short_repr(config.baseline)} is not a variant; it must be empty or one "
            f"of {', '.join(variants)}"
        )
    _check_choices("optimizers", config.optimizers, OPTIMIZERS)
    _check_choices("gc", config.gc, GC)
    for name in ("seeds", "tuning.seeds"):
        _check_each(name, given[name], lambda seed: _is_int(seed) and 0 <= seed <= MAX_INT)
    if both := set(config.seeds) & set(config.tuning.seeds):
        raise UserError(
            f"config.tuning.seeds has {min(both)}, which config.seeds has too; a rate is chosen "
            "with seeds that are not reported"
        )
    for name in ("timing.pairs", "timing.steps", "runs_per_device"):
        _check(name, given[name], given[name] >= 1, "at least 1")
    for name in ("runs_at_once", "tuning.validation_examples"):
        _check(name, given[name], given[name] >= 0, "at least 0")
    _check("target_loss", config.target_loss, config.target_loss > 0, "above 0")
    for name in config.optimizers:
        _check_rates(config, name)
    if config.base.data.image_size:
        raise UserError(
            "config.base.data.image_size: a study is for images that are kept on the device; set "
            "it to 0"
        )
    if config.base.adversary.eval_steps:
        raise UserError(
            "config.base.adversary.eval_steps: a study scores images as they are; set it to 0"
        )


def _check_base(base: ConfigDict) -> None:
    try:
        validate(base)
    except UserError as error:
        raise UserError(str(error).replace("config.", "config.base.")) from None


def _of_variant(name: str) -> bool:
    return name.startswith("variants.")


def _check_variants(variants: Any) -> None:
    """Names and types; the values are checked when the trainer's configs are made of them."""
    if not isinstance(variants, ConfigDict):
        raise UserError("config.variants must be a dict of dicts; start it from {}")
    known = flatten(default_config())
    allowed = {name: value for name, value in known.items() if not name.startswith(_NOT_VARIED)}
    for name, changes in variants.items():
        if not isinstance(changes, ConfigDict):
            raise UserError(
                f"config.variants.{name}={short_repr(changes)} must be a dict of fields, as "
                "{'model': {'norm': 'group'}}"
            )
        given = flatten(changes)
        if fixed := [field for field in given if field in known and field not in allowed]:
            raise UserError(
                f"config.variants.{name}.{fixed[0]} cannot vary: the study itself sets it, or the "
                "data is read once for all variants; leave it out"
            )
        try:
            check_fields({**allowed, **given}, allowed, "")
        except UserError as error:
            raise UserError(str(error).replace("config.", f"config.variants.{name}.", 1)) from None


def _check_rates(config: ConfigDict, name: str) -> None:
    rates = config.learning_rates[name]
    field = f"learning_rates.{name}"
    if not all(isinstance(rate, int | float) and rate > 0 for rate in rates):
        raise UserError(
            f"config.{field}={short_repr(rates)} is not allowed; it must be rates above 0"
        )
    if list(rates) != sorted(set(rates)):
        raise UserError(f"config.{field}={short_repr(rates)} is not allowed; it must rise")
    if len(rates) > 1 and not (config.tuning.validation_examples and config.tuning.seeds):
        raise UserError(
            f"config.{field} has {len(rates)} rates to choose from; set "
            "config.tuning.validation_examples and config.tuning.seeds, or leave one rate"
        )


def _check_choices(name: str, value: tuple, choices: tuple[str, ...]) -> None:
    _check_each(name, value, lambda choice: choice in choices, f"of {', '.join(choices)}")


def _check_each(name: str, value: tuple, allowed: Any, of: str = "of seeds from 0 on") -> None:
    known = bool(value) and all(map(allowed, value)) and len(set(value)) == len(value)
    _check(name, value, known, f"one or more {of}, each once")


def _check(name: str, value: Any, allowed: bool, what: str) -> None:
    if not allowed:
        raise UserError(f"config.{name}={short_repr(value)} is not allowed; it must be {what}")


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
