"""Clipping, averages of weights, frozen layers, accumulation and the start of a warm-up."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from tests.support import linear
from train import experiment
from train.config import default_config, validate
from train.data.batch import Batch
from train.engine import averaging, optimizers, plan, schedules, step
from train.engine.state import named_leaves, sha256
from train.errors import UserError
from train.models import last_layer
from train.runtime import mesh

PARAMS = {
    "conv": {"kernel": jax.random.normal(jax.random.key(0), (3, 3, 4, 5)) + 1},
    "head": {"kernel": jax.random.normal(jax.random.key(1), (6, 7)), "bias": jnp.ones(7)},
}
GRADS = jax.tree.map(lambda leaf: jnp.cos(7 * leaf) + 0.3, PARAMS)
AXES = {
    "conv": {"kernel": optax_gc.FanIn((0, 1, 2), "conv_general_dilated", out_axes=(3,))},
    "head": {"kernel": optax_gc.FanIn((0,), out_axes=(1,)), "bias": optax_gc.FanIn(())},
}
DECAY = 0.01


def make_config(**fields):
    config = default_config()
    config.optimizer.name, config.optimizer.weight_decay = "sgd", DECAY
    config.update_from_flattened_dict(fields)
    validate(config)
    return config


def build(**fields):
    config = make_config(**{f"optimizer.{name}": value for name, value in fields.items()})
    return optimizers.build(config, optax.constant_schedule(0.1), AXES, frozenset)


def update(tx, grads=GRADS):
    return jax.jit(tx.update)(grads, tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize("limit", [0.5, 1e3])
@pytest.mark.parametrize("location", ["gradient", "centralized"])
def test_clipping_before_and_after_gc(location, limit):
    clip = optax.clip_by_global_norm(limit)
    gc = optax.chain(optax.add_decayed_weights(DECAY), optax_gc.centralize(AXES))
    order = (clip, gc) if location == "gradient" else (gc, clip)
    expected, _ = update(optax.chain(*order, optax.scale(-0.1)))
    found, _ = update(build(clip_norm=limit, clip_location=location))
    chex.assert_trees_all_close(found, expected, rtol=1e-5, atol=1e-7)
    if location == "centralized" and limit < 1:
        np.testing.assert_allclose(optax.tree.norm(found), 0.1 * limit, rtol=1e-5)


def test_parts_that_are_off_have_no_place_in_the_state():
    """Otherwise the checkpoints of runs that began before a part was added could not be resumed."""
    names = set(named_leaves(build(name="momentum").init(PARAMS)))
    assert names == {f"1/trace/{path}" for path in named_leaves(PARAMS)} | {"4/count"}


def test_average_of_weights():
    tx, plain = build(ema=0.5), build()
    params, average, state, plain_state = PARAMS, PARAMS, tx.init(PARAMS), plain.init(PARAMS)
    for index in range(5):
        updates, state = jax.jit(tx.update)(GRADS, state, params)
        expected, plain_state = jax.jit(plain.update)(GRADS, plain_state, params)
        chex.assert_trees_all_close(updates, expected)  # training is the same
        params = optax.apply_updates(params, updates)
        decay = min(0.5, (1 + index) / (10 + index))
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, params)
        chex.assert_trees_all_close(averaging.eval_params(state, params), average, rtol=1e-5)
    assert optax.tree.norm(optax.tree.sub(average, params)) > 0.01


@pytest.mark.parametrize("name", ["lookahead", "ranger", "schedule_free_sgd"])
def test_only_one_average(name):
    with pytest.raises(UserError, match=rf"config\.optimizer\.ema=0\.5 is not for {name}, which"):
        build(ema=0.5, name=name)


@pytest.mark.parametrize("name", ["momentum", "muon", "schedule_free_adamw"])
@pytest.mark.parametrize("frozen", ["conv", "conv/kernel", "conv/"])
def test_frozen_layers_do_not_change(frozen, name):
    tx = build(freeze=(frozen,), clip_norm=1.0, name=name)
    params, state = PARAMS, tx.init(PARAMS)
    large = GRADS | {"conv": {"kernel": 1e6 * GRADS["conv"]["kernel"]}}  # not part of the norm
    for grads in (GRADS, large):
        updates, state = jax.jit(tx.update)(grads, state, params)
        params = optax.apply_updates(params, updates)
    chex.assert_trees_all_equal(params["conv"], PARAMS["conv"])
    chex.assert_trees_all_equal(averaging.eval_params(state, params)["conv"], PARAMS["conv"])
    assert optax.tree.norm(optax.tree.sub(params["head"], PARAMS["head"])) > 0.01
    assert optax.tree.norm(updates) > 1e-3


def test_frozen_layers_have_no_gradient():
    def loss(params):
        return optax.tree.norm(last_layer.freeze(params, ("head/kernel",)), squared=True)

    grads = named_leaves(jax.grad(loss)(PARAMS))
    has_gradient = {name: bool(jnp.any(leaf)) for name, leaf in grads.items()}
    assert has_gradient == {"conv/kernel": True, "head/kernel": False, "head/bias": True}


def test_unknown_frozen_layer_is_rejected():
    with pytest.raises(UserError, match="names 'con', which is no layer of the network; its layer"):
        build(freeze=("con",)).init(PARAMS)


def differentiate(run, parts, batch):
    config = run.config.copy_and_resolve_references()
    config.accumulate = parts
    params, stats = run.task.init(jax.random.key(0))
    prepared = run.task.augment(jax.random.key(1), batch, params, stats)
    return jax.jit(step.make_differentiate(config, run.task))(
        params, stats, prepared, jax.random.key(1)
    )


def digits_batch(run, count):
    split = run.dataset.train
    return Batch(*(jnp.asarray(array[:count]) for array in split), jnp.ones(count, bool))


@pytest.mark.parametrize("parts", [2, 8])
def test_accumulated_gradient_is_that_of_the_batch(parts):
    config = make_config(**{"data.batch_size": 32, "data.mixup": 0.4, "loss.label_smoothing": 0.1})
    run = linear.prepare(config, devices=jax.devices()[:1])
    batch = digits_batch(run, 32)
    whole, accumulated = differentiate(run, 1, batch), differentiate(run, parts, batch)
    chex.assert_trees_all_close(accumulated, whole, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_accumulation_updates_running_statistics_part_by_part():
    config = make_config(**{"data.batch_size": 32})
    run = experiment.prepare(config, devices=jax.devices()[:1])
    batch = digits_batch(run, 32)
    accumulated = differentiate(run, 2, batch)
    params, stats = run.task.init(jax.random.key(0))
    prepared = run.task.augment(jax.random.key(1), batch, params, stats)
    grads = []
    for index in range(2):
        part = jax.tree.map(lambda array, i=index: array[i::2], prepared)
        key = jax.random.fold_in(jax.random.key(1), index)
        _, (stats, _) = run.task.loss(params, stats, part, key)
        loss = functools.partial(run.task.loss, stats=stats, batch=part, key=key)
        grads.append(jax.grad(loss, has_aux=True)(params)[0])
    chex.assert_trees_all_close(accumulated.stats, stats, rtol=1e-4, atol=1e-5)
    mean = jax.tree.map(lambda a, b: (a + b) / 2, *grads)
    chex.assert_trees_all_close(accumulated.grads, mean, rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_accumulation_on_eight_devices():
    config = make_config(**{"data.batch_size": 32, "accumulate": 4})
    states = []
    for devices in (jax.devices(), jax.devices()[:1]):
        run = linear.prepare(config, devices=devices)
        first = run.init_state()
        after, *_ = run.compile(first).steps(first, 0, 3)
        states.append(jax.device_get(after.params))
    chex.assert_trees_all_close(*states, rtol=1e-4, atol=1e-6)


def test_parts_must_divide_the_batch():
    with pytest.raises(UserError, match=r"config\.accumulate=3 does not divide config\.data"):
        make_config(accumulate=3)
    with pytest.raises(UserError, match="which is not divisible by the 8 devices; use fewer parts"):
        mesh.make_sharding(make_config(**{"accumulate": 32, "data.batch_size": 128}))


def test_warmup_starts_at_a_share_of_the_rate():
    config = make_config(**{"schedule.warmup": 0.1, "schedule.warmup_from": 0.25, "num_steps": 100})
    config.optimizer.learning_rate = 2.0
    rate = schedules.make_schedule(config, plan.make(config, 1000))
    np.testing.assert_allclose([rate(0), rate(5), rate(10), rate(99)], [0.5, 1.25, 2.0, 2.0])


@pytest.mark.slow
def test_a_resumed_recipe_gives_the_same_bits():
    config = make_config(
        **{
            "data.batch_size": 32,
            "data.augment": "trivial",
            "data.mixup": 0.2,
            "data.cutmix": 1.0,
            "loss.label_smoothing": 0.1,
            "optimizer.name": "muon",
            "optimizer.learning_rate": 0.003,
            "optimizer.clip_norm": 1.0,
            "optimizer.ema": 0.9,
            "optimizer.freeze": ("conv1",),
            "accumulate": 2,
        }
    )
    run = experiment.prepare(config)
    first = run.init_state()
    executor = run.compile(first)
    whole, *_ = executor.steps(first, 0, 6)
    half, *_ = executor.steps(run.init_state(), 0, 3)
    half = jax.device_put(jax.device_get(half), run.sharding.replicated)  # as from a checkpoint
    resumed, *_ = executor.steps(half, 3, 6)
    assert sha256(resumed) == sha256(whole)
    average = averaging.eval_params(whole.opt_state, whole.params)
    assert sha256(average) != sha256(whole.params)
