"""Train a small network from the same weights in PyTorch and in JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import optax_gc

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

_LEARNING_RATE, _MOMENTUM, _WEIGHT_DECAY, _STEPS = 0.05, 0.9, 5e-3, 50


def _problem():
    """Return weights in the layout of JAX, (h, w, in, out) and (in, out); images and labels."""
    rng = np.random.default_rng(0)
    shapes = {"conv": (3, 3, 2, 8), "dense": (8 * 4 * 4, 5)}
    params = {
        name: {
            "kernel": rng.normal(size=shape) / np.sqrt(np.prod(shape[:-1])),
            "bias": 0.1 * rng.normal(size=shape[-1:]),
        }
        for name, shape in shapes.items()
    }
    images, labels = rng.normal(size=(16, 6, 6, 2)), rng.integers(5, size=16)
    return jax.tree.map(np.float32, params), np.float32(images), labels


def _train_in_jax(params, images, labels):
    def loss(params):
        hidden = jax.lax.conv_general_dilated(
            images,
            params["conv"]["kernel"],
            window_strides=(1, 1),
            padding="VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        hidden = jax.nn.relu(hidden + params["conv"]["bias"][None, None, None])
        flat = hidden.reshape(len(images), -1)
        logits = flat @ params["dense"]["kernel"] + params["dense"]["bias"][None]
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    tx = optax.chain(
        optax.add_decayed_weights(_WEIGHT_DECAY),
        optax_gc.centralize(),
        optax.sgd(_LEARNING_RATE, momentum=_MOMENTUM),
    )

    def step(carry, _):
        params, state = carry
        value, grads = jax.value_and_grad(loss)(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), value

    @jax.jit
    def train(params):
        (params, _), losses = jax.lax.scan(step, (params, tx.init(params)), length=_STEPS)
        return params, losses

    return jax.device_get(train(jax.tree.map(jnp.asarray, params)))


def _train_in_torch(params, images, labels):
    def weight(array, *axes):
        return torch.tensor(np.ascontiguousarray(array.transpose(axes)), requires_grad=True)

    conv, dense = params["conv"], params["dense"]
    weights = [
        weight(conv["kernel"], 3, 2, 0, 1),
        weight(conv["bias"], 0),
        weight(dense["kernel"], 1, 0),
        weight(dense["bias"], 0),
    ]
    x = torch.tensor(images.transpose(0, 3, 1, 2).copy())
    y = torch.tensor(labels)
    buffers = [None] * len(weights)
    for _ in range(_STEPS):
        hidden = torch.relu(torch.nn.functional.conv2d(x, weights[0], weights[1]))
        flat = hidden.permute(0, 2, 3, 1).reshape(len(images), -1)  # the order of the JAX network
        logits = flat @ weights[2].T + weights[3]
        loss = torch.nn.functional.cross_entropy(logits, y)
        gradients = torch.autograd.grad(loss, weights)
        with torch.no_grad():
            for i, (w, g) in enumerate(zip(weights, gradients, strict=True)):
                g = g + _WEIGHT_DECAY * w
                if g.dim() > 1:
                    g = g - g.mean(dim=tuple(range(1, g.dim())), keepdim=True)
                buffers[i] = g if buffers[i] is None else _MOMENTUM * buffers[i] + g
                w -= _LEARNING_RATE * buffers[i]
    conv_kernel, conv_bias, dense_kernel, dense_bias = (w.detach().numpy() for w in weights)
    return {
        "conv": {"kernel": conv_kernel.transpose(2, 3, 1, 0), "bias": conv_bias},
        "dense": {"kernel": dense_kernel.T, "bias": dense_bias},
    }


def test_agrees_with_torch():
    params, images, labels = _problem()
    jax_params, losses = _train_in_jax(params, images, labels)
    torch_params = _train_in_torch(params, images, labels)
    assert losses[-1] < 0.5 * losses[0]
    differences = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), jax_params, torch_params)
    changes = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), jax_params, params)
    assert min(jax.tree.leaves(changes)) > 1e-3
    assert max(jax.tree.leaves(differences)) < 1e-5
