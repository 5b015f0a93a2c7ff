"""Weights of another run and of PyTorch: loaded exactly, or rejected with the array's name."""

import functools
import hashlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.processes import ROOT, summary
from tests.support.training import train_here
from train import experiment, models, tasks
from train.checkpoints import pretrained
from train.config import default_config, validate
from train.data.dataset import Signature
from train.engine import state
from train.errors import UserError
from train.tasks.task import means

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

STAGE_SIZES = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
FLAGS = ("--config.num_steps=4", "--config.data.batch_size=16", "--config.log_every_steps=2")


def torch_shapes(name, num_classes=10):
    """Return the names and shapes of torchvision's `state_dict()`, without its counters."""
    expansion = 4 if name == "resnet50" else 1
    shapes, features = {"conv1": (64, 3, 7, 7), "bn1": 64}, 64
    for stage, num_blocks in enumerate(STAGE_SIZES[name]):
        width = 64 * 2**stage
        for index in range(num_blocks):
            block = f"layer{stage + 1}.{index}"
            if expansion == 1:
                kernels = [(width, features, 3, 3), (width, width, 3, 3)]
            else:
                kernels = [(width, features, 1, 1), (width, width, 3, 3), (width * 4, width, 1, 1)]
            for number, kernel in enumerate(kernels, 1):
                shapes |= {f"{block}.conv{number}": kernel, f"{block}.bn{number}": kernel[0]}
            if features != width * expansion:
                kernel = (width * expansion, features, 1, 1)
                shapes |= {f"{block}.downsample.0": kernel, f"{block}.downsample.1": kernel[0]}
            features = width * expansion
    leaves = {}
    for layer, shape in shapes.items():
        if isinstance(shape, tuple):
            leaves[f"{layer}.weight"] = shape
        else:
            names = ("weight", "bias", "running_mean", "running_var")
            leaves |= {f"{layer}.{name}": (shape,) for name in names}
    return leaves | {"fc.weight": (num_classes, features), "fc.bias": (num_classes,)}


def make_config(source, name="resnet18", **fields):
    config = default_config()
    config.model.update(name=name, stem="7x7" if name.startswith("resnet") else "3x3")
    config.init_from = str(source)
    config.update(fields)
    validate(config)
    return config


@functools.cache
def build_task(name, num_classes=10):
    return tasks.build(make_config("", name), Signature(num_classes, (64, 64, 3)))


def load(config, num_classes=10):
    return pretrained.load(config, build_task(config.model.name, num_classes))


@pytest.fixture(scope="module")
def arrays():
    """Return the arrays of a PyTorch ResNet-18; positive, since some are variances."""
    rng = np.random.default_rng(0)
    return {
        name: rng.uniform(0.01, 0.02, shape).astype(np.float32)
        for name, shape in torch_shapes("resnet18").items()
    }


@pytest.fixture
def file(tmp_path, arrays):
    file = tmp_path / "resnet18.safetensors"
    counter = {"bn1.num_batches_tracked": np.zeros((), np.int64)}
    safetensors.save_file(arrays | counter, file)
    return file


def test_arrays_of_file_are_transposed(file, arrays):
    weights = load(make_config(file, init_head=True))
    params, stats = weights.params, weights.stats
    kernel = params["blocks"][4]["shortcut"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 0], arrays["layer3.0.downsample.0.weight"][..., 0, 0].T)
    stem = params["stem"]["conv"]["kernel"]
    assert stem[5, 2, 1, 40] == arrays["conv1.weight"][40, 1, 5, 2]
    assert params["head"]["kernel"][3, 7] == arrays["fc.weight"][7, 3]
    norm = stats["blocks"][7]["conv2"]["norm"]
    np.testing.assert_array_equal(norm["var"], arrays["layer4.1.bn2.running_var"])
    np.testing.assert_array_equal(norm["mean"], arrays["layer4.1.bn2.running_mean"])
    num_loaded = sum(leaf.size for leaf in jax.tree.leaves((params, stats)))
    assert num_loaded == sum(array.size for array in arrays.values()), "each array once"
    assert weights.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_new_head_may_have_other_classes(file):
    assert load(make_config(file), num_classes=37).params.keys() == {"stem", "blocks"}
    with pytest.raises(UserError, match=r"set config\.init_head=False"):
        load(make_config(file, init_head=True), num_classes=37)


def test_missing_weights_are_initialized():
    model = models.build(make_config("", "convnet"), 10, (8, 8, 1))
    random, random_stats = state.init_weights(model.init, 3, None)
    loaded, loaded_stats = state.init_weights(model.init, 4, None)
    body = {name: layer for name, layer in loaded.items() if name != "head"}
    params, stats = state.init_weights(model.init, 3, (body, loaded_stats))
    assert state.sha256(params["head"]) == state.sha256(random["head"])
    assert all(state.sha256(params[name]) == state.sha256(body[name]) for name in body)
    assert state.sha256(stats) == state.sha256(random_stats)


CHANGES = {
    "does not have layer2.0.downsample.1.running_var, which a resnet18 has": {
        "layer2.0.downsample.1.running_var": None
    },
    "has conv1.weight of shape (64, 3, 3, 3), but a resnet18 as configured has shape (64, 3, 7,": {
        "conv1.weight": np.zeros((64, 3, 3, 3), np.float32)
    },
    "has layer1.2.conv1.weight, which a resnet18 does not have": {
        "layer1.2.conv1.weight": np.zeros((64, 64, 3, 3), np.float32)
    },
    "has bn1.bias of dtype int64": {"bn1.bias": np.zeros(64, np.int64)},
    "has fc.bias of shape (11,), but a resnet18 as configured has shape (10,)": {
        "fc.bias": np.zeros(11, np.float32)
    },
    "does not have fc.bias, which": {"fc.bias": None},
}


@pytest.mark.parametrize("message", CHANGES)
def test_unsuitable_array_is_named(message, tmp_path, arrays):
    changed = {k: v for k, v in (arrays | CHANGES[message]).items() if v is not None}
    safetensors.save_file(changed, tmp_path / "changed.safetensors")
    with pytest.raises(UserError) as error:
        load(make_config(tmp_path / "changed.safetensors", init_head=True))
    assert message in str(error.value)


def test_damaged_file_is_rejected(file, tmp_path):
    content = file.read_bytes()
    for name, new_content, message in [
        ("cut.safetensors", content[:-100], "is damaged or not a .safetensors file"),
        ("header.safetensors", content[:50], "is damaged or not a .safetensors file"),
        ("text.safetensors", b"<html>not found</html>", "is damaged or not a .safetensors file"),
        ("empty.safetensors", b"", "is damaged or not a .safetensors file"),
        ("resnet.pth", content, "is not a .safetensors file; create one in PyTorch with"),
    ]:
        (tmp_path / name).write_bytes(new_content)
        with pytest.raises(UserError) as error:
            load(make_config(tmp_path / name))
        assert message in str(error.value)
    half = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "half.safetensors").write_bytes(len(half).to_bytes(8, "little") + half + bytes(4))
    with pytest.raises(
        UserError, match=r"contains BF16, a dtype that NumPy does not have; save it as fl"
    ):
        load(make_config(tmp_path / "half.safetensors"))
    for missing in (tmp_path / "nowhere", "~nobody/net.safetensors", "long" * 1000):
        with pytest.raises(
            UserError, match="does not exist; it must be the work folder of a finished run"
        ):
            load(make_config(missing))
    with pytest.raises(
        UserError, match=r"is a file for ResNets, but config\.model describes a convnet"
    ):
        load(make_config(file, name="convnet"))


def test_wrong_source_is_one_line(rejected, tmp_path, file):
    command = ("--config", "configs/digits_gc.py", "--workdir", "run")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    assert "config.init_from='nowhere' does not exist" in rejected(
        *command, "--config.init_from=nowhere"
    )
    assert "config.init_head=True needs config.init_from" in rejected(
        *command, "--config.init_head"
    )
    assert "contains no checkpoint" in rejected(*command, "--config.init_from=configs")
    assert "is a file for ResNets" in rejected(*command, f"--config.init_from={file}")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Return the work folder of a finished run, which tests must not change."""
    workdir = tmp_path_factory.mktemp("source") / "run"
    train_here(workdir, *FLAGS)
    return workdir


@pytest.mark.slow
def test_resume_does_not_need_source(source, tmp_path, capfd):
    copy = shutil.copytree(source, tmp_path / "source")
    workdir = tmp_path / "run"
    flags = (
        *FLAGS,
        f"--config.init_from={copy}",
        "--config.checkpoint.every_steps=2",
        "--config.optimizer.body_lr_scale=0.1",
    )
    expected = train_here(workdir, *flags)
    assert f"starting at step 0 from {copy}, with a new last layer" in capfd.readouterr().out
    assert expected["init_sha256"] == summary(source)["params_sha256"]
    shutil.rmtree(copy)
    shutil.rmtree(workdir / "checkpoints" / "4")
    (workdir / "summary.json").unlink()
    resumed = train_here(workdir, *flags)
    assert "resuming after step 2" in capfd.readouterr().out
    for name in ("params_sha256", "init_sha256", "test_loss"):
        assert resumed[name] == expected[name]


@pytest.fixture
def convnet(source, tmp_path):
    """Return a copy of `source`, a config that starts from it, and its task."""
    folder = shutil.copytree(source, tmp_path / "run")
    config = make_config(folder, name="convnet", init_head=True)
    return folder, config, tasks.build(config, Signature(10, (8, 8, 1)))


@pytest.mark.slow
def test_run_with_other_model_is_rejected(source, convnet):
    with pytest.raises(UserError, match=r"which a resnet18 has; set config\.model to the model"):
        load(make_config(source))
    _, config, task = convnet
    config.model.weight_standardization = True
    with pytest.raises(UserError, match=r"with config\.model\.weight_standardization=False, but h"):
        pretrained.load(config, task)


@pytest.mark.slow
def test_checkpoint_of_unfinished_run(convnet, monkeypatch):
    folder, config, task = convnet
    sha256 = summary(folder)["params_sha256"]
    weights = pretrained.load(config, task)
    assert state.sha256(weights.params) == weights.sha256 == sha256
    (folder / "summary.json").unlink()
    with pytest.raises(UserError, match=r"is not finished; .* such as .*run/checkpoints/4"):
        pretrained.load(config, task)
    config.init_from = str(folder / "checkpoints" / "4")
    assert pretrained.load(config, task).sha256 == sha256
    monkeypatch.chdir(folder / "checkpoints")
    config.init_from = "4"  # a relative path without a folder
    assert pretrained.load(config, task).sha256 == sha256


@pytest.mark.slow
def test_damaged_checkpoint_is_rejected(convnet):
    folder, config, task = convnet
    largest = max((folder / "checkpoints").rglob("d/*"), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint .*/4 is damaged \(.* has changed\)"):
        pretrained.load(config, task)


@pytest.mark.slow
def test_slow_weights_of_lookahead_are_loaded(tmp_path):
    # The period does not divide the steps, so that fast and slow weights differ.
    flags = (*FLAGS, "--config.optimizer.name=lookahead", "--config.optimizer.lookahead.period=3")
    expected = train_here(tmp_path / "run", *flags)
    config = default_config()
    config.init_from, config.init_head = str(tmp_path / "run"), True
    config.data.mean, config.data.std = (0.305,), (0.376,)
    run = experiment.prepare(config)
    assert run.pretrained.sha256 == expected["params_sha256"]
    first = run.init_state()
    assert state.sha256(first.params) == run.pretrained.sha256
    metrics = means(run.compile(first).evaluate(first)[""])
    assert metrics["loss"] == pytest.approx(expected["test_loss"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", STAGE_SIZES)
def test_resnet_matches_pytorch(name, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.support.torch_resnet import ResNet

    torch.manual_seed(0)
    net = ResNet(STAGE_SIZES[name], bottleneck=name == "resnet50", num_classes=10).eval()
    for key, value in net.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith(("running_var", "bn3.weight", "bn2.weight")):
            value.uniform_(0.5, 1.5)
    tensors = {key: value.numpy() for key, value in net.state_dict().items()}
    counters = {key for key in tensors if key.endswith("num_batches_tracked")}
    assert {k: v.shape for k, v in tensors.items() if k not in counters} == torch_shapes(name)
    safetensors.save_file(tensors, tmp_path / "net.safetensors")
    config = make_config(tmp_path / "net.safetensors", name, init_head=True)
    weights = load(config)
    images = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype(np.float32)
    apply = jax.jit(build_task(name).model.apply, static_argnums=3)
    logits, _ = apply(weights.params, weights.stats, jnp.asarray(images), False)
    with torch.no_grad():
        expected = net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(logits, expected, atol=1e-4)
