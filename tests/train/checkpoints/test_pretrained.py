"""Weights of another run and of PyTorch: taken over exactly, or refused by name."""

import functools
import hashlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.support.processes import ROOT, run, summary
from train import experiment, models
from train.checkpoints import pretrained
from train.config import default_config, validate
from train.engine import state
from train.errors import UserError

safetensors = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

SIZES = {"resnet18": (2, 2, 2, 2), "resnet50": (3, 4, 6, 3)}
FEW = ("--config.data.batch_size=16", "--config.log_every_steps=2")


def resnet_shapes(name, classes=10):
    """The names and shapes of torchvision's `state_dict()`, without its counters."""
    wide = 4 if name == "resnet50" else 1
    shapes, features = {"conv1": (64, 3, 7, 7), "bn1": 64}, 64
    for stage, blocks in enumerate(SIZES[name]):
        width = 64 * 2**stage
        for index in range(blocks):
            block = f"layer{stage + 1}.{index}"
            if wide == 1:
                kernels = [(width, features, 3, 3), (width, width, 3, 3)]
            else:
                kernels = [(width, features, 1, 1), (width, width, 3, 3), (width * 4, width, 1, 1)]
            for number, kernel in enumerate(kernels, 1):
                shapes |= {f"{block}.conv{number}": kernel, f"{block}.bn{number}": kernel[0]}
            if features != width * wide:
                kernel = (width * wide, features, 1, 1)
                shapes |= {f"{block}.downsample.0": kernel, f"{block}.downsample.1": kernel[0]}
            features = width * wide
    norm = ("weight", "bias", "running_mean", "running_var")
    leaves = {}
    for layer, shape in shapes.items():
        if isinstance(shape, tuple):
            leaves[f"{layer}.weight"] = shape
        else:
            leaves |= {f"{layer}.{leaf}": (shape,) for leaf in norm}
    return leaves | {"fc.weight": (classes, features), "fc.bias": (classes,)}


def arrays_of(shapes):
    """Small random ones, and positive, for some are variances."""
    rng = np.random.default_rng(0)
    return {
        name: rng.uniform(0.01, 0.02, shape).astype(np.float32) for name, shape in shapes.items()
    }


def config_of(source, name="resnet18", **fields):
    config = default_config()
    config.model.update(name=name, stem="7x7" if name.startswith("resnet") else "3x3")
    config.init_from = str(source)
    config.update(fields)
    validate(config)
    return config


@functools.cache
def model_of(name, classes=10):
    return models.build(config_of("", name), classes, (64, 64, 3))


def load(config, classes=10):
    return pretrained.load(config, model_of(config.model.name, classes))


@pytest.fixture(scope="module")
def arrays():
    return arrays_of(resnet_shapes("resnet18"))


@pytest.fixture
def file(tmp_path, arrays):
    file = tmp_path / "resnet18.safetensors"
    counter = {"bn1.num_batches_tracked": np.zeros((), np.int64)}
    safetensors.save_file(arrays | counter, file)
    return file


def test_each_array_of_a_file_lands_in_its_place_in_our_layout(file, arrays):
    initial = load(config_of(file, init_head=True))
    params, stats = initial.params, initial.stats
    kernel = params["blocks"][4]["shortcut"]["conv"]["kernel"]
    np.testing.assert_array_equal(kernel[0, 0], arrays["layer3.0.downsample.0.weight"][..., 0, 0].T)
    stem = params["stem"]["conv"]["kernel"]
    assert stem[5, 2, 1, 40] == arrays["conv1.weight"][40, 1, 5, 2]
    assert params["head"]["kernel"][3, 7] == arrays["fc.weight"][7, 3]
    of_norm = stats["blocks"][7]["conv2"]["norm"]
    np.testing.assert_array_equal(of_norm["var"], arrays["layer4.1.bn2.running_var"])
    np.testing.assert_array_equal(of_norm["mean"], arrays["layer4.1.bn2.running_mean"])
    taken = sum(leaf.size for leaf in jax.tree.leaves((params, stats)))
    assert taken == sum(array.size for array in arrays.values()), "all of it, and nothing twice"
    assert initial.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


def test_another_number_of_classes_is_no_matter_as_long_as_the_head_begins_anew(file):
    assert load(config_of(file), classes=37).params.keys() == {"stem", "blocks"}
    with pytest.raises(UserError, match=r"set config\.init_head=False"):
        load(config_of(file, init_head=True), classes=37)


def test_what_is_not_taken_over_is_what_it_would_have_been():
    model = models.build(config_of("", "convnet"), 10, (8, 8, 1))
    fresh, stats = state.init_weights(model, 3, None)
    other, moved = state.init_weights(model, 4, None)
    body = {name: layer for name, layer in other.items() if name != models.HEAD}
    params, taken = state.init_weights(model, 3, (body, moved))
    assert state.sha256(params[models.HEAD]) == state.sha256(fresh[models.HEAD])
    assert all(params[name] is layer for name, layer in body.items())
    assert state.sha256(taken) == state.sha256(stats)


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
def test_a_file_that_does_not_fit_is_refused_by_the_name_of_the_array(message, tmp_path, arrays):
    changed = {k: v for k, v in (arrays | CHANGES[message]).items() if v is not None}
    safetensors.save_file(changed, tmp_path / "changed.safetensors")
    with pytest.raises(UserError) as error:
        load(config_of(tmp_path / "changed.safetensors", init_head=True))
    assert message in str(error.value)


def test_what_is_no_sound_file_is_refused(file, tmp_path):
    whole = file.read_bytes()
    for name, content, message in [
        ("cut.safetensors", whole[:-100], "is damaged or not a .safetensors file"),
        ("torn.safetensors", whole[:50], "is damaged or not a .safetensors file"),
        ("text.safetensors", b"<html>not found</html>", "is damaged or not a .safetensors file"),
        ("empty.safetensors", b"", "is damaged or not a .safetensors file"),
        ("resnet.pth", whole, "is not a .safetensors file; create one in PyTorch with"),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError) as error:
            load(config_of(tmp_path / name))
        assert message in str(error.value)
    half = b'{"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "half.safetensors").write_bytes(len(half).to_bytes(8, "little") + half + bytes(4))
    with pytest.raises(
        UserError, match=r"contains BF16, a dtype that NumPy does not have; save it as fl"
    ):
        load(config_of(tmp_path / "half.safetensors"))
    for nowhere in (tmp_path / "nowhere", "~nobody/net.safetensors", "long" * 1000):
        with pytest.raises(
            UserError, match="does not exist; it must be the work folder of a finished run"
        ):
            load(config_of(nowhere))
    with pytest.raises(
        UserError, match=r"is a file for ResNets, but config\.model describes a convnet"
    ):
        load(config_of(file, name="convnet"))


def test_a_mistake_in_it_costs_one_line_and_writes_nothing(refusal, tmp_path, file):
    command = ("--config", "configs/digits_gc.py", "--workdir", "run")
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    assert "config.init_from='nowhere' does not exist" in refusal(
        *command, "--config.init_from=nowhere"
    )
    assert "config.init_head=True needs config.init_from" in refusal(*command, "--config.init_head")
    assert "contains no checkpoint" in refusal(*command, "--config.init_from=configs")
    assert "is a file for ResNets" in refusal(*command, f"--config.init_from={file}")


@pytest.fixture(scope="module")
def pretrained_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    run(folder, "--config.num_steps=4", *FEW)
    return folder


def test_a_run_goes_on_from_another_and_after_a_kill_needs_it_no_more(pretrained_run, tmp_path):
    source = shutil.copytree(pretrained_run, tmp_path / "source")
    fields = (f"--config.init_from={source}", "--config.num_steps=4", *FEW)
    fields += ("--config.checkpoint.every_steps=2", "--config.optimizer.body_lr_scale=0.1")
    out = run(tmp_path / "run", *fields)
    assert f"starting at step 0 from {source}, with a new last layer" in out
    whole = summary(tmp_path / "run")
    assert whole["init_sha256"] == summary(pretrained_run)["params_sha256"]
    shutil.rmtree(source)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "4")
    (tmp_path / "run" / "summary.json").unlink()
    assert "resuming after step 2" in run(tmp_path / "run", *fields)
    for figure in ("params_sha256", "init_sha256", "test_loss"):
        assert summary(tmp_path / "run")[figure] == whole[figure]


def test_a_run_that_is_not_finished_damaged_or_of_another_net_is_refused(
    pretrained_run, tmp_path, monkeypatch
):
    folder = shutil.copytree(pretrained_run, tmp_path / "run")
    with pytest.raises(UserError, match=r"which a resnet18 has; set config\.model to the model"):
        load(config_of(folder))
    config = config_of(folder, name="convnet", init_head=True)
    model = models.build(config, 10, (8, 8, 1))
    same = pretrained.load(config, model)
    assert state.sha256(same.params) == same.sha256 == summary(folder)["params_sha256"]
    config.model.weight_standardization = True
    with pytest.raises(UserError, match=r"with config\.model\.weight_standardization=False, but h"):
        pretrained.load(config, model)
    config.model.weight_standardization = False
    (folder / "summary.json").unlink()
    with pytest.raises(UserError, match=r"is not finished; .* such as .*run/checkpoints/4"):
        pretrained.load(config, model)
    config.init_from = str(folder / "checkpoints" / "4")
    assert pretrained.load(config, model).sha256 == same.sha256
    monkeypatch.chdir(folder / "checkpoints")
    config.init_from = "4"  # as it is named from where it lies
    assert pretrained.load(config, model).sha256 == same.sha256
    largest = max((folder / "checkpoints").rglob("d/*"), key=lambda file: file.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(UserError, match=r"checkpoint 4 is damaged \(.* has changed\)"):
        pretrained.load(config, model)


def test_of_lookahead_the_weights_that_are_tested_are_taken(tmp_path):
    steps = "--config.num_steps=3"  # no multiple of the period, so fast and slow weights differ
    run(tmp_path / "run", steps, "--config.optimizer.name=lookahead", *FEW)
    config = default_config()
    config.init_from, config.init_head = str(tmp_path / "run"), True
    config.data.mean, config.data.std = (0.305,), (0.376,)
    taken = experiment.prepare(config)
    assert taken.pretrained.sha256 == summary(tmp_path / "run")["params_sha256"]
    first = taken.init_state()
    assert state.sha256(first.params) == taken.pretrained.sha256
    figures = taken.compile(first).evaluate(first).means()
    assert figures["loss"] == pytest.approx(summary(tmp_path / "run")["test_loss"], rel=1e-3)


@pytest.mark.parametrize("name", SIZES)
def test_our_resnet_computes_what_pytorchs_does(name, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from tests.support.torch_resnet import ResNet

    torch.manual_seed(0)
    net = ResNet(SIZES[name], bottleneck=name == "resnet50", classes=10).eval()
    for key, value in net.state_dict().items():
        if key.endswith("running_mean"):
            value.normal_(0, 0.1)
        elif key.endswith(("running_var", "bn3.weight", "bn2.weight")):
            value.uniform_(0.5, 1.5)
    theirs = {key: value.numpy() for key, value in net.state_dict().items()}
    counters = {key for key in theirs if key.endswith("num_batches_tracked")}
    assert {k: v.shape for k, v in theirs.items() if k not in counters} == resnet_shapes(name)
    safetensors.save_file(theirs, tmp_path / "net.safetensors")
    config = config_of(tmp_path / "net.safetensors", name, init_head=True)
    model, initial = model_of(name), load(config)
    images = np.random.default_rng(0).standard_normal((2, 64, 64, 3)).astype(np.float32)
    ours, _ = jax.jit(model.apply, static_argnums=3)(
        initial.params, initial.stats, jnp.asarray(images), False
    )
    with torch.no_grad():
        expected = net(torch.from_numpy(images).permute(0, 3, 1, 2)).numpy()
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(ours, expected, atol=1e-4)
