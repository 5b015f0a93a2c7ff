"""The last layer and the layers below it learn at rates of their own."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from train import models
from train.config import default_config, validate
from train.data.batch import Batch
from train.engine import optimizers, state, step

PARAMS = {
    "body": {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 5)), "bias": jnp.ones(5)},
    "head": {"kernel": jax.random.normal(jax.random.key(1), (6, 7)) + 0.5},
}
GRADS = jax.tree.map(lambda leaf: jnp.cos(7 * leaf) + 0.3, PARAMS)
AXES = {
    "body": {"kernel": optax_gc.FanIn((0, 1, 2)), "bias": optax_gc.FanIn(())},
    "head": {"kernel": optax_gc.FanIn((0,))},
}
OPTIMIZERS = ("momentum", "adamw")  # with coupled decay and with decoupled


def make(name, body_lr_scale, location="gradient"):
    config = default_config()
    config.optimizer.update(name=name, weight_decay=0.01, body_lr_scale=body_lr_scale)
    config.gc.location = location
    validate(config)
    return optimizers.build(config, optax.constant_schedule(0.1), AXES)


def updates(tx, steps=3):
    """Those of the last of some steps with the same gradients."""
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(steps):
        made, state = update(GRADS, state, PARAMS)
    return made, state


@pytest.mark.parametrize("location", ["gradient", "update"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_body_moves_by_a_share_of_what_it_would_and_the_head_as_ever(name, location):
    (plain, _), (slow, _) = (updates(make(name, rate, location)) for rate in (1.0, 0.25))
    expected = plain | {"body": jax.tree.map(lambda leaf: 0.25 * leaf, plain["body"])}
    chex.assert_trees_all_close(slow, expected, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_frozen_body_has_neither_an_update_nor_a_state_nor_a_part_in_what_gc_removed(name):
    frozen, state = updates(make(name, 0.0))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(frozen["body"]))
    chex.assert_trees_all_close(frozen["head"], updates(make(name, 1.0))[0]["head"], rtol=1e-6)
    assert all(leaf.shape in ((), (6, 7)) for leaf in jax.tree.leaves(state))
    decayed = GRADS["head"]["kernel"] + (name != "adamw") * 0.01 * PARAMS["head"]["kernel"]
    removed = optax_gc.diagnostics.removed_fraction(decayed, AXES["head"]["kernel"]).total
    np.testing.assert_allclose(optimizers.removed_fraction(state), removed, rtol=1e-6)


def test_what_is_frozen_stays_bit_for_bit_with_its_running_statistics():
    config = default_config()
    config.optimizer.update(weight_decay=0.1, body_lr_scale=0.0)
    model = models.build(config, 5, (8, 8, 1))
    tx = optimizers.build(config, optax.constant_schedule(0.1), models.fan_in_axes(model))
    first = jax.jit(lambda: state.create(model, tx, 0))()
    batch = Batch(
        jax.random.randint(jax.random.key(2), (16, 8, 8, 1), 0, 256).astype(jnp.uint8),
        jnp.arange(16) % 5,
        jnp.ones(16, bool),
    )
    last = jax.jit(step.make_train_step(config, model, tx, 0))(first, batch)
    assert state.sha256(first.stats) == state.sha256(last.stats)
    for part in first.params:
        is_same = state.sha256(first.params[part]) == state.sha256(last.params[part])
        assert is_same == (part != models.HEAD), part


@pytest.mark.parametrize(
    "name", [name for name in models.MODELS if name not in ("resnet34", "resnet50", "resnet101")]
)
def test_every_network_has_a_body_and_a_head_with_its_classes(name):
    config = default_config()
    config.model.name = name
    model = models.build(config, 7, (32, 32, 3))
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    assert len(params) > 1
    assert params[models.HEAD]["kernel"].shape[-1] == 7
