"""Values of other types than Python's in a config: NumPy's are converted, others are one line."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from train import cli
from train.config import default_config, flatten, validate
from train.errors import UserError

pytestmark = pytest.mark.filterwarnings("ignore")

# A statement of a config file, the field, and its value afterwards.
ACCEPTED = [
    ("c.seed = np.int64(3)", "seed", 3),
    ("c.seed = np.uint8(3)", "seed", 3),
    ("c.seed = np.array(3)", "seed", 3),
    ("c.data.batch_size = jnp.int32(16)", "data.batch_size", 16),
    ("c.update(num_epochs=np.int32(2))", "num_epochs", 2),
    ("c.optimizer.learning_rate = np.float32(0.1)", "optimizer.learning_rate", 0.10000000149011612),
    ("c.optimizer.learning_rate = np.float64(0.1)", "optimizer.learning_rate", 0.1),
    ("c.optimizer.learning_rate = np.float16(0.5)", "optimizer.learning_rate", 0.5),
    ("c.optimizer.learning_rate = np.int64(1)", "optimizer.learning_rate", 1.0),
    ("c.optimizer.learning_rate = 1", "optimizer.learning_rate", 1.0),
    ("c.optimizer.lookahead.step_size = 1", "optimizer.lookahead.step_size", 1.0),
    ("c.data.flip = np.bool_(True)", "data.flip", True),
    ("c.data.mean = np.array([0.25, 0.5])", "data.mean", (0.25, 0.5)),
    ("c.data.mean = (np.float32(0.25),)", "data.mean", (0.25,)),
    ("c.data.mean = [np.float64(0.25), np.int8(1)]", "data.mean", (0.25, 1)),
    ("c.data.classes = np.arange(3)", "data.classes", (0, 1, 2)),
    ("c.data.mean = [0.25]", "data.mean", (0.25,)),
    ("c.data.mean = 'measure'", "data.mean", ("measure",)),
    ("c.data.name = np.str_('digits')", "data.name", "digits"),
    ("c.data.dir = Path('/tmp/x')", "data.dir", "/tmp/x"),
    ("c.init_from = Path('x')", "init_from", "x"),
]
REJECTED = [
    ("c.data.name = b'digits'", "config.data.name=b'digits' is not allowed"),
    ("c.data.name = np.bytes_('digits')", "config.data.name=b'digits' is not allowed"),
    ("c.data.std = 'measured'", "config.data.std=('measured',) is not allowed"),
    ("c.data.mean = {0.5}", "config.data.mean={0.5} is not allowed"),
    ("c.data.classes = frozenset({1, 2})", "config.data.classes=frozenset({1, 2}) is not"),
    ("c.data.classes = range(3)", "config.data.classes=range(0, 3) is not"),
    ("c.seed = np.float64(3.5)", "config.seed=3.5 is not allowed; it must be an integer"),
    ("c.seed = np.uint64(2**63)", "config.seed=9223372036854775808 is not allowed"),
    ("c.seed = np.bool_(True)", "config.seed=True is not allowed"),
    ("c.seed = {3}", "config.seed={3} is not allowed"),
    ("c.seed = c", "RecursionError"),
    ("c.optimizer.learning_rate = Fraction(1, 10)", "learning_rate=Fraction(1, 10) is not"),
    ("c.optimizer.learning_rate = Decimal('0.1')", "learning_rate=Decimal('0.1') is not"),
    ("c.optimizer.learning_rate = np.complex64(1)", "learning_rate=(1+0j) is not allowed"),
    ("c.optimizer.learning_rate = np.float64('nan')", "learning_rate=nan is not allowed"),
    ("c.optimizer.learning_rate = np.array([0.1])", "learning_rate=(0.1,) is not allowed"),
    ("c.data.mean = np.zeros((1, 1))", "config.data.mean=((0.0,),) is not allowed"),
    ("c.data.flip = np.int64(1)", "config.data.flip=1 is not allowed; it must be True or False"),
]
START = (
    "import numpy as np, jax.numpy as jnp\nfrom pathlib import Path\n"
    "from fractions import Fraction\nfrom decimal import Decimal\n"
    "from train.config import default_config\ndef get_config():\n"
    "  c = default_config()\n  {}\n  return c\n"
)


@pytest.mark.parametrize(("statement", "field", "expected"), ACCEPTED)
def test_numpy_value_is_converted(statement, field, expected, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(START.format(statement), encoding="utf-8")
    config = cli.parse(["train", "--config", str(file)], str).config
    value = flatten(config)[field]
    assert value == expected
    assert type(value) is type(expected)
    validate(config)
    assert json.loads(json.dumps(flatten(config)))


@pytest.mark.parametrize(("statement", "expected"), REJECTED)
def test_other_value_is_one_line(statement, expected, tmp_path, rejected):
    file = tmp_path / "config.py"
    file.write_text(START.format(statement), encoding="utf-8")
    assert expected in rejected("--config", file)


@pytest.mark.parametrize("rate", ["0.5", "1e-3", "2"])
def test_flag_takes_float_if_file_has_int(rate, tmp_path):
    file = tmp_path / "config.py"
    file.write_text(START.format("c.optimizer.learning_rate = 1"), encoding="utf-8")
    argv = ["train", "--config", str(file), f"--config.optimizer.learning_rate={rate}"]
    assert cli.parse(argv, str).config.optimizer.learning_rate == float(rate)


def test_config_of_a_program_is_converted():
    config = default_config()
    config.seed, config.optimizer.learning_rate = np.int64(3), jnp.float32(0.5)
    config.data.dir = Path("x")
    validate(config.lock())
    assert (config.seed, config.optimizer.learning_rate, config.data.dir) == (3, 0.5, "x")
    assert config.is_locked
    config = default_config()
    config.data.mean = {0.5}
    with pytest.raises(UserError, match=r"config\.data\.mean=\{0\.5\} is not allowed"):
        validate(config)


def test_study_converts_values(rejected, tmp_path):
    from train import study

    file = tmp_path / "study.py"
    file.write_text(
        "import numpy as np\nfrom tests.support.studying import tiny\n"
        "def get_config():\n  c = tiny()\n  c.base.data.batch_size = np.int64(16)\n"
        "  c.base.data.mean = {0.5}\n  return c\n",
        encoding="utf-8",
    )
    error = rejected("--config", file, command=study.main)
    assert "config.base.data.mean={0.5} is not allowed" in error
