"""Properties of training with a centralized gradient."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc
from optax_gc import FanIn
from tests.support.updates import project, wide

pytestmark = pytest.mark.slow

_RNG = np.random.default_rng(1)
INPUTS = _RNG.standard_normal((32, 12)).astype(np.float32)
TARGETS = _RNG.standard_normal((32, 5)).astype(np.float32)
W0 = _RNG.standard_normal((12, 5)).astype(np.float32)


def _loss(w):
    return jnp.mean((jnp.tanh(INPUTS @ w) - TARGETS) ** 2)


def _train(tx, steps, loss=_loss, w=W0):
    def step(carry, _):
        w, state = carry
        updates, state = tx.update(jax.grad(loss)(w), state, w)
        return (optax.apply_updates(w, updates), state), None

    w = jnp.asarray(w)
    (w, _), _ = jax.jit(lambda w: jax.lax.scan(step, (w, tx.init(w)), length=steps))(w)
    return np.asarray(w)


def _drift(w):
    return np.abs(wide(w).mean(0) - wide(W0).mean(0)).max()


_GC = optax_gc.centralize(FanIn((0,)))
_L2 = optax.add_decayed_weights(5e-2)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_and_l2_keep_mean(nesterov):
    w = _train(optax.chain(_L2, _GC, optax.sgd(0.1, 0.9, nesterov)), steps=1000)
    assert np.linalg.norm(w - W0) > 1.0
    assert _drift(w) < 1e-5 * np.linalg.norm(W0)


def test_mean_moves_without_gc():
    assert _drift(_train(optax.chain(_L2, optax.sgd(0.1, 0.9)), steps=100)) > 0.01


def test_decay_after_gc_moves_mean():
    decoupled = optax.chain(_GC, optax.trace(0.9), _L2, optax.scale(-0.1))
    assert _drift(_train(decoupled, steps=100)) > 0.01


@pytest.mark.parametrize("precondition", [optax.trace(0.9), optax.scale_by_adam()])
def test_centralized_update_keeps_mean(precondition):
    update = optax.chain(precondition, _L2, _GC, optax.scale(-0.01))
    w = _train(update, steps=300)
    assert np.linalg.norm(w - W0) > 0.5
    assert _drift(w) < 1e-5 * np.linalg.norm(W0)


def test_adam_after_gc_moves_mean():
    assert _drift(_train(optax.chain(_GC, optax.adam(0.01)), steps=100)) > 0.01


def test_gradient_of_constrained_loss():
    def constrained(w):
        return _loss(project(w, (0,)) + W0 - project(W0, (0,)))

    w = _train(optax.chain(_GC, optax.sgd(0.1)), steps=10)
    chex.assert_trees_all_close(
        jax.grad(constrained)(w), project(jax.grad(_loss)(w), (0,)), atol=1e-6
    )


def test_dense_response_to_constant_shift():
    w = wide(_train(optax.chain(_L2, _GC, optax.sgd(0.1, 0.9)), steps=200))
    x, shift = wide(INPUTS), 3.0
    response = (x + shift) @ w - x @ w
    np.testing.assert_allclose(
        response, np.broadcast_to(shift * wide(W0).sum(0), response.shape), atol=1e-4
    )


def test_conv_response_to_constant_shift():
    rng = np.random.default_rng(2)
    images = rng.standard_normal((4, 6, 6, 3)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, 3, 5)).astype(np.float32)

    def layer(kernel, images):
        numbers = ("NHWC", "HWIO", "NHWC")
        return jax.lax.conv_general_dilated(
            images, kernel, (1, 1), "VALID", dimension_numbers=numbers
        )

    def loss(kernel):
        return jnp.mean(jnp.square(layer(kernel, images) - 1.0))

    gc = optax_gc.centralize(FanIn((0, 1, 2)))
    trained = _train(optax.chain(_L2, gc, optax.sgd(0.01, 0.9)), 100, loss, kernel)
    assert np.linalg.norm(trained - kernel) > 0.5
    response = layer(trained, images + 3.0) - layer(trained, images)
    expected = np.broadcast_to(3.0 * kernel.sum((0, 1, 2)), response.shape)
    np.testing.assert_allclose(response, expected, atol=1e-3)


def _projector():
    """Return the projection as a matrix over the flattened weight."""
    basis = np.eye(W0.size, dtype=np.float32).reshape(-1, *W0.shape)
    return wide(jax.vmap(lambda e: project(e, (0,)))(basis)).reshape(W0.size, W0.size)


def test_projector_is_orthogonal():
    P = _projector()
    np.testing.assert_allclose(P, P.T, atol=1e-6)
    np.testing.assert_allclose(P @ P, P, atol=1e-6)
    np.testing.assert_allclose(np.trace(P), W0.size - W0.shape[1], atol=1e-4)


def test_projected_hessian_is_not_larger():
    P = _projector()
    hessian = wide(jax.hessian(_loss)(W0)).reshape(W0.size, W0.size)
    for H in (hessian, np.diag(np.arange(60.0)), np.ones((60, 60))):
        for order in (2, "fro", "nuc"):
            assert np.linalg.norm(P @ H @ P, order) <= np.linalg.norm(H, order) * (1 + 1e-6)
    assert np.linalg.norm(P @ np.ones((60, 60)) @ P) < 1e-3
