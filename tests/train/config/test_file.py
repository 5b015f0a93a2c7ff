"""Config files: where they may be, and what they may import."""

import pytest

from tests.support.processes import ROOT
from train import cli
from train.config.file import load_config_file

START = "from train.config import default_config\n"


@pytest.mark.parametrize("folder", ["a:b", "12:30:00", "c:/d:", "plain"])
@pytest.mark.parametrize("argument", ["", ":vgg11,adam"])
def test_path_may_contain_colons(folder, argument, tmp_path):
    file = tmp_path / folder / "cifar.py"
    file.parent.mkdir(parents=True)
    file.write_text("from configs.cifar100_gc import get_config")
    command = cli.parse(["train", "--config", f"{file}{argument}"], str)
    assert command.config.model.name == ("vgg11" if argument else "resnet18")
    assert command.workdir.name == ("cifar-vgg11-adam" if argument else "cifar")


@pytest.mark.parametrize(
    "source",
    [
        "from settings_beside import NUM_STEPS\n" + START,
        START + "import settings_beside\nNUM_STEPS = settings_beside.NUM_STEPS\n",
        START + "def steps():\n  import settings_beside\n  return settings_beside.NUM_STEPS\n",
    ],
)
@pytest.mark.parametrize("is_relative", [True, False])
def test_config_imports_module_beside_it(source, is_relative, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "settings_beside.py").write_text("NUM_STEPS = 7")
    steps = "steps()" if "def steps" in source else "NUM_STEPS"
    text = f"{source}def get_config():\n  c = default_config()\n  c.num_steps = {steps}\n  return c"
    file = tmp_path / "mine" / "config.py"
    file.write_text(text)
    name = "mine/config.py" if is_relative else str(file)
    assert load_config_file(name).num_steps == 7


def test_configs_load_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_config_file(str(ROOT / "configs" / "digits.py")).gc.mode == "none"
