"""The step compiles for TPUs that are not here, and GC costs it no collective and few bytes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from train import aot, data
from train.config import default_config
from train.errors import UserError

# What libraries warn of on the way to an error is not what is tested here.
pytestmark = pytest.mark.filterwarnings("ignore")


DIGITS = ("--config", ROOT / "configs" / "digits_gc.py")
SMALLEST = (*DIGITS, "--topology", "v5e:2x2")
HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None
needs_libtpu = pytest.mark.skipif(not HAS_LIBTPU, reason="libtpu is not installed")

# What is typed, and what the error says.
MISTAKES = {
    "no config": ((), "--config is missing"),
    "no topology": (DIGITS, "--topology is missing; for example --topology v5e:2x2"),
    "an empty topology": ((*DIGITS, "--topology="), "--topology is missing"),
    "a work folder": ((*SMALLEST, "--workdir=w"), "Unknown command line flag 'workdir'"),
    "a cluster": ((*SMALLEST, "--distributed"), "Unknown command line flag 'distributed'"),
    "an unknown field": ((*SMALLEST, "--config.speed=1"), "config.speed is not a field"),
    "a bad value": ((*SMALLEST, "--config.gc.mode=half"), "one of none, all, conv"),
    "a JSON file nowhere": (
        (*SMALLEST, "--json=none/x.json"),
        "--json='none/x.json' cannot be written: No such file or directory; give it a file in a "
        "folder that is there",
    ),
    "a folder as JSON file": ((*SMALLEST, "--json=."), "--json='.' cannot be written: it is a"),
}
# The same, once there is a compiler.
MISTAKES_OF_COMPILING = {
    "an unknown generation": ((*DIGITS, "--topology=v9z:2x2"), "as v5e:2x2, v5e:16x16, v6e:4x4"),
    "half a host": ((*DIGITS, "--topology=v5e:3x7"), "--topology='v5e:3x7' is not a TPU slice"),
    "two devices a chip": ((*DIGITS, "--topology=v3:2x2"), "has several devices a chip"),
    "a batch that does not divide": (
        (*SMALLEST, "--config.data.batch_size=6"),
        "config.data.batch_size=6 does not divide over the 4 devices; use a multiple of 4",
    ),
    "a batch too large": ((*SMALLEST, "--config.data.batch_size=4096"), "1437 training examples"),
    "no data set": ((*SMALLEST, "--config.data.name=blobs"), "neither 'digits' nor a TFDS data"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_and_status_2(mistake, refusal):
    arguments, expected = MISTAKES[mistake]
    assert expected in refusal(*arguments, command=aot.main)


@needs_libtpu
@pytest.mark.parametrize("mistake", MISTAKES_OF_COMPILING)
def test_so_is_a_mistake_that_the_compiler_finds(mistake, tmp_path):
    arguments, expected = MISTAKES_OF_COMPILING[mistake]
    done = real_command(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(HAS_LIBTPU, reason="libtpu is installed")
def test_without_libtpu_it_says_what_to_install(refusal):
    error = refusal(*SMALLEST, command=aot.main)
    assert "libtpu, the TPU's compiler, is not installed" in error
    assert "pip install -e '.[tpu-aot]'" in error
    assert "pip install 'optax-gc[tpu-aot]'" in error


def test_help_shows_the_usage(status_of, capsys):
    assert status_of("--help", command=aot.main) == 0
    assert "usage: python -m train.aot --config FILE --topology NAME" in capsys.readouterr().out


@needs_libtpu
def test_gc_costs_no_collective_and_few_bytes(tmp_path):
    """CIFAR-10's images, which need not be there; the real command, its table and its JSON."""
    done = real_command(
        tmp_path,
        *SMALLEST,
        "--config.data.name=cifar10",
        "--config.data.mean=(0.5, 0.5, 0.5)",
        "--config.data.std=(0.5, 0.5, 0.5)",
        "--config.data.batch_size=1024",
        "--json=aot.json",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "convnet on cifar10, batch 1,024 on 4 x TPU v5 lite, 256 each" in done.stdout
    report = json.loads((tmp_path / "aot.json").read_text())
    plain = report["without_gc"]
    assert (report["devices"], report["topology"], report["config"]) == (4, "v5e:2x2", "digits_gc")
    assert (report["gc_mode"], report["batch_per_device"]) == ("all", 256)
    assert report["versions"].keys() >= {"jax", "jaxlib", "libtpu"}
    # The gradients and the statistics of batch normalization must be summed over the devices.
    assert 0 < report["all_reduces"] <= plain["all_reduces"]
    assert report["other_collectives"] <= plain["other_collectives"]
    assert 1.0 < report["bytes_ratio"] <= 1.01
    assert report["bytes_ratio"] == report["bytes_accessed"] / plain["bytes_accessed"]
    assert plain["flops"] > 2 * 256 * convnet_flops()
    assert report["flops"] == pytest.approx(plain["flops"], rel=0.01)
    assert 256 * 32 * 32 * 32 * 4 < plain["peak_bytes_per_device"] < 16e9


def convnet_flops():
    """Of the convolutions' forward pass for one image of 32x32, the last with stride 2."""
    return 2 * 9 * (32**2 * (3 * 32 + 32 * 64) + 16**2 * 64 * 128)


@needs_libtpu
def test_too_large_a_step_is_one_line(tmp_path):
    done = real_command(
        tmp_path,
        *SMALLEST,
        "--config.data.name=cifar10",
        "--config.data.mean=(0.5, 0.5, 0.5)",
        "--config.data.std=(0.5, 0.5, 0.5)",
        "--config.data.batch_size=40000000",
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "config.data.batch_size=40000000 on 4 devices does not fit in their mem" in done.stderr
    assert done.stderr.count("\n") == 1


def real_command(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "train.aot", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": "nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "image_size", "expected"),
    [
        ("digits", 0, (10, (8, 8, 1), 1437)),
        ("cifar100", 0, (100, (32, 32, 3), None)),
        ("imagenet2012", 224, (1000, (224, 224, 3), None)),
    ],
)
def test_a_data_set_is_described_without_being_there(name, image_size, expected, tmp_path):
    assert data.describe(of(name, image_size, tmp_path)) == expected


@pytest.mark.skipif(
    not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "cifar100").is_dir(),
    reason="needs CIFAR-100, prepared by TFDS, in the folder that TFDS_DATA_DIR names",
)
def test_a_prepared_data_set_says_how_many_examples_it_has():
    config = of("cifar100", 0, os.environ["TFDS_DATA_DIR"])
    assert data.describe(config) == (100, (32, 32, 3), 50_000)


def test_what_does_not_fit_the_description_is_refused(tmp_path):
    with pytest.raises(UserError, match="images of shape"):
        data.describe(of("imagenet2012", 0, tmp_path))
    with pytest.raises(UserError, match="is no image classification"):
        data.describe(of("imdb_reviews", 0, tmp_path))
    config = of("cifar100", 0, tmp_path)
    config.data.mean = (0.5,)
    with pytest.raises(UserError, match=r"config\.data\.mean has 1 value.* have 3 channel"):
        data.describe(config)


def of(name, image_size, folder):
    config = default_config()
    config.data.name, config.data.image_size, config.data.dir = name, image_size, str(folder)
    channels = 1 if name == "digits" else 3
    config.data.mean = config.data.std = (0.5,) * channels
    return config
