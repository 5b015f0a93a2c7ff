"""Own parts by name: networks, optimizers, losses and data from files and modules."""

import json
import textwrap

import jax
import numpy as np
import optax
import pytest
from PIL import Image

import optax_gc
from tests.support import processes
from train import cli, data, evaluate, experiment, models, predict
from train.config import default_config, entry_point, validate
from train.data.in_memory import digits
from train.engine import optimizers
from train.errors import UserError
from train.loop import train
from train.models.convnet import ConvNet

PARTS = '''
"""Own parts of a run on the digits."""

import jax.numpy as jnp
import numpy as np
import optax
from flax import linen, nnx
from flax.nnx import bridge

from train.data.dataset import Dataset, Split
from train.data.in_memory import digits


class MyNet(nnx.Module):
    def __init__(self, *, num_classes, channels, rngs):
        self.conv = nnx.Conv(channels, 16, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.1, rngs=rngs)
        self.output = nnx.Linear(16 * 64, num_classes, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        return self.output(self.dropout(x.reshape(x.shape[0], -1)))


def linen_net(*, num_classes, channels, rngs):
    net = bridge.ToNNX(linen.Sequential([
        linen.Conv(8, (3, 3)), linen.relu, lambda x: x.mean((1, 2)), linen.Dense(num_classes)
    ]), rngs=rngs)
    return bridge.lazy_init(net, jnp.zeros((1, 8, 8, channels)))


def sign_momentum(settings):
    return optax.chain(optax.trace(settings.momentum), optax.scale_by_sign())


def squared_error(logits, labels):
    return jnp.sum((logits - jnp.eye(logits.shape[1])[labels]) ** 2, axis=1)


def even_and_odd(config):
    def split(source):
        return Split(np.asarray(source.inputs), (source.labels % 2).astype(np.int32))

    whole = digits.load()
    return Dataset(split(whole.train), split(whole.test), 2, ("even", "odd"))


def config_as_data(config):
    return config


def scalar_loss(logits, labels):
    return jnp.mean(logits)


def failing(*args):
    raise RuntimeError("no idea")
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return the current folder, with `my_parts.py`."""
    (tmp_path / "my_parts.py").write_text(PARTS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_config(**fields):
    config = default_config()
    config.data.update(mean=(0.3,), std=(0.4,), batch_size=32)
    config.num_steps = 2
    config.update_from_flattened_dict(fields)
    validate(config)
    return config


@pytest.mark.slow
def test_all_own_parts_train(folder, capsys):
    config = make_config(
        **{
            "model.name": "my_parts.py:MyNet",
            "optimizer.name": "my_parts.py:sign_momentum",
            "optimizer.learning_rate": 0.003,
            "data.name": "my_parts.py:even_and_odd",
            "loss.name": "my_parts.py:squared_error",
            "num_steps": 80,
        }
    )
    summary = train(config, folder / "run")
    assert summary["test_top1"] > 0.7  # chance is 0.5
    assert evaluate.main(["evaluate", "--workdir", "run"]) == 0
    report = json.loads((folder / "run" / "evaluation.json").read_text())
    assert report["test_top1"] == summary["test_top1"]
    Image.fromarray(digits.load().test.inputs[0, ..., 0]).save("digit.png")
    capsys.readouterr()
    assert predict.main(["predict", "--workdir", "run", "digit.png", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["class"] in ("even", "odd")


@pytest.mark.slow
def test_linen_module_trains(folder):
    run = experiment.prepare(make_config(**{"model.name": "my_parts.py:linen_net"}))
    axes = {leaf.axes for leaf in jax.tree.leaves(run.optimizer.axes)}
    assert axes == {(), (0,), (0, 1, 2)}
    state = run.init_state()
    state, metrics, _ = run.compile(state).steps(state, 0, 2)
    assert np.isfinite(metrics.sums["loss"])


def test_own_optimizer_comes_after_gc(folder):
    config = make_config(**{"optimizer.name": "my_parts.py:sign_momentum"})
    config.optimizer.learning_rate = 0.1
    params = {"kernel": np.ones((4, 3), np.float32)}
    axes = {"kernel": optax_gc.FanIn((0,))}
    tx = optimizers.build(config, optax.constant_schedule(0.1), axes, frozenset)
    grads = {"kernel": np.arange(12, dtype=np.float32).reshape(4, 3)}
    updates, _ = tx.update(grads, tx.init(params), params)
    expected = -0.1 * np.sign(grads["kernel"] - grads["kernel"].mean(0))
    np.testing.assert_allclose(updates["kernel"], expected)


@pytest.mark.parametrize("overrides", [(), ("--config.model.name=my_parts.py:MyNet",)])
def test_file_beside_the_config_is_found(folder, tmp_path_factory, monkeypatch, overrides):
    (folder / "my_config.py").write_text(
        textwrap.dedent("""
        from configs import digits_gc

        def get_config():
            config = digits_gc.get_config()
            if NAMED_IN_FILE:
                config.model.name = "my_parts.py:MyNet"
            return config
        """).replace("NAMED_IN_FILE", str(not overrides))
    )
    monkeypatch.syspath_prepend(processes.ROOT)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    command = cli.parse(["train", "--config", str(folder / "my_config.py"), *overrides], str)
    file, _, attribute = command.config.model.name.rpartition(":")
    assert (elsewhere / file).resolve() == (folder / "my_parts.py").resolve()
    assert attribute == "MyNet"
    assert models.build(command.config, 10, (8, 8, 1)).last_layer() == {("output",)}


def test_module_is_imported():
    assert entry_point.load("config.model.name", "train.models.convnet:ConvNet") is ConvNet


WRONG = {
    "file": ("model.name", "missing.py:Net", r"missing\.py is not a file; give the path"),
    "module": ("model.name", "no_such:Net", "the module no_such cannot be imported: "),
    "attribute": ("model.name", "my_parts.py:Net", r"my_parts\.py has no Net; it has .*MyNet"),
    "not a network": ("model.name", "my_parts.py:sign_momentum", "the trainer cannot call its"),
    "code": ("model.name", "broken.py:Net", r"broken\.py, line 2: .*; fix the file"),
    "optimizer": ("optimizer.name", "my_parts.py:MyNet", "calling it with config.optimizer raises"),
    "result": ("optimizer.name", "my_parts.py:config_as_data", "and not an optax.GradientTransf"),
    "data": ("data.name", "my_parts.py:config_as_data", "it returns a ConfigDict and not a train"),
    "failing data": ("data.name", "my_parts.py:failing", "raises RuntimeError: no idea; fix the f"),
    "loss": (
        "loss.name",
        "my_parts.py:scalar_loss",
        r"returns an array of shape \(\); it mu",
    ),
    "failing loss": ("loss.name", "my_parts.py:failing", "raises RuntimeError: no idea; fix it"),
}


def prepare_and_compile(config):
    run = experiment.prepare(config, devices=jax.devices()[:1])
    run.compile(run.init_state())


@pytest.mark.parametrize("name", WRONG)
def test_wrong_part_is_one_clear_line(name, folder):
    field, value, message = WRONG[name]
    (folder / "broken.py").write_text("import os\nos.no_such\n")
    with pytest.raises(UserError, match=message) as caught:
        prepare_and_compile(make_config(**{field: value}))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("optimizer.name", "adamm"),
        ("loss.name", "mse"),
        ("loss.name", "my_parts.py"),
    ],
)
def test_names_without_a_part_are_rejected(field, value):
    with pytest.raises(UserError, match=rf"config\.{field}=.* is not allowed; .*an own one"):
        make_config(**{field: value})


BAD_DATA = {
    "dtype": (np.zeros((4, 8, 8, 1), np.float32), [0, 1, 0, 1], "are float32 .*; use uint8 images"),
    "axes": (np.zeros((4, 8, 8), np.uint8), [0, 1, 0, 1], r"uint8 \(4, 8, 8\); use uint8 images"),
    "labels": (np.zeros((4, 8, 8, 1), np.uint8), [0, 1, 2, 1], "from 0 to 2, but num_classes is 2"),
    "count": (np.zeros((4, 8, 8, 1), np.uint8), [0, 1], r"int32 \(2,\); use int32 \(4,\)"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_wrong_data_are_rejected(name, folder, monkeypatch):
    inputs, labels, message = BAD_DATA[name]
    split = data.dataset.Split(inputs, np.array(labels, np.int32))
    dataset = data.dataset.Dataset(split, split, 2)
    monkeypatch.setattr(entry_point, "load", lambda *_: lambda config: dataset)
    with pytest.raises(UserError, match=message):
        data.load(make_config(**{"data.name": "my_parts.py:even_and_odd"}))
