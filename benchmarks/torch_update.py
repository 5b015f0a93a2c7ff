"""PyTorch's SGD as a loop over the weights, with and without the GC of the authors' code."""

import functools
from collections.abc import Callable

import jax
import numpy as np
import torch

import optax_gc
from benchmarks.param_shapes import Tree, random_arrays


def torch_updates(shapes: Tree) -> dict[str, Callable[[], None]]:
    """Return functions that each update all weights once, by name.

    The weights are transposed to PyTorch's layout, with the output axis first.
    """
    params, params_have_fan_in = _tensors(shapes, seed=1)
    grads, _ = _tensors(shapes, seed=0)

    @torch.no_grad()
    def sgd(gc: bool) -> None:
        for w, g, has_fan_in in zip(params, grads, params_have_fan_in, strict=True):
            if gc and has_fan_in:
                g.sub_(g.mean(tuple(range(1, g.ndim)), keepdim=True))
            w.add_(g, alpha=-1e-9)

    return {
        "torch: sgd": functools.partial(sgd, gc=False),
        "torch: gc, sgd": functools.partial(sgd, gc=True),
    }


def _tensors(shapes: Tree, seed: int) -> tuple[list[torch.Tensor], list[bool]]:
    """Return random weights, and whether each has a fan-in."""
    leaves = jax.tree_util.tree_flatten_with_path(random_arrays(shapes, seed))[0]
    fan_ins = [optax_gc.by_name(path, leaf).axes for path, leaf in leaves]
    arrays = [_outputs_first(leaf, axes) for (_, leaf), axes in zip(leaves, fan_ins, strict=True)]
    tensors = [torch.from_numpy(np.ascontiguousarray(array)) for array in arrays]
    return tensors, [bool(axes) for axes in fan_ins]


def _outputs_first(leaf: np.ndarray, fan_in: tuple[int, ...]) -> np.ndarray:
    """Move the fan-in axes to the end, and merge the other axes into the first one."""
    if not fan_in:
        return leaf
    moved = np.moveaxis(leaf, fan_in, range(-len(fan_in), 0))
    return moved.reshape(-1, *moved.shape[leaf.ndim - len(fan_in) :])
