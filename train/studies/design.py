"""Which runs a study has, and which of them are pairs."""

import hashlib
import itertools
import json
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from train.config import flatten, validate
from train.config.schema import affects_result
from train.errors import UserError


class Setting(NamedTuple):
    """What the two arms of a comparison share."""

    optimizer: str
    weight_decay: float
    batch_size: int
    variant: str = ""  # of study.variants; empty if there are none

    @property
    def named(self) -> str:
        """What most studies vary of it."""
        return ", ".join(filter(None, (self.variant, self.optimizer)))


class Arm(NamedTuple):
    """All but the numbers of a run, its seed and its rate."""

    setting: Setting
    gc: str


class Run(NamedTuple):
    """One training.

    Attributes:
      kind: "tune", scored on the validation split, or "final", scored on the test split.
      config: the trainer's.
      key: the same for the same settings, and for no others.
    """

    kind: str
    arm: Arm
    seed: int
    learning_rate: float
    config: ConfigDict
    key: str


def settings(study: ConfigDict) -> list[Setting]:
    """Variants, optimizers, decays and batch sizes in all combinations; variants by name."""
    decays = study.weight_decays or (study.base.optimizer.weight_decay,)
    sizes = study.batch_sizes or (study.base.data.batch_size,)
    combinations = itertools.product(study.variants or ("",), study.optimizers, decays, sizes)
    return [Setting(name, decay, size, variant) for variant, name, decay, size in combinations]


def share(study: ConfigDict, shard: tuple[int, int]) -> list[Setting]:
    """The settings of shard I of N: both arms of a pair are trained on one machine.

    Raises:
      UserError: there are not so many.
    """
    index, count = shard
    every = settings(study)
    if count > len(every):
        raise UserError(
            f"--shard {index}/{count}: with and without GC is trained in one place, and this "
            f"study has {len(every)} comparison(s) to share out; use at most {len(every)} shards"
        )
    return every[index - 1 :: count]


def arms(study: ConfigDict, setting: Setting) -> list[Arm]:
    """With each kind of GC; the first is what the others are compared with."""
    return [Arm(setting, gc) for gc in study.gc]


def rates(study: ConfigDict, setting: Setting) -> tuple[float, ...]:
    """The learning rates to choose from, the same for all arms of a setting."""
    grid = study.learning_rates[setting.optimizer] or (study.base.optimizer.learning_rate,)
    return tuple(map(float, grid))


def tuning_runs(study: ConfigDict, arm: Arm) -> list[Run]:
    """The runs that a rate is chosen by; none if there is no choice."""
    grid = rates(study, arm.setting)
    if len(grid) == 1:
        return []
    pairs = itertools.product(grid, study.tuning.seeds)
    return [_run(study, "tune", arm, seed, rate) for rate, seed in pairs]


def final_runs(study: ConfigDict, arm: Arm, rate: float) -> list[Run]:
    """The runs that are reported."""
    return [_run(study, "final", arm, seed, rate) for seed in study.seeds]


def count(study: ConfigDict, some: list[Setting]) -> int:
    """How many runs there are in some settings, tuning included."""
    a_run_each = [len(tuning_runs(study, arm)) for setting in some for arm in arms(study, setting)]
    return sum(a_run_each) + len(a_run_each) * len(study.seeds)


def trainer_config(study: ConfigDict, arm: Arm, seed: int, rate: float) -> ConfigDict:
    """What `python -m train` would need for the same training.

    Raises:
      UserError: a value is not allowed.
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


def key_of(kind: str, fields: dict[str, Any]) -> str:
    """A digest of what a result follows from."""
    text = json.dumps({"kind": kind} | fields, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def result_fields(config: ConfigDict) -> dict[str, Any]:
    """Return the fields of a training config that can change its result."""
    return {name: value for name, value in flatten(config).items() if affects_result(name)}


def timing_key(study: ConfigDict, first: Arm, arm: Arm) -> str:
    """Of the line with the seconds of two arms in turn."""
    rate = rates(study, arm.setting)[0]
    both = [result_fields(trainer_config(study, each, 0, rate)) for each in (first, arm)]
    return key_of("time", {"arms": both, "timing": study.timing.to_dict()})


def _run(study: ConfigDict, kind: str, arm: Arm, seed: int, rate: float) -> Run:
    config = trainer_config(study, arm, seed, rate)
    of_split = {"validation": study.tuning.validation_examples} if kind == "tune" else {}
    return Run(kind, arm, seed, rate, config, key_of(kind, result_fields(config) | of_split))
