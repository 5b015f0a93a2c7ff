"""Balanced sampling: the classes of an epoch, its determinism, and data that it is not for."""

import itertools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.support import image_folder, linear
from train import experiment
from train.config import default_config, validate
from train.data.class_counts import ClassCounts, count
from train.data.dataset import Dataset, Split
from train.data.order import HostOrder, epoch_order
from train.data.streaming import pipeline
from train.errors import UserError
from train.studies.parallel_runs import ParallelRuns
from train.tasks.task import means

LABELS = np.repeat(np.arange(3, dtype=np.int32), (40, 7, 3))


def classes_of(labels):
    labels = np.asarray(labels, np.int32)
    return ClassCounts(labels, np.bincount(labels).astype(np.int32))


def host_epoch(order, epoch):
    size = order.num_examples
    return np.array([order.example_at(epoch * size + index) for index in range(size)])


def device_epoch(seed, epoch, classes):
    order = jax.jit(epoch_order, static_argnums=2)
    return np.asarray(order(seed, jnp.int32(epoch), len(classes.labels), classes))


def both_epochs(seed, epoch, classes):
    yield host_epoch(HostOrder(seed, len(classes.labels), classes), epoch)
    yield device_epoch(seed, epoch, classes)


@hypothesis.given(
    sizes=st.lists(st.integers(1, 30), min_size=2, max_size=6), seed=st.integers(0, 99)
)
@hypothesis.settings(max_examples=15, deadline=None)
def test_each_class_is_equally_frequent(sizes, seed):
    classes = classes_of(
        np.random.default_rng(seed).permutation(np.repeat(range(len(sizes)), sizes))
    )
    for ids in both_epochs(seed, 0, classes):
        assert len(ids) == sum(sizes)
        drawn = np.bincount(classes.labels[ids], minlength=len(sizes))
        assert drawn.max() - drawn.min() <= 1
        for label, size in enumerate(sizes):  # repeated only after all others of the class
            times = np.bincount(ids, minlength=len(classes.labels))[classes.labels == label]
            assert times.max() - times.min() <= 1
            assert len(times) == size


def test_epochs_differ_and_cover_all_examples():
    classes = classes_of(LABELS)
    for first, second in zip(both_epochs(0, 0, classes), both_epochs(0, 1, classes), strict=True):
        assert (first != second).any()
    for epochs in zip(*(both_epochs(0, epoch, classes) for epoch in range(20)), strict=True):
        assert set(np.concatenate(epochs).tolist()) == set(range(50))
    # 50 examples of 3 classes: each class has one of the two left over equally often.
    drawn = sum(np.bincount(LABELS[ids]) for ids in epochs)
    assert drawn.sum() == 1000
    assert np.abs(drawn - 1000 / 3).max() <= 20


def test_classes_are_mixed():
    for ids in both_epochs(0, 0, classes_of(LABELS)):
        drawn = LABELS[ids]
        assert np.count_nonzero(drawn[1:] != drawn[:-1]) > 20  # 2 if sorted by class


def make_config(**fields):
    config = default_config()
    config.data.update(sampling="balanced", batch_size=8, **fields)
    validate(config)
    return config


def make_dataset(labels=LABELS):
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None] * np.ones(
        (1, 8, 8, 1), np.uint8
    )
    return Dataset(Split(images, labels), Split(images, labels), 3)


def trained(devices, stops, sampling="balanced"):
    """Return the parameters after dispatches that end at some steps; each resumes on its own."""
    config = make_config()
    config.data.sampling = sampling
    run = linear.prepare(config, make_dataset(), devices=jax.devices()[:devices])
    state = run.init_state()
    for start, stop in itertools.pairwise((0, *stops)):
        state, *_ = run.compile(state).steps(state, start, stop)
    return np.asarray(state.params["kernel"])


def test_resident_run_resumes_at_any_step():
    whole = trained(8, (12,))
    np.testing.assert_array_equal(trained(8, (5, 7, 12)), whole)
    np.testing.assert_allclose(trained(1, (12,)), whole, atol=1e-5)
    assert np.abs(trained(1, (12,), "shuffled") - whole).max() > 1e-3


@pytest.mark.slow
def test_study_draws_the_same_examples():
    config, one_device = make_config(), jax.devices()[:1]
    config.num_steps = 8
    runs = ParallelRuns(config, make_dataset(), one_device, 1)
    (result,) = runs.train([config.seed], [config.optimizer.learning_rate])
    run = experiment.prepare(config, make_dataset(), one_device)
    executor = run.compile(state := run.init_state())
    state, *_ = executor.steps(state, 0, 8)
    assert means(executor.evaluate(state)[""])["loss"] == pytest.approx(result["loss"], rel=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return an image folder with 3 images of one class and 1 of the other."""
    root = tmp_path_factory.mktemp("images")
    image_folder.write(root)
    for index in (1, 2):
        (root / "train" / "bee" / f"{index}.png").unlink()
    return root


def stream_of(root, index=0, processes=1, **fields):
    config = image_folder.make_config(root)
    config.data.update(sampling="balanced", batch_size=4, **fields)
    validate(config)
    return pipeline.open_dataset(config, index, processes)


def take(batches, number):
    with batches:
        taken = [next(batches) for _ in range(number)]
    return [np.concatenate(arrays) for arrays in zip(*taken, strict=True)][:2]


def assert_same(one, other):
    for first, second in zip(one, other, strict=True):
        np.testing.assert_array_equal(first, second)


def test_streamed_epochs_are_balanced(folder):
    stream = stream_of(folder)
    images, labels = take(stream.train_batches(0), 6)
    assert (labels.reshape(6, 4).sum(1) == 2).all()  # a batch is an epoch
    assert_same([images[12:], labels[12:]], take(stream.train_batches(3), 3))
    assert_same([images, labels], take(stream_of(folder, workers=2).train_batches(0), 6))
    halves = [take(stream_of(folder, index, 2).train_batches(0), 6) for index in (0, 1)]
    rows = [np.stack([half[1].reshape(6, 2) for half in halves], 1).ravel()]
    assert_same(rows, [labels])


def test_test_split_is_not_balanced(folder):
    _, labels = take(stream_of(folder).train_batches_in_order(4), 1)
    assert labels.tolist() == [0, 0, 0, 1]


def test_class_without_examples_is_rejected():
    with pytest.raises(UserError, match=r"sampling='balanced' is not possible: class 2 has no"):
        experiment.prepare(make_config(), make_dataset(LABELS[:47]))


def test_unknown_labels_are_rejected():
    class Streamed:
        num_classes = 3

        class train:  # noqa: N801
            fix_hint = "repair it"
            known = None

            @classmethod
            def labels(cls):
                return cls.known

            @staticmethod
            def record_name(index):
                return f"record {index}"

    with pytest.raises(UserError, match=r"in its records; set config.data.in_memory to True, or"):
        count(make_config(), Streamed, "data.sampling", "shuffled")
    Streamed.train.known = np.array([0, -1, 2])
    with pytest.raises(UserError, match=r"record 1 has the label -1, but the 3 classes have"):
        count(make_config(), Streamed, "data.sampling", "shuffled")
