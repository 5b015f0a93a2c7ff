"""`precision=bfloat16` computes in bfloat16 and keeps what must be exact in float32."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.support.processes import metrics, run
from train import experiment
from train.config import default_config

SETTINGS = ("--config.num_steps=80", "--config.log_every_steps=10")


def losses(folder, *overrides):
    run(folder, *SETTINGS, *overrides)
    return np.array([line["loss"] for line in metrics(folder)])


def test_the_losses_differ_by_less_than_those_of_another_seed(tmp_path):
    single = losses(tmp_path / "single")
    half = losses(tmp_path / "half", "--config.precision=bfloat16")
    other = losses(tmp_path / "other", "--config.seed=1")
    assert 0 < np.abs(half - single).mean() < 0.25 * np.abs(other - single).mean()


def test_parameters_statistics_and_losses_are_float32_and_convolutions_are_not():
    config = default_config()
    config.precision = "bfloat16"
    prepared = experiment.prepare(config)
    state = jax.eval_shape(prepared.init_state)
    floats = [leaf.dtype for leaf in jax.tree.leaves(state) if leaf.dtype.kind == "f"]
    assert set(floats) == {jnp.dtype(jnp.float32)}

    images = jax.ShapeDtypeStruct((8, *prepared.dataset.input_shape), jnp.float32)
    model = prepared.model
    traced = jax.jit(model.apply, static_argnums=3).trace(state.params, state.stats, images, True)
    logits, stats = traced.out_info
    assert logits.dtype == jnp.bfloat16
    assert {leaf.dtype for leaf in jax.tree.leaves(stats)} == {jnp.dtype(jnp.float32)}
    lines = traced.lower().as_text().splitlines()
    convolutions = [line for line in lines if "stablehlo.convolution" in line]
    assert len(convolutions) == 3
    assert all("xbf16>" in line and "xf32>" not in line for line in convolutions)
