"""Arguments of config files: what each stands for, and where its runs go."""

import importlib
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from train import cli, models
from train.config import validate
from train.config.argument import choose
from train.errors import UserError

CONFIGS = ROOT / "configs"
CIFAR = importlib.import_module("configs.cifar100_gc")


def config_of(file, argument):
    return importlib.import_module(f"configs.{file}").get_config(argument)


@pytest.mark.parametrize("optimizer", CIFAR.OPTIMIZERS)
def test_every_cell_of_the_papers_tables_is_a_config(optimizer):
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
def test_the_nets_of_imagenet(file, argument, name, norm, standardized):
    config = config_of(file, argument)
    validate(config)
    assert (config.model.name, config.model.norm) == (name, norm)
    assert config.model.weight_standardization == standardized
    assert config.gc.mode == ("conv" if file == "imagenet_gc" else "all")


def test_a_group_that_is_not_named_has_its_first_word():
    groups = {"net": ("a", "b"), "optimizer": ("x", "y")}
    assert choose("", **groups) == ["a", "x"]
    assert choose("y", **groups) == ["a", "y"]
    assert choose("y,b", **groups) == ["b", "y"]
    with pytest.raises(UserError, match="takes one net; leave one out"):
        choose("a,b", **groups)


def test_an_argument_that_is_not_known_is_one_line(refusal):
    error = refusal("--config", f"{CONFIGS / 'cifar100_gc.py'}:vgg12")
    assert error.startswith("error: the config file knows no 'vgg12'; of each group it takes one")
    assert "net: resnet18, resnet34," in error
    assert "optimizer: sgdm, sgdw, adam" in error


def test_runs_of_another_argument_go_to_another_folder():
    for argument, folder in (
        ("", "cifar100_gc"),
        (":", "cifar100_gc"),
        (":vgg11", "cifar100_gc-vgg11"),
        (":vgg11,adam", "cifar100_gc-vgg11-adam"),
    ):
        argv = ["train", "--config", f"{CONFIGS / 'cifar100_gc.py'}{argument}"]
        assert cli.parse(argv, "").workdir == Path("runs", folder)
