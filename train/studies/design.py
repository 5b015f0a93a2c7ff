"""The runs of a study, and which of them are compared."""

import itertools
from typing import NamedTuple

from ml_collections import ConfigDict

from train.config import validate
from train.errors import UserError
from train.studies import keys


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
      settings: Everything that its result depends on; see `train.studies.keys`.
      key: The digest of `settings`.
    """

    kind: str
    arm: Arm
    seed: int
    learning_rate: float
    config: ConfigDict
    settings: keys.Settings
    key: str


class Shard(NamedTuple):
    """The share of one of several machines, from 1 to `total`.

    The arms of a comparison with the same seed are always in one share, so that a pair is made on
    one type of machine.
    """

    number: int = 1
    total: int = 1

    def has(self, position: int) -> bool:
        """Return whether the work at a position of the list of all work is in this share."""
        return position % self.total == self.number - 1


WHOLE = Shard()


def settings(study: ConfigDict) -> list[Setting]:
    """Return all combinations of variants, optimizers, weight decays and batch sizes."""
    decays = study.weight_decays or (study.base.optimizer.weight_decay,)
    sizes = study.batch_sizes or (study.base.data.batch_size,)
    combinations = itertools.product(study.variants or ("",), study.optimizers, decays, sizes)
    return [Setting(name, decay, size, variant) for variant, name, decay, size in combinations]


def arms(study: ConfigDict, setting: Setting) -> list[Arm]:
    """Return the arms of a setting; the others are compared with the first."""
    return [Arm(setting, gc) for gc in study.gc]


def rates(study: ConfigDict, setting: Setting) -> tuple[float, ...]:
    """Return the learning rates to choose from, the same for all arms of a setting."""
    grid = study.learning_rates[setting.optimizer] or (study.base.optimizer.learning_rate,)
    return tuple(map(float, grid))


def tuning_runs(study: ConfigDict, arm: Arm, shard: Shard = WHOLE) -> list[Run]:
    """Return the runs that choose the rate of an arm; none if there is only one rate."""
    positions = {setting: _tuning_pairs(study, setting) for setting in settings(study)}
    before = itertools.takewhile(lambda setting: setting != arm.setting, positions)
    first = sum(len(positions[setting]) for setting in before)
    return [
        _run(study, "tune", arm, seed, rate)
        for position, (rate, seed) in enumerate(positions[arm.setting], first)
        if shard.has(position)
    ]


def final_seeds(study: ConfigDict, setting: Setting, shard: Shard = WHOLE) -> list[int]:
    """Return the seeds of the reported runs of each arm of a setting."""
    first = settings(study).index(setting) * len(study.seeds)
    return [seed for position, seed in enumerate(study.seeds, first) if shard.has(position)]


def final_runs(study: ConfigDict, arm: Arm, rate: float, shard: Shard = WHOLE) -> list[Run]:
    """Return the reported runs of an arm."""
    seeds = final_seeds(study, arm.setting, shard)
    return [_run(study, "final", arm, seed, rate) for seed in seeds]


def count_runs(study: ConfigDict, shard: Shard = WHOLE) -> int:
    """Return the number of runs of a share, tuning included."""
    return sum(
        len(tuning_runs(study, arm, shard)) + len(final_seeds(study, setting, shard))
        for setting in settings(study)
        for arm in arms(study, setting)
    )


def timed_arms(study: ConfigDict, setting: Setting, shard: Shard = WHOLE) -> list[Arm]:
    """Return the arms of a setting whose steps are timed in alternation with the first arm's."""
    return arms(study, setting)[1:] if shard.has(settings(study).index(setting)) else []


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


def timing_settings(study: ConfigDict, arm: Arm) -> keys.Settings:
    """Return what the times of an arm and of the first arm of its setting depend on."""
    first = arms(study, arm.setting)[0]
    rate = rates(study, arm.setting)[0]
    both = [keys.result_fields(trainer_config(study, each, 0, rate)) for each in (first, arm)]
    return {"arms": both, "timing": study.timing.to_dict()}


def timing_key(study: ConfigDict, arm: Arm) -> str:
    """Return the key of the line with the times of an arm and of the first arm of its setting."""
    return keys.digest("time", timing_settings(study, arm))


def _tuning_pairs(study: ConfigDict, setting: Setting) -> list[tuple[float, int]]:
    """Return the rate and the seed of each tuning run of one arm."""
    grid = rates(study, setting)
    return list(itertools.product(grid, study.tuning.seeds)) if len(grid) > 1 else []


def _run(study: ConfigDict, kind: str, arm: Arm, seed: int, rate: float) -> Run:
    config = trainer_config(study, arm, seed, rate)
    own: keys.Settings = {}
    if kind == "tune":
        config.adversary.eval_steps = 0  # rates are chosen without an attack
        own["validation"] = study.tuning.validation_examples
    elif study.landscape_examples:
        own["landscape_examples"] = study.landscape_examples
    all_settings = keys.result_fields(config) | own
    return Run(kind, arm, seed, rate, config, all_settings, keys.digest(kind, all_settings))
