"""Tasks: what a run learns. The engine, the output and the studies know it by `Task` alone."""

from typing import Protocol

from ml_collections import ConfigDict

from train import models
from train.config.detection import is_detection
from train.data.class_counts import HasTrainingSplit
from train.tasks import class_weights
from train.tasks.classification import Classification
from train.tasks.detection.task import BoxDetection, MaskDetection
from train.tasks.task import Task


class DataShapes(Protocol):
    """What a task must know of a data set: a `Dataset`, a `StreamingDataset` or a `Description`."""

    @property
    def num_classes(self) -> int: ...
    @property
    def input_shape(self) -> tuple[int, ...]: ...


TASKS = (Classification, BoxDetection, MaskDetection)
"""The class of each task."""


def task_class(config: ConfigDict) -> type[Task]:
    """Return the class of the task of a config, for its metrics."""
    if not is_detection(config):
        return Classification
    return MaskDetection if config.model.name == "mask_rcnn" else BoxDetection


def build(config: ConfigDict, dataset: DataShapes) -> Task:
    """Return the task of a config.

    Args:
      config: A validated config.
      dataset: The data set.

    Raises:
      UserError: If the model does not exist or does not fit the data; see `train.models.build`. Or
        if the classes should be balanced and their frequencies are not known.
    """
    if is_detection(config):
        kind = MaskDetection if config.model.name == "mask_rcnn" else BoxDetection
        return kind(config, dataset.num_classes)
    model = models.build(config, dataset.num_classes, dataset.input_shape)
    weights = None
    if config.loss.class_weights == "balanced" and isinstance(dataset, HasTrainingSplit):
        weights = class_weights.balanced(config, dataset)
    return Classification(config, model, weights)
