"""Arguments of config files: the config of each, and the work folder of its runs."""

import importlib
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from train import cli, models
from train.config import parse_config_argument, validate
from train.errors import UserError

CONFIGS = ROOT / "configs"
CIFAR = importlib.import_module("configs.cifar100_gc")


def config_of(file, argument):
    return importlib.import_module(f"configs.{file}").get_config(argument)


@pytest.mark.parametrize("optimizer", CIFAR.OPTIMIZERS)
def test_every_net_and_optimizer_is_valid(optimizer):
    for net in CIFAR.NETS:
        config = config_of("cifar100_gc", f"{net},{optimizer}")
        validate(config)
        assert config.model.name == net
        assert config.model.name in models.MODELS
        scale = {"adam": 0.01, "adamw": 0.01, "adagrad": 0.1}.get(optimizer, 1)
        assert config.optimizer.learning_rate == pytest.approx(0.1 * scale)
        assert config_of("cifar100", f"{optimizer},{net}").gc.mode == "none"


@pytest.mark.parametrize(
    ("file", "argument", "name", "norm", "standardized"),
    [
        ("imagenet_gc", "", "resnet50", "batch", False),
        ("imagenet_gc", "group", "resnet50", "group", False),
        ("imagenet_gc", "resnet101,group", "resnet101", "group", False),
        ("mini_imagenet_gc", "", "resnet50", "batch", False),
        ("mini_imagenet_gc", "group", "resnet50", "group", False),
        ("mini_imagenet_ws_gc", "", "resnet50", "group", True),
        ("mini_imagenet_ws_gc", "batch", "resnet50", "batch", True),
    ],
)
def test_imagenet_nets(file, argument, name, norm, standardized):
    config = config_of(file, argument)
    validate(config)
    assert (config.model.name, config.model.norm) == (name, norm)
    assert config.model.weight_standardization == standardized
    assert config.gc.mode == ("conv" if file == "imagenet_gc" else "all")


def test_first_word_is_the_default():
    groups = {"net": ("a", "b"), "optimizer": ("x", "y")}
    assert parse_config_argument("", **groups) == ["a", "x"]
    assert parse_config_argument("y", **groups) == ["a", "y"]
    assert parse_config_argument("y,b", **groups) == ["b", "y"]
    with pytest.raises(UserError, match="are both a net; leave one out"):
        parse_config_argument("a,b", **groups)


def test_unknown_argument_is_rejected(rejected):
    error = rejected("--config", f"{CONFIGS / 'cifar100_gc.py'}:vgg12")
    assert error.startswith(
        "error: unknown config argument 'vgg12'; give at most one word of each group"
    )
    assert "net: resnet18, resnet34," in error
    assert "optimizer: sgdm, sgdw, adam" in error


def test_argument_names_the_workdir():
    for argument, folder in (
        ("", "cifar100_gc"),
        (":", "cifar100_gc"),
        (":vgg11", "cifar100_gc-vgg11"),
        (":vgg11,adam", "cifar100_gc-vgg11-adam"),
    ):
        argv = ["train", "--config", f"{CONFIGS / 'cifar100_gc.py'}{argument}"]
        assert cli.parse(argv, str).workdir == Path("runs", folder)
