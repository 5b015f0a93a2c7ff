"""Matching, sampling, mask targets and losses, mostly by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.models.detection.settings import Matching, Sampling
from train.tasks.detection import losses
from train.tasks.detection.matching import Matches, Objects, match
from train.tasks.detection.sampling import Sample, sample
from train.tasks.detection.targets import mask_targets

RPN = Matching(0.7, 0.3, lowest_best=0.3)
BOXES = Matching(0.5, 0.5)


def make_objects(boxes, classes=None, crowd=None):
    count = len(boxes)
    return Objects(
        jnp.asarray(boxes, jnp.float32).reshape(count, 4),
        jnp.asarray(classes if classes is not None else [0] * count, jnp.int32),
        jnp.asarray(crowd if crowd is not None else [False] * count),
    )


def run(boxes, objects, settings, usable=None):
    boxes = jnp.asarray(boxes, jnp.float32)
    usable = jnp.ones(len(boxes), bool) if usable is None else jnp.asarray(usable)
    return jax.jit(match, static_argnums=3)(boxes, usable, objects, settings)


def test_thresholds():
    boxes = [[0, 0, 10, 10], [0, 0, 10, 7], [0, 0, 10, 5], [0, 0, 10, 2], [50, 50, 60, 60]]
    found = run(boxes, make_objects([[0, 0, 10, 10]]), RPN)
    assert found.positive.tolist() == [True, True, False, False, False]
    assert found.negative.tolist() == [False, False, False, True, True]
    found = run(boxes, make_objects([[0, 0, 10, 10]]), BOXES)
    assert found.positive.tolist() == [True, True, True, False, False]
    assert found.negative.tolist() == [False, False, False, True, True]


def test_best_anchors_of_an_object_are_positive():
    """Two anchors overlap the second object equally; the first object has a better one."""
    objects = make_objects([[0, 0, 10, 10], [0, 20, 10, 30], [90, 0, 99, 9]])
    boxes = [[0, 0, 10, 10], [0, 0, 10, 5], [0, 20, 10, 25], [0, 25, 10, 30], [90, 0, 91, 1]]
    found = run(boxes, objects, RPN)
    assert found.positive.tolist() == [True, False, True, True, False], "the last is below 0.3"
    assert found.objects[jnp.array([0, 2, 3])].tolist() == [0, 1, 1]
    assert found.negative.tolist() == [False, False, False, False, True]
    assert run(boxes, objects, BOXES).positive.tolist() == [True, True, True, True, False]


def test_best_anchor_belongs_to_the_object_it_is_best_of():
    """The anchor overlaps the first object more, but is the best one of the second."""
    objects = make_objects([[0, 0, 10, 10], [0, 4, 10, 16]])
    found = run([[0, 0, 10, 10], [0, 1, 10, 12]], objects, Matching(0.9, 0.3, lowest_best=0.3))
    assert found.positive.tolist() == [True, True]
    assert found.objects.tolist() == [0, 1]


def test_crowds_and_padding_are_ignored():
    objects = make_objects(
        [[0, 0, 10, 10], [20, 0, 60, 40], [70, 0, 80, 10]], [0, 1, -1], [False, True, False]
    )
    boxes = [[0, 0, 10, 10], [25, 5, 35, 15], [55, 0, 65, 10], [70, 0, 80, 10], [20, 0, 60, 40]]
    found = run(boxes, objects, BOXES)
    assert found.positive.tolist() == [True, False, False, False, False]
    assert found.negative.tolist() == [False, False, True, True, False]


def test_unusable_boxes_are_ignored():
    objects = make_objects([[0, 0, 10, 10]])
    boxes = [[0, 0, 10, 10], [0, 0, 10, 6], [50, 0, 60, 10], [50, 0, 60, 10]]
    found = run(boxes, objects, RPN, usable=[False, True, True, False])
    assert found.positive.tolist() == [False, True, False, False]
    assert found.negative.tolist() == [False, False, True, False]


def test_no_objects():
    found = run([[0, 0, 10, 10]], make_objects([[0, 0, 0, 0]], [-1]), RPN)
    assert not found.positive.any()
    assert found.negative.all()


def make_matches(positive, negative):
    flags = np.zeros((2, 100), bool)
    flags[0, :positive], flags[1, 100 - negative :] = True, True
    return Matches(*jnp.asarray(flags), jnp.zeros(100, jnp.int32))


@pytest.mark.parametrize(
    ("positive", "negative", "expected"),
    [(50, 50, (5, 15)), (3, 90, (3, 17)), (0, 40, (0, 20)), (50, 4, (5, 4)), (0, 0, (0, 0))],
)
def test_sample_has_a_share_of_positives(positive, negative, expected):
    matches = make_matches(positive, negative)
    chosen = sample(jax.random.key(0), matches, Sampling(20, 0.25))
    used = np.asarray(chosen.used)
    assert (chosen.positive.sum(), (used & ~chosen.positive).sum()) == expected
    assert matches.positive[chosen.indices[: expected[0]]].all()
    assert matches.negative[chosen.indices[used & ~np.asarray(chosen.positive)]].all()
    assert len({*chosen.indices[used].tolist()}) == sum(expected), "without repetition"
    assert chosen.positive[: expected[0]].all()
    assert used[: sum(expected)].all()


def test_sample_is_uniform():
    matches = make_matches(10, 20)
    keys = jax.random.split(jax.random.key(0), 2000)
    chosen = jax.vmap(lambda key: sample(key, matches, Sampling(8, 0.5)).indices)(keys)
    counts = np.bincount(chosen.reshape(-1), minlength=100)
    np.testing.assert_allclose(counts[:10], 2000 * 4 / 10, rtol=0.1)
    np.testing.assert_allclose(counts[80:], 2000 * 4 / 20, rtol=0.15)
    assert counts.sum() == 16_000


def test_sample_is_larger_than_the_number_of_boxes():
    matches = Matches(jnp.array([True]), jnp.array([False]), jnp.zeros(1, jnp.int32))
    chosen = sample(jax.random.key(0), matches, Sampling(8, 0.5))
    assert chosen.used.tolist() == [True] + [False] * 7


def test_mask_targets():
    """A mask of 8x8 pixels whose left half is set, of an object of 16x16 pixels at (10, 20)."""
    masks = np.zeros((3, 8, 8), np.uint8)
    masks[:, :, :4] = 1
    objects = jnp.array([[10.0, 20, 26, 36]] * 3)
    boxes = jnp.array([[10.0, 20, 26, 36], [10, 20, 18, 36], [2, 20, 18, 52]])
    found = np.asarray(mask_targets(jnp.asarray(masks), objects, boxes, 4))
    assert found[0].tolist() == [[1, 1, 0, 0]] * 4
    assert found[1].all(), "the left half of the object"
    assert found[2].tolist() == [[0, 0, 1, 1]] * 2 + [[0, 0, 0, 0]] * 2, "outside there is nothing"


def test_smooth_l1_matches_huber():
    errors = jnp.linspace(-3, 3, 101)
    for beta in (1 / 9, 1.0):
        expected = optax.huber_loss(errors, delta=beta) / beta
        np.testing.assert_allclose(losses.smooth_l1(errors, beta), expected, atol=1e-6)


def test_losses_are_divided_by_the_sample():
    chosen = Sample(
        jnp.zeros(4, jnp.int32),
        jnp.array([True, False, False, False]),
        jnp.array([True, True, True, False]),
    )
    infinite = jnp.array([1.0, 0, 0, jnp.nan])
    assert losses.objectness(infinite * 0, chosen) != losses.objectness(infinite * 0 + 1, chosen)
    assert losses.objectness(jnp.zeros(4).at[3].set(jnp.nan), chosen) == pytest.approx(np.log(2))
    logits = jnp.zeros((4, 3)).at[0, 1].set(9).at[1:3, 2].set(9).at[3].set(jnp.nan)
    assert losses.classification(logits, jnp.array([1, 0, 0, 0]), chosen) < 1e-3
    assert losses.classification(logits, jnp.array([0, 0, 0, 0]), chosen) == pytest.approx(3, 1e-3)
    targets = jnp.zeros((4, 4)).at[1:].set(jnp.inf)
    deltas = jnp.ones((4, 4)) * 2
    assert losses.regression(deltas, targets, chosen, 1.0) == pytest.approx(4 * 1.5 / 3)
    gradient = jax.grad(losses.regression)(deltas, targets, chosen, 1.0)
    np.testing.assert_allclose(gradient, np.pad(np.full((1, 4), 1 / 3), ((0, 3), (0, 0))))


def test_mask_loss_is_a_mean_over_positive_boxes():
    logits = jnp.zeros((3, 2, 2)).at[1].set(9)
    targets = jnp.zeros((3, 2, 2)).at[1].set(1)
    positive = jnp.array([True, True, False])
    assert losses.masks(logits, targets, positive) == pytest.approx(np.log(2) / 2, rel=1e-3)
    assert losses.masks(logits, targets, jnp.zeros(3, bool)) == 0
