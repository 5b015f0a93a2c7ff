"""The learning rate of each step."""

from collections import Counter

import jax
import optax
from ml_collections import ConfigDict

from train.engine.plan import Plan
from train.errors import UserError

_MAX_DROPS = 1000  # each drop is compiled in, and after so many a float32 rate is 0


def make_schedule(
    config: ConfigDict, plan: Plan, peak: jax.typing.ArrayLike | None = None
) -> optax.Schedule:
    """Return the learning rate of each step of a plan.

    Args:
      config: Its `schedule` describes the shape.
      plan: The plan of the run.
      peak: The rate after warm-up; may be traced. `config.optimizer.learning_rate` if None.

    Raises:
      UserError: If the schedule has more drops than can be compiled in.
    """
    settings = config.schedule
    peak = config.optimizer.learning_rate if peak is None else peak
    warmup_steps = int(settings.warmup * plan.total_steps)
    match settings.name:
        case "constant":
            schedule = optax.constant_schedule(peak)
        case "step":
            # With epochs shorter than a step, one step can have several drops.
            counts = Counter(step - warmup_steps for step in _drop_steps(settings, plan))
            factors = {step: settings.step_factor**count for step, count in counts.items()}
            schedule = optax.piecewise_constant_schedule(peak, factors)
        case "cosine":
            schedule = optax.cosine_decay_schedule(peak, plan.total_steps - warmup_steps)
    if not warmup_steps:
        return schedule
    warmup = optax.linear_schedule(settings.warmup_from * peak, peak, warmup_steps)
    return optax.join_schedules([warmup, schedule], [warmup_steps])


def _drop_steps(settings: ConfigDict, plan: Plan) -> list[int]:
    """Return the steps after which the rate is lowered."""
    if settings.step_at:
        steps = [round(epoch * plan.steps_per_epoch) for epoch in settings.step_at]
        return [step for step in steps if step <= plan.total_steps]
    period = settings.step_epochs * plan.steps_per_epoch
    if plan.total_steps > _MAX_DROPS * period:
        raise UserError(
            f"config.schedule.step_epochs={settings.step_epochs} changes the rate more than "
            f"{_MAX_DROPS} times in {plan.epoch(plan.total_steps):g} epochs; use a larger value"
        )
    return [round(period * drop) for drop in range(1, int(plan.total_steps / period) + 1)]
