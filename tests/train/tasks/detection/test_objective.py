"""The loss of a detector: each image by itself, on one and eight devices, and its GC axes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import optax_gc
from tests.support.detecting import CLASSES, MAX_OBJECTS, SIDE, make_batch, tiny
from train.models.detection import boxes as box_ops
from train.models.detection import rcnn, settings
from train.models.layers.norm import Normalization
from train.tasks.detection import objective
from train.tasks.detection.postprocess import make_predict

KEY = jax.random.key(3)
DETECTOR = rcnn.make(tiny())
LOSS = objective.make_loss(DETECTOR)
differentiate = jax.jit(jax.value_and_grad(LOSS, has_aux=True))


@functools.cache
def weights():
    """Return random weights that are not near zero, so that proposals and masks differ."""
    params, stats = DETECTOR.init(jax.random.key(0))
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noisy = [
        leaf + 0.03 * jax.random.normal(key, leaf.shape)
        for key, leaf in zip(keys, leaves, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy), stats


@functools.cache
def terms_of_images():
    """Return a compiled function of a batch: the terms of the loss of each image."""
    params, stats = weights()
    return jax.jit(
        lambda batch, key: DETECTOR.apply(
            params, stats, lambda net: objective.image_losses(net, batch, key)
        )[0]
    )


def select(batch, rows):
    return jax.tree.map(lambda array: array[jnp.asarray(rows)], batch)


@pytest.mark.slow
def test_every_weight_has_a_gradient():
    (loss, (stats, sums)), gradient = differentiate(*weights(), make_batch(8), KEY)
    assert np.isfinite(loss)
    assert not stats
    names = objective.metrics(DETECTOR.settings)
    assert sums.keys() == {"examples", *names}
    assert sums["examples"] == 8
    assert float(sums["loss"]) == pytest.approx(sum(float(sums[name]) for name in names[1:]))
    assert float(loss) == pytest.approx(float(sums["loss"]) / 8)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        assert np.abs(leaf).max() > 0, jax.tree_util.keystr(path)


def test_loss_of_an_image_depends_on_itself_alone():
    batch, of_images = make_batch(8), terms_of_images()
    expected = of_images(batch, KEY)
    rows = [5, 2, 2, 7, 0, 1, 6, 3]
    shuffled = of_images(select(batch, rows), KEY)
    for name, values in expected.items():
        np.testing.assert_allclose(shuffled[name], values[jnp.array(rows)], rtol=1e-4, atol=1e-6)
    other_ids = of_images(batch._replace(ids=batch.ids + 100), KEY)
    assert not np.allclose(other_ids["rpn_class_loss"], expected["rpn_class_loss"])
    other_key = of_images(batch, jax.random.key(4))
    assert not np.allclose(other_key["rpn_class_loss"], expected["rpn_class_loss"])


@pytest.mark.slow
def test_padding_of_the_batch_does_not_count():
    batch = make_batch(8)
    masked = batch._replace(
        mask=jnp.arange(8) < 5, inputs=batch.inputs.at[5:].set(9), ids=batch.ids.at[5:].set(0)
    )
    (loss, (_, sums)), _ = differentiate(*weights(), masked, KEY)
    terms = terms_of_images()(batch, KEY)
    assert sums["examples"] == 5
    of_images = np.sum([*terms.values()], 0)
    assert float(loss) == pytest.approx(of_images[:5].mean(), rel=1e-4)
    (loss, _), gradient = differentiate(*weights(), batch._replace(mask=jnp.zeros(8, bool)), KEY)
    assert loss == 0
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))


def test_images_without_objects():
    batch = make_batch(8)
    empty = batch._replace(classes=jnp.full((8, MAX_OBJECTS), -1))
    crowds = batch._replace(crowd=jnp.ones((8, MAX_OBJECTS), bool))
    for changed in (empty, crowds):
        terms = terms_of_images()(changed, KEY)
        for name, values in terms.items():
            assert np.isfinite(values).all()
            assert (values > 0).all() == (name in ("rpn_class_loss", "class_loss")), name


@pytest.mark.slow
def test_objects_at_borders_and_without_area():
    batch = make_batch(8)
    boxes = batch.boxes.at[:, 0].set(jnp.array([SIDE - 9.0, SIDE - 9, SIDE, SIDE]))
    boxes = boxes.at[:, 1].set(jnp.array([4.0, 4, 4, 20])).at[:, 2].set(0)
    batch = batch._replace(boxes=boxes, classes=jnp.ones((8, MAX_OBJECTS), jnp.int32))
    (loss, _), gradient = differentiate(*weights(), batch, KEY)
    assert np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gspmd", "shard_map"])
def test_eight_devices_give_the_same_loss_and_gradient(how):
    (expected, (_, sums)), gradient = differentiate(*weights(), make_batch(8), KEY)
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    rows, whole = PartitionSpec("batch"), PartitionSpec()
    batch = jax.device_put(make_batch(8), NamedSharding(mesh, rows))
    params, stats = jax.device_put(weights(), NamedSharding(mesh, whole))
    if how == "gspmd":
        run = jax.jit(jax.value_and_grad(LOSS, has_aux=True))
    else:

        def of_device(params, stats, batch, key):
            (loss, (stats, sums)), gradient = jax.value_and_grad(LOSS, has_aux=True)(
                params, stats, batch, key
            )
            loss, gradient = jax.lax.pmean((loss, gradient), "batch")
            return (loss, (stats, jax.lax.psum(sums, "batch"))), gradient

        run = jax.jit(
            jax.shard_map(
                of_device,
                mesh=mesh,
                in_specs=(whole, whole, rows, whole),
                out_specs=whole,
                check_vma=False,
            )
        )
    (loss, (_, new_sums)), new_gradient = run(params, stats, batch, KEY)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    for name, value in sums.items():
        np.testing.assert_allclose(new_sums[name], value, rtol=1e-4)
    for old, new in zip(jax.tree.leaves(gradient), jax.tree.leaves(new_gradient), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"norm": Normalization("batch"), "extra_levels": 1, "anchor_sizes": (8, 16, 32, 64)},
        {"norm": Normalization("group", weight_standardization=True), "box_head_convs": 1},
    ],
)
def test_axes_of_every_weight(changes):
    """All axes but the last one; of the RPN too, which is applied to several levels."""
    detector = rcnn.make(tiny(**changes))
    params, stats = jax.eval_shape(detector.init, jax.random.key(0))
    batch = jax.eval_shape(lambda: make_batch(1))
    loss = objective.make_loss(detector)
    axes = optax_gc.infer_axes(
        lambda params, stats, batch: loss(params, stats, batch, KEY)[0],
        params,
        stats,
        batch,
        data_argnums=2,
        raise_if_ambiguous=True,
    )
    found = jax.tree_util.tree_leaves_with_path(
        axes, is_leaf=lambda leaf: isinstance(leaf, optax_gc.FanIn)
    )
    leaves = jax.tree.leaves(params)
    assert {path[0].key for path, _ in found} == {"backbone", "fpn", "rpn", "box_head", "mask_head"}
    for (path, fan_in), leaf in zip(found, leaves, strict=True):
        expected = tuple(range(leaf.ndim - 1)) if path[-1].key == "kernel" else ()
        assert fan_in.axes == expected, (jax.tree_util.keystr(path), fan_in)


def test_loss_of_coco_traces():
    """Two images of 1344x800 with 100 objects; the loss is only traced."""
    detector = rcnn.make(settings.paper(80, masks=True))
    params, stats = jax.eval_shape(detector.init, jax.random.key(0))
    batch = jax.eval_shape(lambda: make_batch(2))
    shapes = {
        "inputs": (2, 800, 1344, 3),
        "boxes": (2, 100, 4),
        "classes": (2, 100),
        "crowd": (2, 100),
        "masks": (2, 100, 112, 112),
    }
    changed = {
        name: jax.ShapeDtypeStruct(shape, getattr(batch, name).dtype)
        for name, shape in shapes.items()
    }
    loss, (new_stats, _) = jax.eval_shape(
        objective.make_loss(detector), params, stats, batch._replace(**changed), KEY
    )
    assert loss.shape == ()
    assert jax.tree.structure(new_stats) == jax.tree.structure(stats)


@pytest.mark.slow
def test_detector_learns_a_few_images():
    """The loss and the detections fit together: a detector finds what it was trained on."""
    batch = make_batch(4, seed=1)
    optimizer = optax.adam(3e-3)

    @jax.jit
    def step(state, key):
        params, stats, opt_state = state
        (loss, (stats, _)), gradient = jax.value_and_grad(LOSS, has_aux=True)(
            params, stats, batch, key
        )
        updates, opt_state = optimizer.update(gradient, opt_state)
        return (optax.apply_updates(params, updates), stats, opt_state), loss

    params, stats = DETECTOR.init(jax.random.key(0))
    state = params, stats, optimizer.init(params)
    for index in range(100):
        state, loss = step(state, jax.random.fold_in(KEY, index))
    found = jax.jit(make_predict(DETECTOR))(*state[:2], batch)
    assert loss < 0.5
    for image in range(4):
        for box, label in zip(batch.boxes[image], batch.classes[image], strict=True):
            if label < 0:
                continue
            overlaps = box_ops.iou(box[None], found.boxes[image])[0]
            overlaps = np.where(found.classes[image] == label, overlaps, 0)
            best = overlaps.argmax()
            assert overlaps[best] > 0.6
            assert found.scores[image, best] > 0.5
            mask = found.masks[image, best]
            assert mask[:5].mean() > 0.7
            assert mask[-5:].mean() < 0.3
    assert found.classes.max() < CLASSES
