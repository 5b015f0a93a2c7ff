"""`optimizer.body_lr_scale` scales the updates of all layers but the last one."""

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
from train.tasks.classification import Classification

PARAMS = {
    "body": {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 5)), "bias": jnp.ones(5)},
    "head": {"kernel": jax.random.normal(jax.random.key(1), (6, 7)) + 0.5},
}
GRADS = jax.tree.map(lambda leaf: jnp.cos(7 * leaf) + 0.3, PARAMS)
AXES = {
    "body": {"kernel": optax_gc.FanIn((0, 1, 2)), "bias": optax_gc.FanIn(())},
    "head": {"kernel": optax_gc.FanIn((0,))},
}
OPTIMIZERS = ("momentum", "adamw")  # with coupled decay and with decoupled decay


def build(name, body_lr_scale, location="gradient"):
    config = default_config()
    config.optimizer.update(name=name, weight_decay=0.01, body_lr_scale=body_lr_scale)
    config.gc.location = location
    validate(config)
    return optimizers.build(config, optax.constant_schedule(0.1), AXES, lambda: {("head",)})


def third_update(tx):
    """Return the third update with the same gradients, and the state after it."""
    opt_state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(3):
        updates, opt_state = update(GRADS, opt_state, PARAMS)
    return updates, opt_state


@pytest.mark.parametrize("location", ["gradient", "update"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_scale_applies_to_body_only(name, location):
    (plain, _), (slow, _) = (third_update(build(name, scale, location)) for scale in (1.0, 0.25))
    expected = plain | {"body": jax.tree.map(lambda leaf: 0.25 * leaf, plain["body"])}
    chex.assert_trees_all_close(slow, expected, rtol=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_frozen_body_is_not_updated(name):
    frozen, opt_state = third_update(build(name, 0.0))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(frozen["body"]))
    plain, _ = third_update(build(name, 1.0))
    chex.assert_trees_all_close(frozen["head"], plain["head"], rtol=1e-6)
    assert all(leaf.shape in ((), (6, 7)) for leaf in jax.tree.leaves(opt_state))
    decayed = GRADS["head"]["kernel"] + (name != "adamw") * 0.01 * PARAMS["head"]["kernel"]
    removed = optax_gc.diagnostics.removed_fraction(decayed, AXES["head"]["kernel"]).total
    tx = build(name, 0.0)
    _, measures = jax.jit(tx.measure)(GRADS, tx.init(PARAMS), PARAMS)
    np.testing.assert_allclose(measures.gc_removed_fraction, removed, rtol=1e-6)


def test_frozen_body_and_statistics_stay_unchanged():
    config = default_config()
    config.optimizer.update(weight_decay=0.1, body_lr_scale=0.0)
    model = models.build(config, 5, (8, 8, 1))
    task = Classification(config, model)
    tx = optimizers.build(
        config, optax.constant_schedule(0.1), models.fan_in_axes(model), model.last_layer
    )
    first = jax.jit(lambda: state.create(task.init, task.metrics, tx, 0))()
    batch = Batch(
        jax.random.randint(jax.random.key(2), (16, 8, 8, 1), 0, 256).astype(jnp.uint8),
        jnp.arange(16) % 5,
        jnp.ones(16, bool),
    )
    last, _ = jax.jit(step.make_train_step(config, task, tx, 0))(first, batch)
    assert state.sha256(first.stats) == state.sha256(last.stats)
    for part in first.params:
        is_same = state.sha256(first.params[part]) == state.sha256(last.params[part])
        assert is_same == (part != "head"), part


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [name for name in models.MODELS if name not in ("resnet34", "resnet50", "resnet101")]
)
def test_every_model_has_body_and_head(name):
    config = default_config()
    config.model.name = name
    model = models.build(config, 7, (32, 32, 3))
    assert model.last_layer() == {("head",)}
