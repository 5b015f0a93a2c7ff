"""Networks that users write: any names, arguments, modes, random numbers and variables."""

import functools
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from tests.support.own_networks import (
    Attention,
    ConvOutput,
    Dense,
    FailsAtStart,
    KeywordMode,
    Linen,
    NeedsMask,
    NeedsWidth,
    Nested,
    OwnParameter,
    OwnVariables,
    SharedRngs,
    ThreeLogits,
    TwoOutputs,
    TwoResults,
    UsedTwice,
    WrongWidth,
)
from tests.support.training import train_here
from train import models
from train.config import default_config
from train.engine import optimizers, state
from train.errors import UserError
from train.models import last_layer


@pytest.fixture
def build(monkeypatch):
    """Return a function that builds a network for 8x8 images of one channel and five classes."""
    monkeypatch.setattr(models, "MODELS", dict(models.MODELS))

    def build(network, **fields):
        models.MODELS["mine"] = network
        config = default_config()
        config.model.name = "mine"
        with config.unlocked():
            config.update_from_flattened_dict(fields)
        return models.build(config, 5, (8, 8, 1))

    return build


IMAGES = jax.random.normal(jax.random.key(7), (16, 8, 8, 1))
RANDOM = [Dense, KeywordMode, SharedRngs, Attention, OwnVariables]
LAST_LAYERS = [
    (Dense, {("out",)}),
    (Nested, {("net", "layers", 3)}),
    (TwoOutputs, {("out",), ("skip",), ("skip", "lora")}),
    (OwnParameter, {("weight",)}),
    (ConvOutput, {("last",)}),
]


@pytest.mark.parametrize("network", RANDOM)
def test_random_numbers_follow_from_key(build, network):
    model = build(network)
    params, stats = model.init(jax.random.key(0))
    apply = jax.jit(model.apply, static_argnums=3)
    first, second, other = (
        apply(params, stats, IMAGES, True, jax.random.key(key))[0] for key in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert jnp.abs(first - other).max() > 1e-3
    assert len(np.unique(first - other, axis=0)) == len(first), "each image has its own numbers"


@pytest.mark.parametrize("network", RANDOM)
def test_evaluation_is_deterministic(build, network):
    model = build(network)
    params, stats = model.init(jax.random.key(0))
    keys = [None, jax.random.key(1), jax.random.key(2)]
    logits = [model.apply(params, stats, IMAGES, False, key)[0] for key in keys]
    np.testing.assert_array_equal(logits[0], logits[1])
    np.testing.assert_array_equal(logits[0], logits[2])


@pytest.mark.parametrize("network", [Dense, SharedRngs])
def test_random_numbers_do_not_depend_on_devices(build, network):
    model = build(network)
    params, stats = model.init(jax.random.key(0))
    apply = jax.jit(model.apply, static_argnums=3)
    expected, _ = apply(params, stats, IMAGES, True, jax.random.key(1))
    for count in (2, 8):
        mesh = jax.make_mesh((count,), ("batch",), devices=jax.devices()[:count])
        images = jax.device_put(IMAGES, NamedSharding(mesh, P("batch")))
        logits, _ = apply(params, stats, images, True, jax.random.key(1))
        np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)


def test_layers_have_own_random_numbers(build):
    class Difference(Dense):
        def __call__(self, images):
            ones = jnp.ones((len(images), 100))
            return super().__call__(images) + (self.drop1(ones) - self.drop2(ones)).sum(
                1, keepdims=True
            )

    model = build(Difference)
    params, stats = model.init(jax.random.key(0))
    zeros = jax.tree.map(jnp.zeros_like, params)
    logits, _ = model.apply(zeros, stats, IMAGES, True, jax.random.key(1))
    assert jnp.all(logits != 0)


def test_training_without_key_is_refused(build):
    model = build(Dense)
    params, stats = model.init(jax.random.key(0))
    with pytest.raises(ValueError, match="needs a key in training"):
        model.apply(params, stats, IMAGES, True)


def test_own_variables_are_state(build):
    model = build(OwnVariables)
    params, stats = model.init(jax.random.key(0))
    assert stats.keys() == {"average", "scales"}
    _, trained = model.apply(params, stats, IMAGES, True, jax.random.key(1))
    assert jax.tree.structure(trained) == jax.tree.structure(stats)
    np.testing.assert_allclose(trained["average"], 0.1 * IMAGES.mean(), rtol=1e-5)
    np.testing.assert_array_equal(trained["scales"], stats["scales"])


@pytest.mark.parametrize(("network", "expected"), LAST_LAYERS)
def test_last_layer_is_found(build, network, expected):
    assert build(network).last_layer() == expected


@pytest.mark.parametrize(("network", "_"), LAST_LAYERS)
def test_new_last_layer_and_old_body(build, network, _):
    """All arrays but those of the last layer are loaded, frozen and scaled."""
    model = build(network)
    layers = model.last_layer()
    source, source_stats = state.init_weights(model.init, 1, None)
    body = last_layer.without(layers, source)
    params, _ = state.init_weights(model.init, 0, (body, source_stats))
    config = default_config()
    config.optimizer.body_lr_scale = 0.0
    tx = optimizers.build(config, lambda _: 0.1, models.fan_in_axes(model), model.last_layer)

    @jax.jit
    @jax.grad
    def gradients(params):
        frozen = last_layer.freeze_body(params, layers)
        return jnp.sum(model.apply(frozen, source_stats, IMAGES, False)[0] ** 2)

    grads = gradients(jax.tree.map(lambda leaf: leaf + 0.1, params))
    updates, _ = tx.update(grads, tx.init(params), params)
    for path, update in state.named_leaves(updates).items():
        in_last = path.startswith(tuple(last_layer.prefixes(layers, params)))
        is_source = np.array_equal(
            state.named_leaves(params)[path], state.named_leaves(source)[path]
        )
        assert np.any(update) == in_last, path
        assert is_source or in_last, path


def test_no_last_layer_is_one_line(build):
    class Bias(nnx.Module):
        def __init__(self, num_classes):
            self.bias = nnx.Param(jnp.zeros(num_classes))

        def __call__(self, images):
            return jnp.zeros((len(images), 1)) + self.bias[...][None]

    with pytest.raises(UserError, match=r"no last layer is found, .* end the network with a"):
        build(Bias).last_layer()


@pytest.mark.parametrize(
    "name",
    ["convnet", "resnet20", "vgg11", pytest.param("densenet121", marks=pytest.mark.slow)],
)
def test_copy_under_other_name_is_the_same(build, name):
    config = default_config()
    config.model.name = name
    original = models.build(config, 5, (32, 32, 1))
    copy = models.MODELS[name]
    models.MODELS["mine"] = copy
    config.model.name = "mine"
    shapes = [
        jax.eval_shape(model.init, jax.random.key(0))
        for model in (original, models.build(config, 5, (32, 32, 1)))
    ]
    assert shapes[0] == shapes[1]
    if hasattr(getattr(copy, "func", copy), "MIN_IMAGE_SIDE"):
        with pytest.raises(UserError, match="'mine' needs images of at least"):
            models.build(config, 5, (4, 4, 1))


def test_options_of_constructor_are_passed(build):
    class WithDropout(Dense):
        def __init__(self, num_classes, channels, rngs, dropout):
            super().__init__(num_classes, channels, rngs, rate=dropout)

    class Inherits(models.convnet.ConvNet):
        def __init__(self, **arguments):
            super().__init__(**arguments)

    model = build(WithDropout, **{"model.dropout": 0.0})
    params, stats = model.init(jax.random.key(0))
    assert jnp.array_equal(
        model.apply(params, stats, IMAGES, True, jax.random.key(1))[0],
        model.apply(params, stats, IMAGES, False)[0],
    )
    params, stats = build(Inherits, **{"model.norm": "none"}).init(jax.random.key(0))
    assert not stats
    build(lambda dtype, **arguments: Dense(rate=0.1, **arguments))
    with pytest.raises(UserError, match=r"dropout=0\.3 is not for mine; set it to 0\.0"):
        build(Dense, **{"model.dropout": 0.3})


MISTAKES = {
    NeedsWidth: "missing a required argument: 'width'; it passes those of num_classes, ",
    NeedsMask: "missing a required argument: 'mask'; it passes the inputs and",
    ThreeLogits: r"shape \(1, 3\); it must return logits of shape \(1, 5\)",
    TwoResults: "it returns a tuple; it must return logits",
    WrongWidth: r"own_networks\.py, line \d+: TypeError: .*; fix the network",
    FailsAtStart: r"fix the network",
    UsedTwice: "square of shape .* is ambiguous",
    Linen: r"it is a Linen, not a flax\.nnx\.Module",
}


@pytest.mark.parametrize("network", MISTAKES, ids=lambda network: network.__name__)
def test_mistake_is_one_line(build, network):
    with pytest.raises(UserError, match=MISTAKES[network]) as error:
        models.fan_in_axes(build(network))
    assert "\n" not in str(error.value)


def test_bfloat16_needs_dtype(build):
    with pytest.raises(UserError, match=r"precision='bfloat16' .* takes no dtype"):
        build(Dense, precision="bfloat16")


@pytest.mark.slow
@pytest.mark.parametrize("network", [Dense, Attention, OwnVariables])
def test_run_resumes_with_same_random_numbers(build, network, tmp_path):
    build(network)
    flags = ("--config.model.name=mine", "--config.num_steps=12", "--config.log_every_steps=1")
    whole = train_here(tmp_path / "whole", *flags)
    saves = (*flags, "--config.checkpoint.every_steps=4", "--config.steps_per_dispatch=4")
    train_here(tmp_path / "parts", *saves)
    (tmp_path / "parts" / "summary.json").unlink()
    shutil.rmtree(tmp_path / "parts" / "checkpoints" / "12")
    resumed = train_here(tmp_path / "parts", *saves)
    assert resumed["params_sha256"] == whole["params_sha256"]


@pytest.mark.slow
def test_attack_in_training_draws_dropout(build, tmp_path):
    build(functools.partial(Dense, rate=0.2))
    flags = ("--config.model.name=mine", "--config.num_steps=4", "--config.adversary.eval_steps=1")
    first, second = (
        train_here(tmp_path / name, *flags, config="digits_pgd_gc") for name in ("first", "second")
    )
    assert first["params_sha256"] == second["params_sha256"]
