"""The update rules of the paper authors' optimizers, in NumPy.

These are references for the tests of `optax_gc.official`. They are written step by step as PyTorch
optimizers are, from the formulas alone, and share no code with the library or optax.

Every rule takes one weight in PyTorch's layout (out, in, height, width), its gradients as an array
of shape (steps, *weight.shape), and one learning rate for each step. It returns the weight after
each step in the shape of the gradients. Arrays are float64.
"""

import numpy as np


def sgd_gc(
    weight,
    grads,
    learning_rates,
    *,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    conv_only=False,
):
    """Return the trajectory of `SGD_GC`, or of `SGD_GCC` if `conv_only`."""
    buffer = None
    trajectory = []
    for grad, learning_rate in zip(grads, learning_rates, strict=True):
        grad = centralize(grad + weight_decay * weight, conv_only)
        direction, buffer = _momentum(grad, buffer, momentum, dampening, nesterov)
        weight = weight - learning_rate * direction
        trajectory.append(weight)
    return np.stack(trajectory)


def sgdw_gc(
    weight,
    grads,
    learning_rates,
    *,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    conv_only=False,
):
    """Return the trajectory of `SGDW_GC`, or of `SGDW_GCC` if `conv_only`."""
    buffer = None
    trajectory = []
    for grad, learning_rate in zip(grads, learning_rates, strict=True):
        grad = centralize(grad, conv_only)
        direction, buffer = _momentum(grad, buffer, momentum, dampening, nesterov)
        weight = weight - learning_rate * (direction + weight_decay * weight)
        trajectory.append(weight)
    return np.stack(trajectory)


def adam_gc(
    weight,
    grads,
    learning_rates,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    amsgrad=False,
    location="gradient",
    conv_only=False,
):
    """Return the trajectory of `Adam_GC`; of `Adam_GC2` if `location` is "update"."""
    mean = np.zeros_like(weight)
    square = np.zeros_like(weight)
    max_square = np.zeros_like(weight)
    trajectory = []
    for step, (grad, learning_rate) in enumerate(zip(grads, learning_rates, strict=True), start=1):
        grad = grad + weight_decay * weight
        if location == "gradient":
            grad = centralize(grad, conv_only)
        mean = b1 * mean + (1 - b1) * grad
        square = b2 * square + (1 - b2) * grad * grad
        max_square = np.maximum(max_square, square)
        denominator = np.sqrt(max_square if amsgrad else square) / np.sqrt(1 - b2**step) + eps
        direction = mean / denominator
        if location == "update":
            direction = centralize(direction, conv_only)
        weight = weight - learning_rate / (1 - b1**step) * direction
        trajectory.append(weight)
    return np.stack(trajectory)


def adamw_gc(
    weight,
    grads,
    learning_rates,
    *,
    b1=0.9,
    b2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    amsgrad=False,
    location="gradient",
    conv_only=False,
):
    """Return the trajectory of `AdamW_GC`; of `AdamW_GC2` if `location` is "update"."""
    mean = np.zeros_like(weight)
    square = np.zeros_like(weight)
    max_square = np.zeros_like(weight)
    trajectory = []
    for step, (grad, learning_rate) in enumerate(zip(grads, learning_rates, strict=True), start=1):
        if location == "gradient":
            grad = centralize(grad, conv_only)
        mean = b1 * mean + (1 - b1) * grad
        square = b2 * square + (1 - b2) * grad * grad
        max_square = np.maximum(max_square, square)
        denominator = np.sqrt(max_square if amsgrad else square) + eps
        direction = weight_decay * weight + mean / denominator
        if location == "update":
            direction = centralize(direction, conv_only)
        step_size = learning_rate * np.sqrt(1 - b2**step) / (1 - b1**step)
        weight = weight - step_size * direction
        trajectory.append(weight)
    return np.stack(trajectory)


def adagrad_gc(
    weight,
    grads,
    learning_rates,
    *,
    eps=1e-10,
    lr_decay=0.0,
    weight_decay=0.0,
    conv_only=False,
):
    """Return the trajectory of `Adagrad_GC`, or of `Adagrad_GCC` if `conv_only`."""
    square_sum = np.zeros_like(weight)
    trajectory = []
    for step, (grad, learning_rate) in enumerate(zip(grads, learning_rates, strict=True), start=1):
        grad = centralize(grad + weight_decay * weight, conv_only)
        square_sum = square_sum + grad * grad
        step_size = learning_rate / (1 + (step - 1) * lr_decay)
        weight = weight - step_size * grad / (np.sqrt(square_sum) + eps)
        trajectory.append(weight)
    return np.stack(trajectory)


def centralize(array, conv_only=False):
    """Subtract from each output unit, a slice of the first axis, the mean of its elements.

    Arrays of fewer than two axes are returned as they are, of fewer than four if `conv_only`.
    """
    if array.ndim < (4 if conv_only else 2):
        return array
    centralized = np.empty_like(array)
    for unit, values in enumerate(array):
        centralized[unit] = values - np.sum(values) / values.size
    return centralized


def _momentum(grad, buffer, momentum, dampening, nesterov):
    """Return the direction of one step of `torch.optim.SGD`, and the new momentum buffer."""
    if momentum == 0:
        return grad, None
    # PyTorch does not dampen the first gradient.
    buffer = grad if buffer is None else momentum * buffer + (1 - dampening) * grad
    return (grad + momentum * buffer if nesterov else buffer), buffer
