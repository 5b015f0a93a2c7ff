"""A trained run, as its work folder holds it: the config, the newest weights, and the task.

Nothing is written. The run may be finished, stopped, or still training.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict

from train import data, tasks
from train.checkpoints import manager
from train.data.dataset import Signature
from train.engine.state import named_leaves, sha256
from train.errors import UserError
from train.output import saved_run
from train.tasks.task import Task


class TrainedRun(NamedTuple):
    """The newest weights of a run, on the host.

    Attributes:
      config: The config of the run, with the changes that were asked for.
      signature: What the network takes and returns.
      task: The task, with the network.
      step: The number of steps after which the weights were saved.
      params: The parameters that evaluation uses.
      stats: The running statistics.
    """

    config: ConfigDict
    signature: Signature
    task: Task
    step: int
    params: Any
    stats: Any

    @property
    def params_sha256(self) -> str:
        """The digest of the parameters, as in the summary of a finished run."""
        return sha256(self.params)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, or their numbers if they have no names."""
        return self.signature.class_names or tuple(map(str, range(self.signature.num_classes)))


def load(folder: Path, config: ConfigDict) -> TrainedRun:
    """Load the newest weights of a run that can be read.

    Args:
      folder: The work folder.
      config: The config of `train.output.saved_run.read_config`, validated.

    Raises:
      UserError: If there are no weights, or they do not fit the network of the config.
    """
    signature = saved_run.read_signature(folder) or data.load(config).signature
    task = tasks.build(config, signature)
    step, weights = manager.load_newest_weights(
        folder / "checkpoints", log=lambda text: print(text, file=sys.stderr)
    )
    expected = dict(
        zip(("params", "stats"), jax.eval_shape(task.init, jax.random.key(0)), strict=True)
    )
    shapes = {name: leaf.shape for name, leaf in named_leaves(expected).items()}
    arrays = {name: leaf.shape for name, leaf in named_leaves(weights).items()}
    for name in sorted(shapes.keys() | arrays.keys()):
        if shapes.get(name) != arrays.get(name):
            raise UserError(
                f"the weights in {folder} do not fit config.model: {name} has shape "
                f"{arrays.get(name, 'nothing')} there and {shapes.get(name, 'nothing')} in the "
                "network; restore the code of the network with which the run was trained"
            )
    leaves = [named_leaves(weights)[name] for name in named_leaves(expected)]
    weights = jax.tree.unflatten(jax.tree.structure(expected), leaves)
    return TrainedRun(config, signature, task, step, weights["params"], weights["stats"])
