"""The runs of a study, and which of them are compared."""

import hashlib
import itertools
import json
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from train.config import flatten, validate
from train.config.schema import affects_result
from train.errors import UserError


class Setting(NamedTuple):
    """What the arms of a comparison share.

    Attributes:
      optimizer: The name of the optimizer.
      weight_decay: The weight decay.
      batch_size: The batch size.
      variant: The name in `study.variants`; empty if the study has no variants.
    """

    optimizer: str
    weight_decay: float
    batch_size: int
    variant: str = ""

    @property
    def label(self) -> str:
        """The parts that most studies vary, as a text."""
        return ", ".join(filter(None, (self.variant, self.optimizer)))


class Arm(NamedTuple):
    """A setting with one kind of GC: everything about a run but its seed and learning rate."""

    setting: Setting
    gc: str


class Run(NamedTuple):
    """One training run.

    Attributes:
      kind: "tune", evaluated on the validation split, or "final", evaluated on the test split.
      arm: Its arm.
      seed: Its seed.
      learning_rate: Its learning rate.
      config: Its training config.
      key: A digest of everything that its result depends on.
    """

    kind: str
    arm: Arm
    seed: int
    learning_rate: float
    config: ConfigDict
    key: str


def settings(study: ConfigDict) -> list[Setting]:
    """Return all combinations of variants, optimizers, weight decays and batch sizes."""
    decays = study.weight_decays or (study.base.optimizer.weight_decay,)
    sizes = study.batch_sizes or (study.base.data.batch_size,)
    combinations = itertools.product(study.variants or ("",), study.optimizers, decays, sizes)
    return [Setting(name, decay, size, variant) for variant, name, decay, size in combinations]


def shard_settings(study: ConfigDict, shard: tuple[int, int]) -> list[Setting]:
    """Return the settings of shard I of N: all arms of a setting are trained on one machine.

    Raises:
      UserError: If there are fewer settings than shards.
    """
    index, count = shard
    everything = settings(study)
    if count > len(everything):
        raise UserError(
            f"--shard {index}/{count}: the arms of a comparison are trained on one machine, and "
            f"this study has {len(everything)} comparison(s); use at most {len(everything)} shards"
        )
    return everything[index - 1 :: count]


def arms(study: ConfigDict, setting: Setting) -> list[Arm]:
    """Return the arms of a setting; the others are compared with the first."""
    return [Arm(setting, gc) for gc in study.gc]


def rates(study: ConfigDict, setting: Setting) -> tuple[float, ...]:
    """Return the learning rates to choose from, the same for all arms of a setting."""
    grid = study.learning_rates[setting.optimizer] or (study.base.optimizer.learning_rate,)
    return tuple(map(float, grid))


def tuning_runs(study: ConfigDict, arm: Arm) -> list[Run]:
    """Return the runs that choose the rate of an arm; none if there is only one rate."""
    grid = rates(study, arm.setting)
    if len(grid) == 1:
        return []
    pairs = itertools.product(grid, study.tuning.seeds)
    return [_run(study, "tune", arm, seed, rate) for rate, seed in pairs]


def final_runs(study: ConfigDict, arm: Arm, rate: float) -> list[Run]:
    """Return the reported runs of an arm."""
    return [_run(study, "final", arm, seed, rate) for seed in study.seeds]


def count_runs(study: ConfigDict, some: list[Setting]) -> int:
    """Return the number of runs of some settings, tuning included."""
    tuning = [len(tuning_runs(study, arm)) for setting in some for arm in arms(study, setting)]
    return sum(tuning) + len(tuning) * len(study.seeds)


def trainer_config(study: ConfigDict, arm: Arm, seed: int, rate: float) -> ConfigDict:
    """Return the config with which `python -m train` does the same training.

    Raises:
      UserError: If a value is not allowed.
    """
    config = ConfigDict(study.base.to_dict())
    if arm.setting.variant:
        config.update(study.variants[arm.setting.variant])
    config.seed = seed
    config.optimizer.name = arm.setting.optimizer
    config.optimizer.learning_rate = rate
    config.optimizer.weight_decay = float(arm.setting.weight_decay)
    config.data.batch_size = arm.setting.batch_size
    mode, _, location = arm.gc.partition("@")
    config.gc.mode, config.gc.location = mode, location or "gradient"
    try:
        validate(config)
    except UserError as error:
        if not arm.setting.variant:
            raise
        raise UserError(f"{error} (config.variants.{arm.setting.variant})") from None
    return config


def result_fields(config: ConfigDict) -> dict[str, Any]:
    """Return the fields of a training config that can change its result."""
    return {name: value for name, value in flatten(config).items() if affects_result(name)}


def timing_key(study: ConfigDict, first: Arm, arm: Arm) -> str:
    """Return the key of the line with the times of two arms, measured in alternation."""
    rate = rates(study, arm.setting)[0]
    both = [result_fields(trainer_config(study, each, 0, rate)) for each in (first, arm)]
    return _key("time", {"arms": both, "timing": study.timing.to_dict()})


def _run(study: ConfigDict, kind: str, arm: Arm, seed: int, rate: float) -> Run:
    config = trainer_config(study, arm, seed, rate)
    split = {"validation": study.tuning.validation_examples} if kind == "tune" else {}
    return Run(kind, arm, seed, rate, config, _key(kind, result_fields(config) | split))


def _key(kind: str, inputs: dict[str, Any]) -> str:
    """Return a digest of everything that a result depends on."""
    text = json.dumps({"kind": kind} | inputs, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
