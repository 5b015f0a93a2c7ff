"""Models: parameter counts, GC axes, rematerialization, statistics and options."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from train import models
from train.config import default_config
from train.errors import UserError
from train.models import densenet, resnet

SMALL_RESNET = functools.partial(resnet.ResNet, resnet.BasicBlock, (1, 1), (8, 16))
SMALL_DENSENET = functools.partial(densenet.DenseNet, (1, 1, 2, 1), 8)


def build(name, num_classes=100, input_shape=(32, 32, 3), precision="float32", **options):
    config = default_config()
    config.model.name, config.precision = name, precision
    config.model.update(options)
    return models.build(config, num_classes, input_shape)


@pytest.fixture
def small_resnet(monkeypatch):
    """Replace ResNet-20 by a smaller network of the same structure, which compiles faster."""
    monkeypatch.setitem(models.MODELS, "resnet20", SMALL_RESNET)


def count_parameters(model):
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@pytest.mark.slow
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
def test_parameter_counts_match_authors(name, parameters):
    assert count_parameters(build(name)) == parameters


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["batch", "group"])
@pytest.mark.parametrize(
    ("name", "parameters"), [("resnet50", 25_557_032), ("resnet101", 44_549_160)]
)
def test_parameter_counts_match_torchvision(name, parameters, norm):
    assert count_parameters(build(name, 1000, (224, 224, 3), stem="7x7", norm=norm)) == parameters


def test_stem_sets_smallest_activation():
    """A ResNet divides each side by 32 with the 7x7 stem, and by 8 with the 3x3 stem."""
    for stem, divisor in (("7x7", 32), ("3x3", 8)):
        model = build("resnet18", 10, (64, 64, 3), stem=stem)
        assert smallest_side(model) == 64 // divisor


def smallest_side(model):
    """Return the smallest side of the outputs of the convolutions."""
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, *model.input_shape), jnp.float32)
    lowered = jax.jit(model.apply, static_argnums=3).lower(params, stats, images, False)
    sides = re.findall(r"stablehlo.convolution.*-> tensor<1x(\d+)x", lowered.as_text())
    return min(map(int, sides))


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow if name in ("resnet101", "densenet121") else ())
        for name in models.MODELS
    ],
)
def test_axes_of_all_models(name):
    check_axes(build(name))


def test_axes_of_small_densenet(monkeypatch):
    monkeypatch.setitem(models.MODELS, "densenet121", SMALL_DENSENET)
    check_axes(build("densenet121"))


@pytest.mark.parametrize("name", ["resnet20", "resnet50"])
def test_axes_with_7x7_stem_and_remat(name):
    check_axes(build(name, 1000, (64, 64, 3), stem="7x7", remat=True))


def check_axes(model):
    """Check that GC averages kernels over all axes but the last, and changes nothing else."""
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    fan_ins = jax.tree.leaves(models.fan_in_axes(model))
    for (path, leaf), fan_in in zip(leaves, fan_ins, strict=True):
        is_kernel = path[-1].key == "kernel"
        assert fan_in.axes == (tuple(range(leaf.ndim - 1)) if is_kernel else ()), path


@pytest.mark.slow
@pytest.mark.usefixtures("small_resnet")
def test_remat_gives_same_gradients():
    images = jax.random.normal(jax.random.key(1), (8, 8, 8, 3))
    results = []
    for remat in (False, True):
        model = build("resnet20", 10, (8, 8, 3), remat=remat)
        params, stats = model.init(jax.random.key(0))
        value_and_grad = jax.value_and_grad(make_loss(model, stats, images), has_aux=True)
        results.append(jax.jit(value_and_grad)(params))
    # Batch normalization of few values amplifies rounding errors.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), *results)


@pytest.mark.slow
def test_remat_recomputes_blocks_once():
    """Count one forward convolution per kernel, and two backward ones, but one for the stem."""
    images = jax.ShapeDtypeStruct((8, 8, 8, 3), jnp.float32)
    convolutions = {}
    for remat in (False, True):
        model = build("resnet20", 10, (8, 8, 3), remat=remat)
        params, stats = jax.eval_shape(model.init, jax.random.key(0))
        grad = jax.grad(lambda p, s, x, m=model: make_loss(m, s, x)(p)[0])
        program = jax.jit(grad).lower(params, stats, images).as_text()
        convolutions[remat] = program.count("stablehlo.convolution")
    kernels = 1 + 9 * 2 + 2  # stem, blocks, shortcuts
    assert convolutions == {False: 3 * kernels - 1, True: 3 * kernels - 1 + 9 * 2 + 2}


def make_loss(model, stats, images):
    def loss(params):
        logits, new_stats = model.apply(params, stats, images, True)
        return -jnp.mean(jax.nn.log_softmax(logits)[:, 0]), new_stats

    return loss


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_only_training_updates_statistics(precision):
    model = build("convnet", 10, (8, 8, 1), precision)
    params, stats = model.init(jax.random.key(0))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, stats))} == {jnp.dtype("float32")}
    images = jax.random.normal(jax.random.key(1), (16, 8, 8, 1))
    logits, updated = model.apply(params, stats, images, True)
    assert logits.shape == (16, 10)
    assert logits.dtype == precision
    changed = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), stats, updated)
    assert all(jax.tree.leaves(changed))
    _, unchanged = model.apply(params, stats, images, False)
    jax.tree.map(np.testing.assert_array_equal, stats, unchanged)


def test_evaluation_ignores_rest_of_batch():
    model = build("convnet", 10, (8, 8, 1))
    params, stats = model.init(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (4, 8, 8, 1))
    together, _ = model.apply(params, stats, images, False)
    alone, _ = model.apply(params, stats, images[:1], False)
    np.testing.assert_allclose(together[:1], alone, rtol=1e-4, atol=1e-5)


def test_rejects_unknown_name():
    with pytest.raises(UserError, match=r"'lenet' is not a model; it must be one of convnet"):
        build("lenet")


@pytest.mark.parametrize(
    ("name", "field", "value", "allowed"),
    [
        ("convnet", "stem", "7x7", "set it to '3x3', or config.model.name to one of resnet8,"),
        ("convnet", "remat", True, "set it to False, or config.model.name to one of resnet8,"),
        ("vgg11", "norm", "group", "set it to 'batch', or config.model.name to one of convnet,"),
        ("densenet121", "weight_standardization", True, "set it to False, or config.model.name"),
    ],
)
def test_rejects_unsupported_option(name, field, value, allowed):
    with pytest.raises(UserError) as error:
        build(name, **{field: value})
    assert f"config.model.{field}={value!r} is not for {name}; {allowed}" in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), [("vgg11", 32), ("densenet121", 8)])
def test_rejects_small_images(name, side):
    build(name, input_shape=(side, side, 3))
    with pytest.raises(UserError, match=f"needs images of at least {side}x{side} pixels"):
        build(name, input_shape=(side, side - 1, 3))
