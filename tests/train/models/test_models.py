"""The networks have the authors' sizes, and their kernels the axes that GC needs."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import models
from train.config import default_config
from train.errors import UserError


def build(name, num_classes=100, input_shape=(32, 32, 3), precision="float32", **options):
    config = default_config()
    config.model.name, config.precision = name, precision
    config.model.update(options)
    return models.build(config, num_classes, input_shape)


def count(model):
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("resnet18", 11_220_132),
        ("resnet34", 21_328_292),
        ("resnet50", 23_705_252),
        ("resnet101", 42_697_380),
        ("resnet20", 278_324),
        ("vgg11", 9_277_284),
        ("resnext29", 27_288_996),
        ("densenet121", 7_048_548),
    ],
)
def test_parameter_counts_are_the_authors(name, parameters):
    assert count(build(name)) == parameters


@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet50", 25_557_032), ("resnet101", 44_549_160)]
)
def test_on_imagenet_parameter_counts_are_torchvisions(name, parameters, norm):
    assert count(build(name, 1000, (224, 224, 3), stem="7x7", norm=norm)) == parameters


def test_the_7x7_stem_leaves_a_quarter_of_each_side():
    """All in all a ResNet then divides a side by 32; with the 3x3 stem, by 8."""
    for stem, divisor in (("7x7", 32), ("3x3", 8)):
        model = build("resnet18", 10, (64, 64, 3), stem=stem)
        assert smallest_side(model) == 64 // divisor


def smallest_side(model):
    """Of the activations between the convolutions."""
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    lowered = jax.jit(model.apply, static_argnums=3).lower(params, stats, images, False)
    sides = re.findall(r"stablehlo.convolution.*-> tensor<1x(\d+)x", lowered.as_text())
    return min(map(int, sides))


@pytest.mark.parametrize("name", models.MODELS)
def test_every_kernel_is_centralized_over_all_but_its_last_axis(name):
    check_axes(build(name))


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_so_it_is_with_another_stem_and_rematerialized(name):
    check_axes(build(name, 1000, (64, 64, 3), stem="7x7", remat=True))


def check_axes(model):
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    fan_ins = jax.tree.leaves(models.fan_in_axes(model))
    for (path, leaf), fan_in in zip(leaves, fan_ins, strict=True):
        is_kernel = path[-1].key == "kernel"
        assert fan_in.axes == (tuple(range(leaf.ndim - 1)) if is_kernel else ()), path


def test_rematerialized_a_net_learns_the_same():
    images = jax.random.normal(jax.random.key(1), (8, 8, 8, 3))
    results = []
    for remat in (False, True):
        model = build("resnet20", 10, (8, 8, 3), remat=remat)
        params, stats = model.init(jax.random.key(0))
        gradient = jax.value_and_grad(loss(model, stats, images), has_aux=True)
        results.append(jax.jit(gradient)(params))
    # Batch normalization of 8 images with few pixels each makes much of a rounding.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *results)


def test_rematerialized_a_net_computes_its_blocks_once_more():
    """Forward once, and backward once for each kernel and all activations but the images."""
    images = jax.ShapeDtypeStruct((8, 8, 8, 3), jnp.float32)
    convolutions = {}
    for remat in (False, True):
        model = build("resnet20", 10, (8, 8, 3), remat=remat)
        params, stats = jax.eval_shape(model.init, jax.random.key(0))
        gradient = jax.grad(lambda p, s, x, m=model: loss(m, s, x)(p)[0])
        program = jax.jit(gradient).lower(params, stats, images).as_text()
        convolutions[remat] = program.count("stablehlo.convolution")
    kernels = 1 + 9 * 2 + 2  # stem, blocks, shortcuts
    assert convolutions == {False: 3 * kernels - 1, True: 3 * kernels - 1 + 9 * 2 + 2}


def loss(model, stats, images):
    def of(params):
        logits, new_stats = model.apply(params, stats, images, True)
        return -jnp.mean(jax.nn.log_softmax(logits)[:, 0]), new_stats

    return of


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


@pytest.mark.parametrize(
    ("name", "field", "value", "allowed"),
    [
        ("convnet", "stem", "7x7", "set it to '3x3', or config.model.name to one of resnet18,"),
        ("convnet", "remat", True, "set it to False, or config.model.name to one of resnet18,"),
        ("vgg11", "norm", "group", "set it to 'batch', or config.model.name to one of convnet,"),
        (
            "resnet18",
            "norm",
            "none",
            "set it to 'batch' or 'group', or config.model.name to one of convnet",
        ),
        ("densenet121", "weight_standardization", True, "set it to False, or config.model.name"),
    ],
)
def test_an_option_is_refused_where_it_is_not_known(name, field, value, allowed):
    with pytest.raises(UserError) as error:
        build(name, **{field: value})
    assert f"config.model.{field}={value!r} is not for {name}; {allowed}" in str(error.value)


@pytest.mark.parametrize(("name", "least"), [("vgg11", 32), ("densenet121", 8)])
def test_images_of_which_nothing_would_be_left_are_refused(name, least):
    build(name, input_shape=(least, least, 3))
    with pytest.raises(UserError, match=f"needs images of {least}x{least} pixels or more"):
        build(name, input_shape=(least, least - 1, 3))
