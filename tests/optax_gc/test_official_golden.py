"""The recorded trajectories of the paper authors' PyTorch optimizers.

They are in a file outside the repository: `official_optimizers.npz` in OPTAX_GC_GOLDEN_DIR. Both
`optax_gc.official` and the NumPy references that always run (test_official.py) must match it.
"""

import json
import os
import pathlib

import numpy as np
import pytest

from tests.support.official_trajectories import (
    CLASSES,
    max_difference,
    run_official,
    run_reference,
)

pytestmark = pytest.mark.slow

_NAMES = ["conv2d", "conv1d", "dense", "bias"]
_STEPS = 8
_TOLERANCE = 1e-13


@pytest.fixture(scope="module")
def golden():
    folder = os.environ.get("OPTAX_GC_GOLDEN_DIR")
    if folder is None:
        pytest.skip("OPTAX_GC_GOLDEN_DIR is not set; it names the folder of the golden file")
    path = pathlib.Path(folder) / "official_optimizers.npz"
    if not path.exists():
        pytest.skip(f"{path} does not exist")
    with np.load(path) as file:
        return dict(file)


@pytest.fixture(scope="module")
def cases(golden):
    """Arguments and name of each recorded trajectory, by class and weight decay."""
    recorded = json.loads(str(golden["cases"]))
    return {
        (kwargs["class"], kwargs["weight_decay"]): (case, kwargs)
        for case, kwargs in recorded.items()
    }


@pytest.fixture
def recording(golden, cases, class_name, weight_decay):
    """Params, gradients, trajectory, learning rate and the other arguments of one case."""
    case, kwargs = cases[class_name, weight_decay]
    params = {name: golden[f"params/0/{name}"] for name in _NAMES}
    options = {key: value for key, value in kwargs.items() if key not in ("class", "lr")}
    return params, _stack(golden, "grads"), _stack(golden, case), kwargs["lr"], options


def _stack(golden, prefix):
    return {
        name: np.stack([golden[f"{prefix}/{step}/{name}"] for step in range(1, _STEPS + 1)])
        for name in _NAMES
    }


_every_case = pytest.mark.parametrize(
    ("class_name", "weight_decay"), [(name, decay) for name in CLASSES for decay in (0.0, 0.05)]
)


def test_every_recording_is_compared(cases, golden):
    assert set(cases) == {(name, decay) for name in CLASSES for decay in (0.0, 0.05)}
    assert len(json.loads(str(golden["cases"]))) == len(cases)


@_every_case
def test_numpy_matches_golden(recording, class_name):
    params, grads, expected, learning_rate, options = recording
    actual = run_reference(class_name, params, grads, [learning_rate] * _STEPS, **options)
    assert max_difference(actual, expected) < _TOLERANCE


@pytest.mark.parametrize("layout", ["torch", "flax"])
@_every_case
def test_official_matches_golden(recording, class_name, layout):
    params, grads, expected, learning_rate, options = recording
    actual = run_official(class_name, params, grads, learning_rate, layout=layout, **options)
    assert max_difference(actual, expected) < _TOLERANCE
