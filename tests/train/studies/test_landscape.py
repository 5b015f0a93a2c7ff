"""Measures of smoothness along an update, and the table of the course of training."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support import image_folder
from tests.support.studying import tiny
from train.errors import UserError
from train.studies import landscape
from train.studies.datasets import load_datasets
from train.studies.landscape import SCALES
from train.studies.report import dynamics
from train.studies.study import study

FIELDS = ("loss_variation", "gradient_change", "effective_smoothness")


def test_quadratic_loss():
    """The gradient changes by the matrix times the update, at every point."""
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    matrix = jnp.asarray(root @ root.T, jnp.float32)
    params, update = {"w": jnp.ones(5)}, {"w": jnp.asarray(rng.normal(size=5), jnp.float32)}

    def loss(params):
        return params["w"] @ matrix @ params["w"] / 2

    measured = jax.jit(lambda: landscape.measure(loss, params, update))()
    change = np.linalg.norm(matrix @ update["w"])
    np.testing.assert_allclose(measured.gradient_change, max(SCALES) * change, rtol=1e-5)
    np.testing.assert_allclose(
        measured.effective_smoothness, change / np.linalg.norm(update["w"]), rtol=1e-5
    )
    losses = [loss({"w": params["w"] + scale * update["w"]}) for scale in (0, *SCALES)]
    np.testing.assert_allclose(measured.loss_variation, np.ptp(losses), rtol=1e-5)


@pytest.mark.slow
def test_study_measures_landscape(tmp_path):
    config = tiny(seeds=(0, 1), landscape_examples=32)
    config.learning_rates.momentum = (0.03,)
    summary = study(config, tmp_path)
    for arm in summary.arms:
        for line in arm.lines:
            for name in FIELDS:
                assert len(line["curve"][name]) == len(line["curve"]["step"])
                assert min(line["curve"][name]) > 0
    table = dynamics.training_dynamics(summary)
    assert {row[2] for row in table.rows} - {"steps to loss 1.5"} == set(dynamics.MEASURES)
    # The measures do not change a result, but are part of its key.
    other = study(tiny(seeds=(0, 1), learning_rates=config.learning_rates), tmp_path / "other")
    for arm, plain in zip(summary.arms, other.arms, strict=True):
        for line, plain_line in zip(arm.lines, plain.lines, strict=True):
            assert line["params_sha256"] == plain_line["params_sha256"]
            assert line["key"] != plain_line["key"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"landscape_examples": 1438}, "use at most 1437"),
        ({"landscape_examples": 8, "name": "folder"}, "config.base.data.in_memory=True"),
    ],
)
def test_wrong_number_of_examples(changes, expected, tmp_path):
    config = tiny(landscape_examples=changes["landscape_examples"])
    if "name" in changes:
        image_folder.write(tmp_path / "images")
        config.base.data.update(name="folder", dir=str(tmp_path / "images"), image_size=8)
        config.base.data.update(mean=(0.5,) * 3, std=(0.5,) * 3, pad=0, batch_size=2)
        config.tuning.validation_examples = 0
        config.learning_rates.momentum = (0.03,)
    with pytest.raises(UserError, match=expected):
        load_datasets(config, [])


def test_steady_decay_does_not_oscillate():
    line = {"curve": {"loss": [8.0, 4.0, 2.0, 1.0], "grad_norm": [1.0, 2.0, 1.0, 2.0]}}
    assert not dynamics.oscillation_of("loss")(line) > -30  # rounding, or NaN for exactly none
    log_oscillation = dynamics.oscillation_of("grad_norm")(line)
    assert np.exp(log_oscillation) == pytest.approx(2 * np.log(2))
    assert np.isnan(dynamics.oscillation_of("loss")({"curve": {"loss": [1.0, None, 2.0]}}))
