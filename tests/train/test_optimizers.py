"""Where GC stands in the chain, read off what each optimizer's state has seen."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from train import config as trainer_config
from train import optimizers, plan

PARAMS = {
    "conv": jax.random.normal(jax.random.key(0), (3, 3, 4, 5)),
    "dense": jax.random.normal(jax.random.key(1), (6, 7)) + 0.5,
    "bias": jnp.ones(7),
}
GRADS = jax.tree.map(lambda leaf: jnp.cos(7 * leaf) + 0.3, PARAMS)
AXES = {
    "conv": optax_gc.FanIn((0, 1, 2), "conv_general_dilated"),
    "dense": optax_gc.FanIn((0,), "dot_general"),
    "bias": optax_gc.FanIn(()),
}
CENTRED = {"none": set(), "all": {"conv", "dense"}, "conv": {"conv"}}
RATE, DECAY = 0.1, 0.01


def make(name, mode, location="gradient", decay=DECAY):
    config = trainer_config.default()
    config.optimizer.name, config.optimizer.weight_decay = name, decay
    config.gc.mode, config.gc.location = mode, location
    config.log_every_steps = 1
    trainer_config.validate(config)
    return optimizers.build(config, optax.constant_schedule(RATE), AXES)


def step(tx):
    updates, state = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, PARAMS)
    return updates, state


def seen_by(name, updates, state):
    """The gradient that the optimizer's own part of the chain was given, or its square."""

    def get(key, scale):
        return jax.tree.map(lambda leaf: leaf / scale, optax.tree.get(state, key))

    match name:
        case "sgd":
            return jax.tree.map(lambda leaf: leaf / -RATE, updates), False
        case "momentum":
            return get("trace", 1.0), False
        case "adagrad":
            return get("sum_of_squares", 1.0), True
        case "rmsprop":
            return get("nu", 1 - 0.999), True
        case "adam" | "adamw":
            return get("mu", 1 - 0.9), False


@pytest.mark.parametrize("mode", ["none", "all", "conv"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_the_optimizer_sees_the_centred_gradient(name, mode):
    coupled = 0.0 if name == "adamw" else DECAY
    decay = 0.0 if name == "sgd" else DECAY  # without a state, sgd shows its update alone
    decayed = jax.tree.map(lambda g, w: g + min(coupled, decay) * w, GRADS, PARAMS)
    seen, squared = seen_by(name, *step(make(name, mode, decay=decay)))
    for leaf, gradient in decayed.items():
        if leaf in CENTRED[mode]:
            gradient = gradient - gradient.mean(AXES[leaf].axes, keepdims=True)
        expected = gradient**2 if squared else gradient
        np.testing.assert_allclose(seen[leaf], expected, rtol=1e-4, atol=1e-6, err_msg=leaf)


@pytest.mark.parametrize("mode", ["all", "conv"])
@pytest.mark.parametrize("name", ["sgd", "momentum", "adagrad", "rmsprop", "adam", "adamw"])
def test_at_the_update_the_whole_step_is_centred_and_the_optimizer_sees_the_gradient(name, mode):
    updates, state = step(make(name, mode, "update"))
    for leaf in CENTRED[mode]:
        means = updates[leaf].mean(AXES[leaf].axes)
        assert np.abs(means).max() < 1e-6 * np.abs(updates[leaf]).max() * 10
    if name not in ("sgd", "adamw"):
        seen, squared = seen_by(name, updates, state)
        plain = jax.tree.map(lambda g, w: g + DECAY * w, GRADS, PARAMS)
        expected = jax.tree.map(jnp.square, plain) if squared else plain
        chex.assert_trees_all_close(seen, expected, rtol=1e-4, atol=1e-6)


def test_adamw_decays_outside_the_centralization():
    with_decay, _ = step(make("adamw", "all"))
    without, _ = step(make("adamw", "all", decay=0.0))
    expected = jax.tree.map(lambda u, w: u - RATE * DECAY * w, without, PARAMS)
    chex.assert_trees_all_close(with_decay, expected, rtol=1e-4, atol=1e-6)


def test_the_removed_fraction_is_what_centralizing_takes_away():
    _, state = step(make("sgd", "all", decay=0.0))
    centred, _ = optax_gc.centralize(AXES).update(GRADS, optax.EmptyState())
    kept = optax.tree.norm(centred, squared=True) / optax.tree.norm(GRADS, squared=True)
    np.testing.assert_allclose(optimizers.removed_fraction(state), 1 - kept, rtol=1e-4)
    _, state = step(make("sgd", "none"))
    assert optimizers.removed_fraction(state) == 0


@pytest.mark.parametrize(
    ("name", "warmup", "expected"),
    [
        ("constant", 0.0, {0: 1.0, 99: 1.0}),
        ("constant", 0.1, {0: 0.0, 5: 0.5, 10: 1.0, 99: 1.0}),
        ("step", 0.0, {0: 1.0, 39: 1.0, 40: 0.1, 80: 0.01, 99: 0.01}),
        ("step", 0.1, {0: 0.0, 39: 1.0, 40: 0.1, 80: 0.01}),
        ("cosine", 0.0, {0: 1.0, 50: 0.5, 100: 0.0}),
        ("cosine", 0.5, {0: 0.0, 50: 1.0, 75: 0.5, 100: 0.0}),
    ],
)
def test_schedules(name, warmup, expected):
    config = trainer_config.default()
    config.num_epochs, config.data.batch_size = 10, 10
    config.optimizer.learning_rate = 1.0
    config.schedule.name, config.schedule.warmup = name, warmup
    config.schedule.step_epochs = 4.0
    rate = optimizers.learning_rate(config, plan.make(config, 100))
    for at, value in expected.items():
        np.testing.assert_allclose(rate(at), value, atol=1e-6, err_msg=f"step {at}")
