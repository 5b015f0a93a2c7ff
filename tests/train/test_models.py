"""The networks have the authors' sizes, and their kernels the axes that GC needs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import config as trainer_config
from train import models
from train.errors import UserError


def build(name, num_classes=100, image_shape=(32, 32, 3), precision="float32"):
    config = trainer_config.default()
    config.model.name, config.precision = name, precision
    return models.build(config, num_classes, image_shape)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_220_132),
        ("resnet34", 21_328_292),
        ("resnet50", 23_705_252),
        ("resnet101", 42_697_380),
        ("resnet20", 278_324),
    ],
)
def test_parameter_counts_are_the_authors(name, count):
    params, _ = jax.eval_shape(build(name).init, jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == count


@pytest.mark.parametrize("name", models.MODELS)
def test_every_kernel_is_centralized_over_all_but_its_last_axis(name):
    model = build(name)
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    fan_ins = jax.tree.leaves(models.fan_in_axes(model))
    for (path, leaf), fan_in in zip(leaves, fan_ins, strict=True):
        is_kernel = path[-1].key == "kernel"
        assert fan_in.axes == (tuple(range(leaf.ndim - 1)) if is_kernel else ()), path


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_net_trains_its_statistics_and_evaluates_with_them(precision):
    model = build("convnet", 10, (8, 8, 1), precision)
    params, stats = model.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, stats))} == {jnp.dtype("float32")}
    images = jax.random.normal(jax.random.key(1), (16, 8, 8, 1))
    logits, trained = model.apply(params, stats, images, True)
    assert logits.shape == (16, 10)
    assert logits.dtype == precision
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), stats, trained)
    assert all(jax.tree.leaves(moved))
    _, unchanged = model.apply(params, stats, images, False)
    jax.tree.map(np.testing.assert_array_equal, stats, unchanged)


def test_an_evaluated_image_does_not_depend_on_its_neighbours():
    model = build("convnet", 10, (8, 8, 1))
    params, stats = model.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    together, _ = model.apply(params, stats, images, False)
    alone, _ = model.apply(params, stats, images[:1], False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_an_unknown_name_is_refused():
    with pytest.raises(UserError, match=r"'lenet' is not a model; it must be one of convnet"):
        build("lenet")
