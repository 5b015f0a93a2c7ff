"""`precision=bfloat16` computes in bfloat16 and keeps weights, statistics and losses in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.processes import metrics
from tests.support.training import train_here
from train import experiment
from train.config import default_config

SETTINGS = ("--config.num_steps=40", "--config.log_every_steps=5")


def losses(folder, *overrides):
    train_here(folder, *SETTINGS, *overrides)
    return np.array([line["loss"] for line in metrics(folder)])


@pytest.mark.slow
def test_bfloat16_changes_losses_less_than_seed(tmp_path):
    float32 = losses(tmp_path / "float32")
    bfloat16 = losses(tmp_path / "bfloat16", "--config.precision=bfloat16")
    other_seed = losses(tmp_path / "seed", "--config.seed=1")
    assert 0 < np.abs(bfloat16 - float32).mean() < 0.25 * np.abs(other_seed - float32).mean()


def test_dtypes_with_bfloat16():
    config = default_config()
    config.precision = "bfloat16"
    run = experiment.prepare(config)
    state = jax.eval_shape(run.init_state)
    floats = [leaf.dtype for leaf in jax.tree.leaves(state) if leaf.dtype.kind == "f"]
    assert set(floats) == {jnp.dtype(jnp.float32)}

    images = jax.ShapeDtypeStruct((8, *run.dataset.input_shape), jnp.float32)
    apply = jax.jit(run.task.model.apply, static_argnums=3)
    traced = apply.trace(state.params, state.stats, images, True)
    logits, stats = traced.out_info
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(stats)} == {jnp.dtype(jnp.float32)}
    lines = traced.lower().as_text().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    assert len(convolutions) == 3
    assert all("xbf16>" in line and "xf32>" not in line for line in convolutions)
