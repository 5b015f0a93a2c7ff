"""Balanced class weights: their values, the loss with them, and data without known labels."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests.support import linear
from train import tasks
from train.config import default_config, validate
from train.data.batch import Batch
from train.data.dataset import Dataset, Signature, Split
from train.errors import UserError
from train.tasks import class_weights


def make_config():
    config = default_config()
    config.data.batch_size = 8
    config.loss.class_weights = "balanced"
    validate(config)
    return config


def make_dataset(labels, num_classes=3):
    labels = np.array(labels, np.int32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (len(labels), 8, 8, 1)).astype(np.uint8)
    return Dataset(Split(images, labels), Split(images, labels), num_classes)


def test_weights_balance_the_classes():
    weights = class_weights.balanced(make_config(), make_dataset([0, 0, 0, 0, 1, 1, 2, 2]))
    np.testing.assert_allclose(weights, [8 / 12, 8 / 6, 8 / 6])
    assert weights.dtype == np.float32


def linear_losses(dataset, shapes):
    """Return a task with a linear network, its weights, its loss, and the loss of each example.

    The task is built from `shapes`: the data set, or what is known of it without its examples.
    """
    model = linear.prepare(make_config(), dataset, devices=jax.devices()[:1]).task.model
    params, stats = model.init(jax.random.key(0))
    task = tasks.build(make_config(), shapes)
    task.model = model
    batch = task.prepare(Batch(*map(jnp.asarray, dataset.train), jnp.ones(8, bool)))
    logits, _ = model.apply(params, stats, batch.inputs, True)
    each = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
    loss, _ = task.loss(params, stats, batch, jax.random.key(0))
    return task, (params, stats), loss, each


def test_training_loss_is_weighted_and_test_loss_is_not():
    dataset = make_dataset([0, 0, 0, 0, 0, 0, 1, 2])
    task, (params, stats), loss, each = linear_losses(dataset, dataset)
    weights = class_weights.balanced(make_config(), dataset)[dataset.train.labels]
    np.testing.assert_allclose(loss, (weights * each).mean(), rtol=1e-5)
    evaluation = task.evaluations(0)[""]
    zeros = dict.fromkeys(("examples", *evaluation.metrics), jnp.zeros(()))
    sums = evaluation.add(params, stats, zeros, Batch(*dataset.test, np.ones(8, bool)))
    np.testing.assert_allclose(sums["loss"], each.sum(), rtol=1e-5)


def test_no_weights_without_examples():
    dataset = make_dataset([0, 0, 0, 0, 0, 0, 1, 2])
    _, _, loss, each = linear_losses(dataset, Signature(3, (8, 8, 1)))
    np.testing.assert_allclose(loss, each.mean(), rtol=1e-5)


def test_unknown_frequencies_are_rejected():
    with pytest.raises(UserError, match=r"class 1 has no training examples; set it to 'none'"):
        class_weights.balanced(make_config(), make_dataset([0, 0, 2]))

    class Streamed:
        num_classes = 3

        class train:  # noqa: N801
            @staticmethod
            def labels():
                return None

    with pytest.raises(UserError, match=r"needs the labels of all training examples, but those of"):
        class_weights.balanced(make_config(), Streamed)
