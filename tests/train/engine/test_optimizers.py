"""The optimizer chains: the position of GC in them, their updates, and learning rates."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from train import experiment
from train.config import default_config, validate
from train.config.optimization import OPTIMIZERS
from train.engine import averaging, optimizers, plan, schedules

PARAMS = {
    "conv": jax.random.normal(jax.random.key(0), (3, 3, 4, 5)),
    "dense": jax.random.normal(jax.random.key(1), (6, 7)) + 0.5,
    "bias": jnp.ones(7),
}
GRADS = jax.tree.map(lambda leaf: jnp.cos(7 * leaf) + 0.3, PARAMS)
AXES = {
    "conv": optax_gc.FanIn((0, 1, 2), "conv_general_dilated", out_axes=(3,)),
    "dense": optax_gc.FanIn((0,), "dot_general", out_axes=(1,)),
    "bias": optax_gc.FanIn(()),
}
CENTRALIZED = {"none": set(), "all": {"conv", "dense"}, "conv": {"conv"}}
RATE, DECAY = 0.1, 0.01
DECOUPLED = ("sgdw", "adamw", "radam", "ranger")
RECENT = ("lion", "lamb", "adan", "muon", "schedule_free_sgd", "schedule_free_adamw")
OLDER = tuple(name for name in OPTIMIZERS if name not in RECENT)
STEPS, PERIOD = 13, 3  # Lookahead does not synchronize its weights in the last step


def build(name, mode, location="gradient", decay=DECAY, inner="momentum"):
    config = default_config()
    config.optimizer.lookahead.update(inner=inner, period=PERIOD, step_size=0.4)
    config.optimizer.name, config.optimizer.weight_decay = name, decay
    config.gc.mode, config.gc.location = mode, location
    config.log_every_steps = 1
    validate(config)
    return optimizers.build(config, optax.constant_schedule(RATE), AXES, frozenset)


def first_update(tx):
    """Return the first update and the state after it."""
    updates, state = jax.jit(tx.update)(GRADS, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_equal_shapes_and_dtypes(updates, PARAMS)
    return updates, state


def gradient_in_state(name, updates, state):
    """Return the gradient that an optimizer has stored, and whether it is the square."""

    def get(key, scale):
        return jax.tree.map(lambda leaf: leaf / scale, optax.tree.get(state, key))

    match name:
        case "sgd":
            return jax.tree.map(lambda leaf: leaf / -RATE, updates), False
        case "momentum" | "sgdw" | "lookahead":
            return get("trace", 1.0), False
        case "adagrad":
            return get("sum_of_squares", 1.0), True
        case "rmsprop":
            return get("nu", 1 - 0.999), True
        case "adam" | "adamw" | "radam" | "ranger":
            return get("mu", 1 - 0.9), False


@pytest.mark.parametrize("mode", ["none", "all", "conv"])
@pytest.mark.parametrize("name", OLDER)
def test_optimizer_gets_centralized_gradient(name, mode):
    coupled = 0.0 if name in DECOUPLED else DECAY
    decay = 0.0 if name == "sgd" else DECAY  # sgd has no state; its update includes the decay
    decayed = jax.tree.map(lambda g, w: g + min(coupled, decay) * w, GRADS, PARAMS)
    stored, is_square = gradient_in_state(name, *first_update(build(name, mode, decay=decay)))
    for leaf, gradient in decayed.items():
        if leaf in CENTRALIZED[mode]:
            gradient = gradient - gradient.mean(AXES[leaf].axes, keepdims=True)
        expected = gradient**2 if is_square else gradient
        np.testing.assert_allclose(stored[leaf], expected, rtol=1e-4, atol=1e-6, err_msg=leaf)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["all", "conv"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gc_at_update_centralizes_whole_update(name, mode):
    updates, state = first_update(build(name, mode, "update"))
    for leaf in CENTRALIZED[mode]:
        means = updates[leaf].mean(AXES[leaf].axes)
        assert np.abs(means).max() < 1e-6 * np.abs(updates[leaf]).max() * 10
    if name not in ("sgd", *DECOUPLED, *RECENT):
        stored, is_square = gradient_in_state(name, updates, state)
        plain = jax.tree.map(lambda g, w: g + DECAY * w, GRADS, PARAMS)
        expected = jax.tree.map(jnp.square, plain) if is_square else plain
        chex.assert_trees_all_close(stored, expected, rtol=1e-4, atol=1e-6)


def muon(decay):
    assert not decay
    numbers = optax_gc.muon_dimension_numbers(AXES)
    return optax.contrib.muon(
        RATE, beta=0.9, muon_weight_dimension_numbers=numbers, consistent_rms=0.2
    )


# The optimizers of optax; the weight decay is that of `DECAY`, or none.
ALIASES = {
    "lion": lambda decay: optax.lion(RATE, 0.9, 0.999, weight_decay=decay),
    "lamb": lambda decay: optax.lamb(RATE, 0.9, 0.999, 1e-8, weight_decay=decay),
    "adan": lambda decay: optax.adan(RATE, 0.9, 0.999, 0.99, eps_root=0.0, weight_decay=decay),
    "muon": muon,
    "schedule_free_sgd": lambda decay: optax.contrib.schedule_free_sgd(
        RATE, b1=0.9, weight_decay=decay
    ),
    "schedule_free_adamw": lambda decay: optax.contrib.schedule_free_adamw(
        RATE, b1=0.9, b2=0.999, weight_decay=decay
    ),
}


@pytest.mark.parametrize("mode", ["none", "all"])
@pytest.mark.parametrize("name", RECENT)
def test_recent_optimizers_are_those_of_optax(name, mode):
    decay = 0.0 if name in ("muon", "schedule_free_sgd") else DECAY
    gc = optax_gc.centralize(AXES) if mode == "all" else optax.identity()
    ours, our_state = train(build(name, mode, decay=decay))
    theirs, (_, their_state) = train(optax.chain(gc, ALIASES[name](decay)))
    chex.assert_trees_all_close(ours, theirs, rtol=2e-5, atol=1e-6)
    if name.startswith("schedule_free"):
        expected = optax.contrib.schedule_free_eval_params(their_state, theirs)
        average = averaging.eval_params(our_state, ours)
        chex.assert_trees_all_close(average, expected, rtol=2e-4, atol=1e-5)


@pytest.mark.parametrize("name", DECOUPLED)
def test_decoupled_decay_is_not_centralized(name):
    with_decay, _ = first_update(build(name, "all"))
    without, _ = first_update(build(name, "all", decay=0.0))
    expected = jax.tree.map(lambda u, w: u - RATE * DECAY * w, without, PARAMS)
    chex.assert_trees_all_close(with_decay, expected, rtol=1e-4, atol=1e-6)


def gradients(params):
    """Return the gradients of a loss that is not quadratic; they depend on the weights."""
    return {name: np.cos(7 * leaf) + 0.3 for name, leaf in params.items()}


def train(tx, dtype=jnp.float32):
    """Return the parameters and the state after `STEPS` steps."""
    params = optax.tree.cast(PARAMS, dtype)
    state = tx.init(params)
    update = jax.jit(tx.update)
    for _ in range(STEPS):
        updates, state = update(gradients(params), state, params)
        params = optax.apply_updates(params, updates)
    return params, state


def centralize(grads):
    return {
        name: leaf - (leaf.mean(AXES[name].axes, keepdims=True) if AXES[name].axes else 0)
        for name, leaf in grads.items()
    }


def radam_step(step, grads, params, moments):
    """Return the weights after a step of RAdam, with decoupled decay, in float64.

    Algorithm 2 of Liu et al. 2020, arXiv 1908.03265.
    """
    b1, b2 = 0.9, 0.999
    rho_max = 2 / (1 - b2) - 1
    rho = rho_max - 2 * step * b2**step / (1 - b2**step)
    after = {}
    for name, grad in grads.items():
        m, v = moments.setdefault(name, [0.0, 0.0])
        m, v = moments[name] = [b1 * m + (1 - b1) * grad, b2 * v + (1 - b2) * grad**2]
        direction = m / (1 - b1**step)
        if rho > 5:
            rectified = (rho - 4) * (rho - 2) * rho_max / ((rho_max - 4) * (rho_max - 2) * rho)
            direction = direction * np.sqrt(rectified) / (np.sqrt(v / (1 - b2**step)) + 1e-8)
        after[name] = params[name] - RATE * (direction + DECAY * params[name])
    return after


def momentum_step(step, grads, params, traces):
    del step
    for name, grad in grads.items():
        traces[name] = 0.9 * traces.get(name, 0.0) + grad
    return {name: leaf - RATE * traces[name] for name, leaf in params.items()}


def reference(make_step, coupled, lookahead):
    """Return the weights for gradients and the weights for evaluation, computed with NumPy."""
    fast = slow = {name: np.asarray(leaf, np.float64) for name, leaf in PARAMS.items()}
    state: dict = {}
    for step_number in range(1, STEPS + 1):
        grads = gradients(fast)
        if coupled:
            grads = {name: grad + DECAY * fast[name] for name, grad in grads.items()}
        fast = make_step(step_number, centralize(grads), fast, state)
        if lookahead and step_number % PERIOD == 0:
            fast = slow = {name: slow[name] + 0.4 * (fast[name] - slow[name]) for name in fast}
    return fast, slow if lookahead else fast


@pytest.mark.parametrize(
    ("name", "inner", "expected"),
    [
        ("radam", "momentum", reference(radam_step, coupled=False, lookahead=False)),
        ("ranger", "momentum", reference(radam_step, coupled=False, lookahead=True)),
        ("lookahead", "momentum", reference(momentum_step, coupled=True, lookahead=True)),
        ("lookahead", "radam", reference(radam_step, coupled=False, lookahead=True)),
    ],
)
def test_updates_match_the_papers(name, inner, expected):
    with jax.enable_x64(True):  # 1 - b2**step of RAdam has only four exact digits in float32
        params, state = train(build(name, "all", inner=inner), jnp.float64)
    expected_params, expected_eval_params = expected
    eval_params = averaging.eval_params(state, params)
    chex.assert_trees_all_close(params, expected_params, rtol=1e-9)
    chex.assert_trees_all_close(eval_params, expected_eval_params, rtol=1e-9)


def test_sgdw_matches_the_authors():
    ours, _ = train(build("sgdw", "all"))
    theirs, _ = train(optax_gc.official.sgdw_gc(RATE, 0.9, weight_decay=DECAY, axes=AXES))
    chex.assert_trees_all_close(ours, theirs, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "momentum", "lookahead"])
def test_fan_in_means_stay_constant(name):
    params, state = train(build(name, "all"))
    for after in (params, averaging.eval_params(state, params)):
        drift = optax_gc.diagnostics.mean_drift(after, PARAMS, AXES).distance
        distance = optax.tree.norm(optax.tree.sub(after, PARAMS))
        assert drift < 1e-5 < distance


@pytest.mark.slow
def test_lookahead_evaluates_slow_weights():
    config = default_config()
    config.optimizer.name, config.optimizer.lookahead.period = "lookahead", PERIOD
    config.data.batch_size = 16
    run = experiment.prepare(config, devices=jax.devices()[:1])
    state = run.init_state()
    executor = run.compile(state)
    state, *_ = executor.steps(state, 0, PERIOD + 1)
    slow = averaging.eval_params(state.opt_state, None)
    for params in (slow, jax.tree.map(jnp.zeros_like, slow)):
        assert executor.evaluate(state) == executor.evaluate(state._replace(params=params))


def test_removed_fraction_matches_centralize():
    tx = build("sgd", "all", decay=0.0)
    _, measures = tx.measure(GRADS, tx.init(PARAMS), PARAMS)
    centralized, _ = optax_gc.centralize(AXES).update(GRADS, optax.EmptyState())
    kept = optax.tree.norm(centralized, squared=True) / optax.tree.norm(GRADS, squared=True)
    np.testing.assert_allclose(measures.gc_removed_fraction, 1 - kept, rtol=1e-4)
    tx = build("sgd", "none")
    assert tx.measure(GRADS, tx.init(PARAMS), PARAMS)[1].gc_removed_fraction == 0


@pytest.mark.parametrize("location", ["gradient", "update"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_measures_are_those_of_the_update(name, location):
    tx = build(name, "all", location)
    updates, state = first_update(tx)
    measured_updates, measures = jax.jit(tx.measure)(GRADS, tx.init(PARAMS), PARAMS)
    chex.assert_trees_all_close(measured_updates, updates, rtol=1e-5, atol=1e-7)
    expected = (
        optax.tree.norm(GRADS),
        optax.tree.norm(updates),
        optax.tree.norm(optax.apply_updates(PARAMS, updates)),
    )
    np.testing.assert_allclose(measures[:3], expected, rtol=1e-5)
    assert 0 < measures.gc_removed_fraction < 1
    # It makes the update that it measures again, also from a later state.
    again, _ = tx.update(GRADS, state, PARAMS)
    _, later = jax.jit(tx.measure)(GRADS, state, PARAMS)
    np.testing.assert_allclose(later.update_norm, optax.tree.norm(again), rtol=1e-5)


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
    config = default_config()
    config.num_epochs, config.data.batch_size = 10, 10
    config.optimizer.learning_rate = 1.0
    config.schedule.name, config.schedule.warmup = name, warmup
    config.schedule.step_epochs = 4.0
    rate = schedules.make_schedule(config, plan.make(config, 100))
    for at, value in expected.items():
        np.testing.assert_allclose(rate(at), value, atol=1e-6, err_msg=f"step {at}")


def test_two_rate_drops_in_one_step():
    config = default_config()
    config.num_epochs, config.data.batch_size = 4, 10
    config.optimizer.learning_rate = 1.0
    config.schedule.name, config.schedule.step_at = "step", (0.2, 0.4, 2.0)
    rate = schedules.make_schedule(config, plan.make(config, 10))
    np.testing.assert_allclose([rate(1), rate(3)], [0.01, 0.001], rtol=1e-6)
