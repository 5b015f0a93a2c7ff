"""The fields of a training config about the optimizer, its schedule and the loss."""

from typing import Annotated, Literal, get_args

from train.config.entry_point import is_entry_point
from train.config.fields import Section, field
from train.config.types import (
    LIST,
    BelowOne,
    Check,
    NonNegative,
    Positive,
    PositiveInt,
    UpToOne,
    ZeroToOne,
    is_increasing,
)

SimpleOptimizer = Literal[
    "sgd",
    "momentum",
    "sgdw",
    "adagrad",
    "rmsprop",
    "adam",
    "adamw",
    "radam",
    "lion",
    "lamb",
    "adan",
    "muon",
]
"""Optimizers that Lookahead can wrap."""
KnownOptimizer = Literal[
    SimpleOptimizer, "lookahead", "ranger", "schedule_free_sgd", "schedule_free_adamw"
]

OPTIMIZERS: tuple[str, ...] = get_args(KnownOptimizer)
OptimizerName = Annotated[
    str,
    Check(
        lambda name: name in OPTIMIZERS or is_entry_point(name),
        f"one of {', '.join(OPTIMIZERS)}, or an own one such as my_parts.py:my_optimizer",
    ),
]
LossName = Annotated[
    str,
    Check(
        lambda name: name == "cross_entropy" or is_entry_point(name),
        "cross_entropy, or an own one such as my_parts.py:my_loss",
    ),
]

Epochs = Annotated[
    tuple[Positive, ...], LIST, Check(is_increasing, "increasing numbers of epochs above 0")
]
Names = Annotated[
    tuple[str, ...], LIST, Check(lambda names: all(names), "names of layers, such as ('conv1',)")
]


class Lookahead(Section):
    """Lookahead, for the optimizers lookahead and ranger."""

    inner: SimpleOptimizer = field("momentum", "The optimizer that `lookahead` wraps.")
    period: PositiveInt = field(5, "Steps between two synchronizations of the slow weights.")
    step_size: UpToOne = field(0.5, "Share of the way that the slow weights move to the fast ones.")


class Optimizer(Section):
    """The optimizer."""

    name: OptimizerName = field("momentum", "The optimizer.")
    learning_rate: Positive = field(0.1, "The learning rate after warm-up.")
    weight_decay: NonNegative = field(
        0.0,
        "L2 decay for `sgd`, `momentum`, `adagrad`, `rmsprop`, `adam` and `schedule_free_sgd`; "
        "decoupled for the others.",
    )
    momentum: BelowOne = field(0.9, "Momentum of `momentum`, `sgdw` and `muon`.")
    nesterov: bool = field(False, "Nesterov momentum, for `momentum` and `sgdw`.")
    b1: BelowOne = field(
        0.9, "Decay of the first moment; of `schedule_free`, the share of the average."
    )
    b2: BelowOne = field(0.999, "Decay of the second moment; for `lion` 0.99 is usual.")
    b3: BelowOne = field(0.99, "`adan`: decay of the third moment; 0.98, 0.92, 0.99 are usual.")
    eps: Positive = field(
        1e-8, "Added to the root of the second moment; inside it for `adagrad` and `rmsprop`."
    )
    lookahead: Lookahead = Lookahead()
    body_lr_scale: ZeroToOne = field(
        1.0, "Factor of the learning rate of all layers but the last; 0 freezes them."
    )
    freeze: Names = field((), "Layers whose weights do not change, such as `stem`, `blocks/0`.")
    clip_norm: NonNegative = field(0.0, "Largest global norm of the gradient; 0: not clipped.")
    clip_location: Literal["gradient", "centralized"] = field(
        "gradient", "Clip the raw gradient, or what the optimizer gets: after decay and GC."
    )
    ema: BelowOne = field(
        0.0, "Decay of the moving average of the weights, which is evaluated; 0: no average."
    )


class Schedule(Section):
    """The learning rate schedule."""

    name: Literal["constant", "step", "cosine"] = field("constant", "The shape of the schedule.")
    warmup: BelowOne = field(0.0, "Share of the run with a linear warm-up.")
    warmup_from: BelowOne = field(0.0, "Share of the learning rate at which the warm-up starts.")
    step_epochs: Positive = field(60.0, "`step`: epochs between two drops of the rate.")
    step_at: Epochs = field(
        (), "`step`: epochs after which the rate drops, instead of `step_epochs`."
    )
    step_factor: Positive = field(0.1, "`step`: factor of the rate at a drop.")


class Loss(Section):
    """The training loss; the test loss is always the plain cross-entropy."""

    name: LossName = field("cross_entropy", "The loss, or an own function, `my_parts.py:loss`.")
    label_smoothing: BelowOne = field(
        0.0, "Share of each label that is spread evenly over all classes."
    )
    class_weights: Literal["none", "balanced"] = field(
        "none", "Weigh examples by the inverse frequency of their class in the training split."
    )
