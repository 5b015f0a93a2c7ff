"""Classification of images and texts: cross-entropy, top-1 and top-5 accuracy."""

from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from train import models
from train.data.batch import Batch
from train.data.dataset import AnyDataset
from train.data.inputs import augment, to_model_inputs
from train.models import Model
from train.models.last_layer import Layers
from train.tasks import attacks, losses
from train.tasks.losses import Loss
from train.tasks.mixing import mix
from train.tasks.per_class import Predictions, confusion_matrix, per_class_metrics
from train.tasks.task import Evaluation, Headline, MetricSums
from train.tasks.trivial_augment import trivial_augment

# Folded into the step's key; the keys of crops and flips are split from the same key.
_DROPOUT, _TRIVIAL, _MIX = 2, 3, 4


class MixedBatch(NamedTuple):
    """A prepared batch for training; see `Batch` and `train.tasks.mixing.Mixed`."""

    inputs: jax.Array
    labels: jax.Array
    mask: jax.Array
    other_labels: jax.Array | None = None
    share: jax.Array | None = None


class Classification:
    """The task of a classifier, with the attacks of `config.adversary`; see `Task`.

    Attributes:
      model: The network.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "top1", "top5")
    scores: ClassVar[tuple[str, ...]] = ()
    headline: ClassVar = Headline("top1", "top-1", "top-1 accuracy (%)", "cross-entropy (nats)")
    picture: ClassVar = "classes"
    backbone: ClassVar = ""

    def __init__(self, config: ConfigDict, model: Model, class_weights: np.ndarray | None = None):
        """Make the task.

        Args:
          config: A validated config.
          model: The network.
          class_weights: The weight of each class in the training loss; None for equal weights.
        """
        self.model = model
        self._config = config
        # A frozen body is applied as in evaluation, so its running statistics do not change.
        self._trains_body = config.optimizer.body_lr_scale != 0
        self._train_attack = attacks.make(
            attacks.train_attack(config), config, model, train=self._trains_body
        )
        self._loss = losses.make(config, class_weights)
        self._eval_attack = attacks.make(attacks.eval_attack(config), config, model, train=False)

    def init(self, key: jax.Array) -> tuple[Any, Any]:
        """Return random parameters and statistics."""
        return self.model.init(key)

    def fan_in_axes(self) -> Any:
        """Return the fan-in axes of the parameters, inferred from a trace of the network."""
        return models.fan_in_axes(self.model)

    def last_layer(self) -> Layers:
        """Return the paths of the last layers in the parameters."""
        return self.model.last_layer()

    def prepare(self, batch: Batch) -> Batch:
        """Return a batch with standardized pixels or token ids."""
        return batch._replace(inputs=to_model_inputs(batch.inputs, self._config))

    def augment(self, key: jax.Array, batch: Batch, params: Any, stats: Any) -> MixedBatch:
        """Return a prepared batch after random changes of the images, and under attack.

        The order is: crops and flips, TrivialAugment, the attack, standardization, mixup or CutMix.
        """
        data, attack = self._config.data, self._train_attack
        perturb = attack and attack(key, batch.labels, params, stats)
        inputs = batch.inputs
        if data.augment == "trivial":
            inputs = augment(key, inputs, self._config)
            inputs = trivial_augment(jax.random.fold_in(key, _TRIVIAL), inputs)
            inputs = to_model_inputs(inputs, self._config, perturb=perturb)
        else:
            inputs = to_model_inputs(inputs, self._config, key, perturb)
        prepared = MixedBatch(inputs, *batch[1:])
        if data.mixup or data.cutmix:
            mixed = mix(jax.random.fold_in(key, _MIX), inputs, batch.labels, self._config)
            return prepared._replace(**mixed._asdict())
        return prepared

    def loss(
        self, params: Any, stats: Any, batch: Batch | MixedBatch, key: jax.Array
    ) -> tuple[jax.Array, tuple[Any, MetricSums]]:
        """Return the mean loss in nats, the new statistics, and the sums.

        The loss is the cross-entropy with smoothed or mixed labels. An example is counted as right
        if the network finds its own label, not that of the image that is mixed in.
        """
        dropout_key = jax.random.fold_in(key, _DROPOUT)
        logits, stats = self.model.apply(
            params, stats, batch.inputs, self._trains_body, dropout_key
        )
        sums = metric_sums(logits, batch, self._loss)
        return sums["loss"] / sums["examples"], (stats, sums)

    def evaluations(self, seed: jax.typing.ArrayLike) -> dict[str, Evaluation]:
        """Return the evaluation of clean examples, and that of attacked ones as "robust_"."""

        def add(params: Any, stats: Any, sums: MetricSums, batch: Batch) -> MetricSums:
            logits, _ = self.model.apply(params, stats, self.prepare(batch).inputs, False)
            return jax.tree.map(jnp.add, sums, metric_sums(logits, batch))

        def add_attacked(params: Any, stats: Any, sums: MetricSums, batch: Batch) -> MetricSums:
            assert self._eval_attack
            key = attacks.eval_key(seed, sums["examples"])
            perturb = self._eval_attack(key, batch.labels, params, stats)
            inputs = to_model_inputs(batch.inputs, self._config, perturb=perturb)
            logits, _ = self.model.apply(params, stats, inputs, False)
            new = metric_sums(logits, batch)
            return {name: sums[name] + new[name] for name in sums}

        evaluations = {"": Evaluation(self.metrics, add)}
        if self._eval_attack:
            evaluations["robust_"] = Evaluation(("loss", "top1"), add_attacked)
        return evaluations

    def predict(self, params: Any, stats: Any, batch: Batch) -> Predictions:
        """Return the logits for a batch."""
        logits, _ = self.model.apply(params, stats, self.prepare(batch).inputs, False)
        return Predictions(logits.astype(jnp.float32), batch.labels)

    def score(self, predictions: Predictions, dataset: AnyDataset) -> dict[str, float]:
        """Return nothing: the metrics are sums over batches."""
        return {}

    def score_classes(self, predictions: Predictions, dataset: AnyDataset) -> list[dict[str, Any]]:
        """Return precision, recall and AUC of each class."""
        return per_class_metrics(predictions, dataset.class_names)

    def draw(
        self,
        predictions: Predictions,
        rows: list[dict[str, Any]],
        dataset: AnyDataset,
        file: Path,
    ) -> None:
        """Draw the confusion matrix and the metrics of each class, as PNG and SVG."""
        from train.tasks import class_plots  # imports Matplotlib, which few runs need here

        files = [file, file.with_suffix(".svg")]
        class_plots.draw(files, rows, confusion_matrix(predictions))


def metric_sums(
    logits: jax.Array, batch: Batch | MixedBatch, loss_fn: Loss = losses.cross_entropy
) -> MetricSums:
    """Return the sums over a batch.

    A label is in the top k if fewer than k other logits are at least as large as its logit.

    Args:
      logits: (batch, classes).
      batch: The batch, with its labels.
      loss_fn: The loss of each example.
    """
    logits = logits.astype(jnp.float32)
    weight = batch.mask.astype(jnp.float32)
    loss = loss_fn(logits, batch.labels)
    if isinstance(batch, MixedBatch) and batch.share is not None:
        assert batch.other_labels is not None
        loss = batch.share * loss + (1 - batch.share) * loss_fn(logits, batch.other_labels)
    label_logits = jnp.take_along_axis(logits, batch.labels[:, None], axis=1)
    # Ties and NaN count against the label, so that constant or NaN logits score nothing.
    num_lower = jnp.sum(logits < label_logits, axis=1)
    rank = logits.shape[1] - 1 - num_lower
    return {
        "examples": jnp.sum(weight),
        "loss": jnp.sum(weight * loss),
        "top1": jnp.sum(weight * (rank < 1)),
        "top5": jnp.sum(weight * (rank < 5)),
    }
