"""The step compiles for TPUs without a TPU; GC adds no collective and few bytes."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT, names_only_phases
from train import aot, data
from train.config import default_config
from train.errors import UserError

# Warnings of libraries on the way to an error are not tested here.
pytestmark = pytest.mark.filterwarnings("ignore")


DIGITS = ("--config", ROOT / "configs" / "digits_gc.py")
DIGITS_ON_4 = (*DIGITS, "--topology", "v5e:2x2")
CIFAR10 = (
    "--config.data.name=cifar10",
    "--config.data.mean=(0.5, 0.5, 0.5)",
    "--config.data.std=(0.5, 0.5, 0.5)",
)
HAS_CUDA = any(importlib.util.find_spec(f"jax_cuda{v}_plugin") for v in (12, 13))
HAS_LIBTPU = importlib.util.find_spec("libtpu") is not None
needs_libtpu = pytest.mark.skipif(not HAS_LIBTPU, reason="libtpu is not installed")

# Each entry: the command line, and a part of the error message.
ERRORS = {
    "no config": ((), "--config is missing"),
    "no topology": (DIGITS, "--topology is missing; for example --topology v5e:2x2"),
    "too many GPUs": ((*DIGITS, "--topology=h100:16"), "must be h100:N with 1 to 8 GPUs"),
    "no number of GPUs": ((*DIGITS, "--topology=a100"), "--topology='a100' must be a100:N"),
    "GPUs as a grid": ((*DIGITS, "--topology=h200:2x2"), "such as h200:8"),
    "empty topology": ((*DIGITS, "--topology="), "--topology is missing"),
    "work folder": ((*DIGITS_ON_4, "--workdir=w"), "Unknown command line flag 'workdir'"),
    "cluster": ((*DIGITS_ON_4, "--distributed"), "Unknown command line flag 'distributed'"),
    "unknown field": ((*DIGITS_ON_4, "--config.speed=1"), "config.speed is not a field"),
    "invalid value": ((*DIGITS_ON_4, "--config.gc.mode=half"), "one of none, all, conv"),
    "JSON file in no folder": (
        (*DIGITS_ON_4, "--json=none/x.json"),
        "--json='none/x.json' cannot be written: No such file or directory; give a file in an "
        "existing folder",
    ),
    "folder as JSON file": ((*DIGITS_ON_4, "--json=."), "--json='.' cannot be written: it is a"),
}
# The same for errors that need the compiler.
COMPILER_ERRORS = {
    "unknown generation": ((*DIGITS, "--topology=v9z:2x2"), "as v5e:2x2, v5e:16x16, v6e:4x4"),
    "half a host": ((*DIGITS, "--topology=v5e:3x7"), "--topology='v5e:3x7' is neither a TPU slice"),
    "two devices per chip": ((*DIGITS, "--topology=v3:2x2"), "has several devices per chip"),
    "indivisible batch": (
        (*DIGITS_ON_4, "--config.data.batch_size=6"),
        "config.data.batch_size=6 is not divisible by the 4 devices; use a multiple of 4",
    ),
    "batch larger than the data": (
        (*DIGITS_ON_4, "--config.data.batch_size=4096"),
        "1437 training examples",
    ),
    "unknown data set": ((*DIGITS_ON_4, "--config.data.name=blobs"), "config.data.name='blobs' is"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_user_error_is_one_line(case, rejected):
    arguments, expected = ERRORS[case]
    assert expected in rejected(*arguments, command=aot.main)


@needs_libtpu
@pytest.mark.parametrize("case", COMPILER_ERRORS)
def test_compiler_error_is_one_line(case, tmp_path):
    arguments, expected = COMPILER_ERRORS[case]
    process = run_aot(tmp_path, *arguments)
    assert process.returncode == 2, process.stderr
    assert names_only_phases(process.stdout)
    assert process.stderr.startswith("error: ")
    assert expected in process.stderr
    assert process.stderr.count("\n") == 1


@pytest.mark.skipif(HAS_LIBTPU, reason="libtpu is installed")
def test_missing_libtpu_names_the_package(rejected):
    error = rejected(*DIGITS_ON_4, command=aot.main)
    assert "libtpu, the TPU compiler, is not installed" in error
    assert "pip install -e '.[tpu-aot]'" in error


@pytest.mark.skipif(HAS_CUDA, reason="JAX's CUDA plugin is installed")
def test_missing_cuda_plugin_names_the_package(rejected):
    error = rejected(*DIGITS, "--topology=h100:8", command=aot.main)
    assert "JAX's CUDA plugin, which has the GPU compiler, is not installed" in error
    assert "pip install -e '.[gpu-aot]'" in error


@pytest.mark.skipif(not HAS_CUDA, reason="JAX's CUDA plugin is not installed")
@pytest.mark.parametrize("topology", ["h100:1", "a100:8"])
def test_gpu_program_is_counted(topology, tmp_path):
    arguments = ("--topology", topology, "--config.data.batch_size=64", "--json=aot.json")
    process = run_aot(tmp_path, *DIGITS, *arguments)
    assert process.returncode == 0, process.stderr
    report = json.loads((tmp_path / "aot.json").read_text())
    plain = report["without_gc"]
    assert report["all_reduces"] == plain["all_reduces"]
    assert (report["all_reduces"] > 0) == (report["devices"] > 1)
    assert plain["kernels"] < report["kernels"] < 2 * plain["kernels"]
    assert 1 < report["bytes_ratio"] < 1.5
    assert 0 < plain["estimated_ms"] < 10


def test_help_shows_the_usage(exit_status, capsys):
    assert exit_status("--help", command=aot.main) == 0
    assert "usage: python -m train.aot --config FILE --topology NAME" in capsys.readouterr().out


@needs_libtpu
def test_gc_adds_few_bytes(tmp_path):
    """Runs the command for CIFAR-10, which is not prepared, and reads its table and JSON."""
    process = run_aot(
        tmp_path, *DIGITS_ON_4, *CIFAR10, "--config.data.batch_size=1024", "--json=aot.json"
    )
    assert (process.returncode, process.stderr) == (0, "")
    title = "convnet on cifar10, batch 1,024 on 4 x TPU v5 lite, 256 per device"
    assert title in process.stdout
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
    """Return the forward FLOPs of the convolutions for a 32x32 image; the last has stride 2."""
    return 2 * 9 * (32**2 * (3 * 32 + 32 * 64) + 16**2 * 64 * 128)


@needs_libtpu
def test_out_of_memory_is_one_line(tmp_path):
    process = run_aot(tmp_path, *DIGITS_ON_4, *CIFAR10, "--config.data.batch_size=40000000")
    assert process.returncode == 2
    assert names_only_phases(process.stdout)
    expected = "config.data.batch_size=40000000 on 4 devices does not fit in their memory"
    assert expected in process.stderr
    assert process.stderr.count("\n") == 1


def run_aot(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "train.aot", *map(str, arguments)],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TFDS_DATA_DIR": "nowhere"},
        capture_output=True,
        encoding="utf-8",
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
def test_describe_unprepared_data_set(name, image_size, expected, tmp_path):
    assert data.describe(data_config(name, image_size, tmp_path)) == expected


@pytest.mark.skipif(
    not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "cifar100").is_dir(),
    reason="needs CIFAR-100, prepared by TFDS in the folder TFDS_DATA_DIR",
)
def test_describe_prepared_data_set():
    config = data_config("cifar100", 0, os.environ["TFDS_DATA_DIR"])
    assert data.describe(config) == (100, (32, 32, 3), 50_000)


def test_describe_rejects_unsuitable_data_set(tmp_path):
    with pytest.raises(UserError, match="images of shape"):
        data.describe(data_config("imagenet2012", 0, tmp_path))
    with pytest.raises(UserError, match=r"imdb_reviews is .* image classification"):
        data.describe(data_config("imdb_reviews", 0, tmp_path))
    config = data_config("cifar100", 0, tmp_path)
    config.data.mean = (0.5,)
    with pytest.raises(UserError, match=r"config\.data\.mean has 1 .* have 3 channel"):
        data.describe(config)


def data_config(name, image_size, folder):
    config = default_config()
    config.data.name, config.data.image_size, config.data.dir = name, image_size, str(folder)
    channels = 1 if name == "digits" else 3
    config.data.mean = config.data.std = (0.5,) * channels
    return config
