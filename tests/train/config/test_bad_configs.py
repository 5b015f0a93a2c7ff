"""Config files and values that are rejected in one line."""

import pytest

from tests.support.processes import ROOT

# Warnings of libraries on the way to an error are not tested here.
pytestmark = pytest.mark.filterwarnings("ignore")

DIGITS = ROOT / "configs" / "digits_gc.py"
START = "from train.config import default_config\ndef get_config():\n  c = default_config()\n"

# A config file, and parts of the error.
FILES = {
    "empty": ("", "there is no function get_config()"),
    "no Python": ("def get_config(:", "SyntaxError", "line 1"),
    "no text": (b"\xff\xfe\x00", "SyntaxError"),
    "without get_config": ("x = 1", "there is no function get_config()"),
    "get_config is no function": ("get_config = 3", "'int' object is not callable"),
    "a missing module": ("import nonsuch", "line 1", "No module named 'nonsuch'"),
    "returns nothing": ("def get_config(): pass", "must return an ml_collections.ConfigDict, not"),
    "returns a dict": (
        "def get_config(): return {}",
        "not dict; start from train.config.default_config",
    ),
    "raises": ("\n\ndef get_config(): raise ValueError('no luck')", "line 3: ValueError: no luck"),
    "raises lines": ("def get_config(): raise ValueError('no\\nluck')", "no luck"),
    "raises nothing": ("def get_config(): raise ValueError", "line 1: ValueError"),
    "opens a file": ("def get_config(): open('gone')", "line 1: FileNotFoundError"),
    "leaves": ("import sys\nsys.exit(0)", "line 2: SystemExit: 0"),
    "never ends": ("def get_config(): return get_config()", "RecursionError"),
    "an empty config": (
        "from ml_collections import ConfigDict\ndef get_config(): return ConfigDict()",
        "is missing; start the config from train.config.default_config()",
    ),
    "a new field": (START + "  c.speed = 1\n  return c", "speed"),
    "a value that is asked for": (
        "from ml_collections import config_dict\n" + START + "  c = config_dict.ConfigDict(c)\n"
        "  with c.unlocked(): c.seed = config_dict.required_placeholder(int)\n  return c",
        "RequiredValueError",
    ),
    "a group that is a value": (
        START + "  del c.data\n  c.data = 3\n  return c",
        "config.data is a group, not a field",
    ),
    "a value that is a group": (
        START + "  del c.seed\n  c.seed = {'x': 1}\n  return c",
        "config.seed.x is not a field; did you mean seed?",
    ),
    "a number for a text": (
        START + "  del c.precision\n  c.precision = 32\n  return c",
        "one of float32",
    ),
    "None": (START + "  del c.seed\n  c.seed = None\n  return c", "config.seed=None"),
    "too many digits": (START + "  c.seed = 10**400\n  return c", "at most 2147483647"),
    "a huge int for a float": (START + "  c.optimizer.learning_rate = 10**400\n  return c", ""),
    "a NUL": (START + "  c.data.dir = 'a\\0b'\n  return c", "config.data.dir='a\\x00b'"),
}

# An override, and a part of the error; test_schema.py has the limits of every field.
VALUES = {
    "num_steps=-1": "at least 0 and at most 2147483647",
    "num_steps=2147483648": "at least 0 and at most 2147483647",
    "num_steps=1" + "0" * 400: "at least 0 and at most 2147483647",
    "num_epochs=0": "both 0; set one of them",
    "num_epochs=2147483647": "use at most 2147483647 steps, which is",
    "precision=float16": "one of float32, bfloat16",
    "data.batch_size=12": "multiple of 8",
    "data.batch_size=4096": "1437",
    "data.batch_size=1000000000": "1437",
    "data.pad=9": "larger than the 8x8 images of digits; use at most 8",
    "data.pad=1000000000": "use at most 8",
    "data.mean=()": "one finite float32 number per channel",
    "data.mean=(0.1, 0.2, 0.3)": "data.mean has 3 value(s)",
    "data.mean=(True,)": "one finite float32 number per channel",
    "data.mean=None": "one finite float32 number per channel",
    "data.mean={'a': 1}": "one finite float32 number per channel",
    "data.mean=(1e400,)": "one finite float32 number per channel",
    "data.mean=(1e300,)": "one finite float32 number per channel",
    "data.std=(0,)": "one float32 number above 0 per channel",
    "data.std=(1e-300,)": "one float32 number above 0 per channel",
    "data.name=cifar1000": "is not 'digits' or a TFDS data set",
    "data.name=zur\nich": "printable text",
    "data.name=\udcff": "printable text",
    "model.name=resnet": "one of convnet, resnet8",
    "model.name=": "one of convnet, resnet8",
    "optimizer.name=adamm": "one of sgd, momentum",
    "optimizer.name=%s": "one of sgd, momentum",
    "optimizer.name=" + "x" * 5000: "one of sgd, momentum",
    "optimizer.learning_rate=-1": "learning_rate=-1.0",
    "optimizer.learning_rate=nan": "above 0",
    "optimizer.learning_rate=1e400": "a float32 number above 0 and at most 1.7e+38",
    "optimizer.learning_rate=1e300": "a float32 number above 0 and at most 1.7e+38",
    "optimizer.eps=1e-300": "a float32 number above 0 and at most 1.7e+38",
    "optimizer.weight_decay=inf": "at least 0 and at most 1.7e+38",
    "optimizer.b2=0.99999999999": "a float32 number at least 0 and below 1",
    "schedule.warmup=1": "at least 0 and below 1",
    "gc.mode=half": "one of none, all, conv",
}


@pytest.mark.parametrize("case", FILES)
def test_bad_config_file_is_rejected(case, tmp_path, rejected):
    source, *expected = FILES[case]
    file = tmp_path / "broken.py"
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    error = rejected("--config", file)
    assert all(part in error for part in expected), error
    assert len(error) < 1000


@pytest.mark.parametrize("override", VALUES)
def test_bad_value_is_rejected(override, rejected):
    error = rejected("--config", DIGITS, f"--config.{override}")
    assert f"config.{override.partition('=')[0]}" in error
    assert VALUES[override] in error
    assert len(error) < 1000


def test_too_many_rate_drops_are_rejected(rejected):
    steps = ("--config.schedule.name=step", "--config.schedule.step_epochs=1e-30")
    error = rejected("--config", DIGITS, *steps)
    assert "config.schedule.step_epochs=1e-30 changes the rate more than 1000 times" in error
