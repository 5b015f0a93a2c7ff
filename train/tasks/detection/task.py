"""Object detection and instance segmentation: losses, average precision, pictures."""

import math
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import optax_gc
from train.data.dataset import AnyDataset
from train.data.detection.batch import DetectionBatch
from train.data.detection.flip import random_flip
from train.data.detection.load import is_in_memory
from train.data.inputs import to_model_inputs
from train.models.detection import rcnn
from train.models.detection.settings import Proposals, Sampling, Settings, paper, small
from train.models.last_layer import Layers
from train.models.layers.norm import make_normalization
from train.tasks.detection import objective, postprocess
from train.tasks.detection.predictions import Predictions
from train.tasks.task import Evaluation, Headline, MetricSums

_FLIP = 0  # folded into the step's key, as in `train.tasks.classification`
_EXAMPLE_SIDE = 128  # of the image with which the input axes are inferred
_NUM_PICTURES, _COLUMNS = 12, 4
_BOX_SCORES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "precision", "recall")


class Outputs(NamedTuple):
    """The detections in a batch, and what is needed to compare them with the objects.

    Attributes:
      predictions: The detections.
      sizes: int32, (batch, 2); the height and the width of each image without the padding.
    """

    predictions: Predictions
    sizes: Any


class BoxDetection:
    """The task of Faster R-CNN; see `train.tasks.task.Task`.

    Attributes:
      detector: The network.
    """

    metrics: ClassVar[tuple[str, ...]] = objective.METRICS
    scores: ClassVar[tuple[str, ...]] = tuple(f"box_{name}" for name in _BOX_SCORES)
    headline: ClassVar = Headline("box_ap", "box AP", "box AP (%)")
    picture: ClassVar = "detections"
    backbone: ClassVar = "backbone"

    def __init__(self, config: ConfigDict, num_classes: int):
        """Make the task of a validated config."""
        self._config = config
        self.detector = rcnn.make(make_settings(config, num_classes))
        self._loss = objective.make_loss(self.detector)
        self._predict = postprocess.make_predict(self.detector)

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Return random parameters and statistics."""
        return self.detector.init(key)

    def fan_in_axes(self) -> Any:
        """Return the fan-in axes of the parameters, inferred from a trace of the loss."""
        params, stats = jax.eval_shape(self.detector.init, jax.random.key(0))
        masks = self._config.detection.mask_size if self.detector.settings.masks else 0
        batch = _abstract_example(masks)
        return optax_gc.infer_axes(
            lambda params, stats, batch: self._loss(params, stats, batch, jax.random.key(0))[0],
            params,
            stats,
            batch,
            data_argnums=2,
            raise_if_ambiguous=True,
        )

    def last_layer(self) -> Layers:
        """Return the paths of the layers whose shapes depend on the number of classes."""
        return self.detector.last_layer

    def prepare(self, batch: DetectionBatch) -> DetectionBatch:
        """Return a batch with standardized pixels; the padding is 0."""
        pixels = to_model_inputs(batch.inputs, self._config)
        height, width = pixels.shape[1:3]
        rows = jnp.arange(height)[None] < batch.sizes[:, :1]
        columns = jnp.arange(width)[None] < batch.sizes[:, 1:]
        inside = (rows[:, :, None] & columns[:, None])[..., None]
        return batch._replace(inputs=jnp.where(inside, pixels, 0))

    def augment(
        self, key: jax.Array, batch: DetectionBatch, params: Any, stats: Any
    ) -> DetectionBatch:
        """Return a prepared batch; images in memory are flipped, as streams flip theirs."""
        if self._config.data.flip and is_in_memory(self._config):
            batch = random_flip(jax.random.fold_in(key, _FLIP), batch)
        return self.prepare(batch)

    def loss(
        self, params: Any, stats: Any, batch: DetectionBatch, key: jax.Array
    ) -> tuple[jax.Array, tuple[Any, MetricSums]]:
        """Return the mean loss of the images, the new statistics, and the sums of its parts."""
        return self._loss(params, stats, batch, key)

    def evaluations(self, seed: jax.typing.ArrayLike) -> dict[str, Evaluation]:
        """Return the evaluation of the loss, whose samples of boxes are always the same."""

        def add(params: Any, stats: Any, sums: MetricSums, batch: DetectionBatch) -> MetricSums:
            _, (_, new) = self._loss(params, stats, self.prepare(batch), jax.random.key(seed))
            return jax.tree.map(jnp.add, sums, new)

        return {"": Evaluation(self.metrics, add)}

    def predict(self, params: Any, stats: Any, batch: DetectionBatch) -> Outputs:
        """Return the detections in the images of a batch."""
        found = self._predict(params, stats, self.prepare(batch))
        # Half precision: a split has many masks, of which only what is above 1/2 matters.
        masks = found.masks.astype(jnp.float16)
        predictions = Predictions(found.boxes, found.scores, found.classes, masks, batch.ids)
        return Outputs(predictions, batch.sizes)

    def score(self, predictions: Outputs, dataset: AnyDataset) -> dict[str, float]:
        """Return COCO's average precision, and precision and recall; NaN where undefined."""
        found = self._average_precision(predictions, dataset)
        return {name: math.nan if found[name] is None else found[name] for name in self.scores}

    def score_classes(self, predictions: Outputs, dataset: AnyDataset) -> list[dict[str, Any]]:
        """Return the number of objects of each class, and its average precision."""
        return self._average_precision(predictions, dataset)["per_class"]

    def draw(
        self, predictions: Outputs, rows: list[dict[str, Any]], dataset: AnyDataset, file: Path
    ) -> None:
        """Draw the detections in the first images of the test split."""
        from train.tasks.detection import page  # imports Matplotlib

        threshold = self._config.eval.score_threshold
        examples = dataset.test_examples(_NUM_PICTURES)  # type: ignore[attr-defined]
        page.draw(file, predictions.predictions, examples, dataset.class_names, threshold, _COLUMNS)

    def _average_precision(self, outputs: Outputs, dataset: Any) -> dict[str, Any]:
        from train.tasks.detection.average_precision import average_precision  # imports hotcoco

        predictions = outputs.predictions
        if not self.detector.settings.masks:
            predictions = predictions._replace(masks=None)
        _, rows = np.unique(predictions.ids, return_index=True)
        return average_precision(
            dataset.annotations,
            dataset.class_names,
            predictions,
            outputs.sizes[rows],
            max_detections=self.detector.settings.max_detections,
            score_threshold=self._config.eval.score_threshold,
        )


class MaskDetection(BoxDetection):
    """The task of Mask R-CNN, which also finds the pixels of each object."""

    metrics: ClassVar = (*objective.METRICS, "mask_loss")
    scores: ClassVar = tuple(f"{kind}_{name}" for kind in ("box", "mask") for name in _BOX_SCORES)


def make_settings(config: ConfigDict, num_classes: int) -> Settings:
    """Return the hyperparameters of the detector that a config describes."""
    detection = config.detection
    changes = {
        "norm": make_normalization(config.model.norm, config.model.weight_standardization),
        "anchor_sizes": tuple(detection.anchor_sizes),
        "train_proposals": Proposals(detection.train_proposals, detection.train_proposals),
        "test_proposals": Proposals(detection.test_proposals, detection.test_proposals),
        "rpn_sampling": Sampling(detection.rpn_samples, 0.5),
        "box_sampling": Sampling(detection.box_samples, 0.25),
        "max_detections": detection.max_detections,
        "dtype": jnp.dtype(config.precision),
    }
    masks = config.model.name == "mask_rcnn"
    if detection.backbone == "small":
        return small(num_classes, masks, **changes)
    return paper(num_classes, masks, detection.backbone, **changes)


def _abstract_example(mask_size: int) -> DetectionBatch:
    """Return a prepared batch of one image with one object, as `jax.ShapeDtypeStruct`s."""

    def array(dtype: Any, *shape: int) -> Any:
        return jax.ShapeDtypeStruct((1, *shape), dtype)

    return DetectionBatch(
        inputs=array(jnp.float32, _EXAMPLE_SIDE, _EXAMPLE_SIDE, 3),
        sizes=array(jnp.int32, 2),
        boxes=array(jnp.float32, 1, 4),
        classes=array(jnp.int32, 1),
        crowd=array(jnp.bool_, 1),
        masks=array(jnp.uint8, 1, mask_size, mask_size),
        ids=array(jnp.int32),
        mask=array(jnp.bool_),
    )
