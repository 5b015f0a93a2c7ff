"""`python -m train.aot`: the cost of a training step on TPUs, from their compiler, without a TPU.

The step is that of the trainer, for a batch from the host, sharded over all devices of the
topology. It is compiled with the GC of the config and without GC. Nothing is run, and the data set
need not be prepared.
"""

import copy
import datetime
import importlib.metadata
import importlib.util
import os
import platform
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from rich.table import Table

from train import cli
from train.config import validate
from train.config.paths import local_path
from train.errors import UserError, describe_error, short_repr, truncate
from train.output.files import write_json
from train.runtime import utf8
from train.runtime.terminal import make_console

USAGE = """\
usage: python -m train.aot --config FILE --topology NAME [--json FILE] [--config.FIELD=VALUE ...]

Compiles the training step of a config for a TPU slice, with GC and without, on a machine without a
TPU. Prints the compiler's figures for one device: FLOPs, bytes, memory, collectives.
Needs Linux and libtpu: pip install -e '.[tpu-aot]'

  --topology=v5e:16x16                the TPU generation, and the chips along each side of the slice
  --json=FILE                         also write the figures to FILE
  --config.data.batch_size=1024       the batch over all devices; a multiple of their number

Exit status: 0 finished; 2 an error that the user can fix, in one line on stderr.
"""

_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast)"
    r"(?:-start)?\("
)
_PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax")
_TABLE_ROWS = {
    "flops": "FLOPs",
    "bytes_accessed": "bytes read and written",
    "peak_bytes_per_device": "bytes of memory reserved",
    "all_reduces": "all-reduces",
    "other_collectives": "other collectives",
    "compile_seconds": "CPU seconds to compile",
}


def main(argv: list[str]) -> int:
    """Compile the step of a config and print its cost; return the exit status."""
    values = flags.FlagValues()
    topology = flags.DEFINE_string("topology", None, "", flag_values=values)
    json = flags.DEFINE_string("json", None, "", flag_values=values)
    config, name = cli.parse_config(argv, lambda: USAGE, values)
    validate(config)
    if not topology.value:
        raise UserError("--topology is missing; for example --topology v5e:2x2")
    json_file = None if json.value is None else local_path("--json", json.value)
    if json_file is not None:
        _check_writable(json_file)
    devices = tpu_devices(topology.value)
    report = {"config": name, "topology": topology.value}
    report |= compare_steps(config, devices) | _date_and_versions()
    print_table(report)
    if json_file is not None:
        write_json(json_file, report)
    return 0


def tpu_devices(topology: str) -> Sequence[Any]:
    """Return the devices of a TPU slice, to compile for.

    Args:
      topology: The generation and the chips along each side, such as `v5e:16x16`.

    Raises:
      UserError: If there is no such slice, or libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "libtpu, the TPU compiler, is not installed; on Linux, run "
            "pip install -e '.[tpu-aot]' in this repository, or "
            "pip install 'optax-gc[tpu-aot]' elsewhere"
        )
    # These settings keep libtpu from searching for a TPU and from logging that it found none.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    import jax  # imported late, so that a wrong command line fails without this second
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # to measure the compile time
    try:
        devices = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    except Exception as error:  # libtpu raises many types
        raise UserError(
            f"--topology={short_repr(topology)} is not a TPU slice: {describe_error(error)}; give "
            "a generation and its chips, such as v5e:2x2, v5e:16x16, v6e:4x4 or v5p:4x4x4"
        ) from error
    if any(getattr(device, "core_on_chip", 0) for device in devices):
        raise UserError(
            f"--topology={short_repr(topology)} has several devices per chip, for which JAX cannot "
            "make a mesh; use a newer generation, such as v5e:2x2, v6e:4x4 or v5p:4x4x4"
        )
    return devices


def compare_steps(config: ConfigDict, devices: Sequence[Any]) -> dict[str, Any]:
    """Return the figures of the step of `config` and, under `without_gc`, of a step without GC.

    Raises:
      UserError: If the config does not fit its data set or the devices, or the step needs more
        memory than a device has.
    """
    without_gc = copy.deepcopy(config)
    without_gc.gc.mode = "none"
    print("compiling the training step for the TPUs ...")
    with_gc = compile_step(config, devices)
    baseline = with_gc if config.gc.mode == "none" else compile_step(without_gc, devices)
    return {
        "device_kind": devices[0].device_kind,
        "devices": len(devices),
        "model": config.model.name,
        "data": config.data.name,
        "batch_size": config.data.batch_size,
        "batch_per_device": config.data.batch_size // len(devices),
        "precision": config.precision,
        "remat": config.model.remat,
        "gc_mode": config.gc.mode,
        **with_gc,
        "without_gc": baseline,
        "bytes_ratio": with_gc["bytes_accessed"] / baseline["bytes_accessed"],
    }


def compile_step(config: ConfigDict, devices: Sequence[Any]) -> dict[str, Any]:
    """Compile the training step of `config` for the devices; return the figures of one device.

    Raises:
      UserError: As in `compare_steps`.
    """
    import jax  # imported late, as in `tpu_devices`

    from train import data, models
    from train.data import batch, inputs
    from train.engine import optimizers, plan, state, step, streaming
    from train.runtime import mesh

    sharding = mesh.make_sharding(config, devices)
    dataset = data.describe(config)
    model = models.build(config, dataset.num_classes, dataset.input_shape)
    # The length of an epoch only affects constants of the learning-rate schedule. If the data set
    # is not prepared, an epoch is taken to have one batch.
    run_plan = plan.make(config, dataset.num_train or config.data.batch_size)
    schedule = optimizers.make_schedule(config, run_plan)
    tx = optimizers.build(config, schedule, models.fan_in_axes(model))
    abstract_state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding.replicated),
        jax.eval_shape(lambda: state.create(model, tx, config.seed)),
    )
    abstract_batch = batch.abstract_batch(
        config.data.batch_size, dataset.input_shape, sharding.batch, inputs.dtype(config)
    )
    functions = step.make(config, model, tx, schedule, config.seed)
    train_step = streaming.jit_train_step(functions, sharding)
    lowered = train_step.lower(abstract_state, abstract_batch)
    start = time.process_time()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise _compile_error(error, config, len(devices)) from error
    seconds = time.process_time() - start
    return {**_cost(compiled), "compile_seconds": round(seconds, 1)}


def _cost(compiled: Any) -> dict[str, Any]:
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    # All memory that is reserved while the step runs. `peak_memory_in_bytes` can be less than the
    # temporaries alone, because it counts neither the program nor the gaps between buffers.
    reserved = (
        memory.generated_code_size_in_bytes
        + memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    collectives = _COLLECTIVE.findall(compiled.as_text())
    all_reduces = collectives.count("all-reduce")
    return {
        "flops": int(cost["flops"]),
        "bytes_accessed": int(cost["bytes accessed"]),
        "peak_bytes_per_device": reserved,
        "all_reduces": all_reduces,
        "other_collectives": len(collectives) - all_reduces,
    }


def _compile_error(error: Exception, config: ConfigDict, num_devices: int) -> UserError:
    if "RESOURCE_EXHAUSTED" in str(error):
        return UserError(
            f"config.data.batch_size={config.data.batch_size} on {num_devices} devices does not "
            f"fit in their memory ({truncate(str(error))}); use a smaller batch, or try "
            "--config.model.remat=True or --config.precision=bfloat16"
        )
    return UserError(f"the step does not compile: {describe_error(error)}; try another --topology")


def print_table(report: dict[str, Any]) -> None:
    """Print the figures with and without GC, and their ratios."""
    print(
        f"{report['model']} on {report['data']}, batch {report['batch_size']:,} on "
        f"{report['devices']} x {report['device_kind']}, {report['batch_per_device']:,} per device"
    )
    table = Table()
    table.add_column("one step, per device")
    for column in (f"GC {report['gc_mode']}", "without GC", "ratio"):
        table.add_column(column, justify="right")
    for name, title in _TABLE_ROWS.items():
        with_gc, without_gc = report[name], report["without_gc"][name]
        show_ratio = without_gc and name != "compile_seconds"
        ratio = f"{with_gc / without_gc:.4f}" if show_ratio else ""
        table.add_row(title, f"{with_gc:,}", f"{without_gc:,}", ratio)
    make_console(soft_wrap=False).print(table)


def _date_and_versions() -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | versions,
    }


def _check_writable(file: Path) -> None:
    """Raise UserError if `file` cannot be written, before minutes of compilation."""
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise UserError(
            f"--json={short_repr(str(file))} cannot be written: {error.strerror}; give a file in "
            "an existing folder"
        ) from None


if __name__ == "__main__":
    utf8.enable_utf8_mode()
    cli.run(main)
