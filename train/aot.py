"""`python -m train.aot`: the cost of a training step on TPUs or GPUs that are not there.

The step is that of the trainer, for a batch from the host, sharded over all devices of the
topology. It is compiled with the GC of the config and without GC. Nothing is run, and the data set
need not be prepared.
"""

import copy
import datetime
import importlib.metadata
import platform
import re
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from absl import flags
from ml_collections import ConfigDict
from rich.table import Table

from train import cli
from train.config import validate
from train.errors import UserError, describe_error, truncate
from train.output.files import write_json
from train.runtime import hlo_cost, topologies, utf8
from train.runtime.terminal import make_console
from train.runtime.topologies import Gpu

USAGE = """\
usage: python -m train.aot --config FILE --topology NAME [--json FILE] [--config.FIELD=VALUE ...]

Compiles the training step of a config for a TPU slice or for GPUs, with GC and without, on a
machine that has none. Prints figures for one device: of a TPU FLOPs, bytes, memory and collectives;
of a GPU kernels, bytes, memory, collectives and an estimate of the time.
Needs Linux, and the compiler: python -m pip install -e '.[tpu-aot]', or '.[gpu-aot]'

  --topology=v5e:16x16                the TPU generation, and the chips along each side of the slice
  --topology=h100:8                   a100, h100 or h200, and the number of GPUs of one host
  --json=FILE                         also write the figures to FILE
  --config.data.batch_size=1024       the batch over all devices; a multiple of their number

Exit status: 0 finished; 2 an error that the user can fix, in one line on stderr.
"""

_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast)"
    r"(?:-start)?\("
)
_PACKAGES = ("jax", "jaxlib", "libtpu", "jax-cuda13-plugin", "flax", "optax")
ReadCost = Callable[[Any], dict[str, Any]]
"""Returns the figures of a compiled program."""
_TABLE_ROWS = {
    "flops": "FLOPs",
    "kernels": "kernels launched",
    "bytes_accessed": "bytes read and written",
    "copies": "kernels that only copy",
    "copied_bytes": "bytes of these",
    "estimated_ms": "estimated milliseconds",
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
        raise UserError("--topology is missing; for example --topology v5e:2x2 or h100:1")
    json_file = None if json.value is None else cli.output_file("--json", json.value)
    if gpus := topologies.parse_gpus(topology.value):
        gpu, count = gpus
        devices = topologies.gpu_devices(gpu, count)
        read_cost: ReadCost = partial(gpu_cost, gpu)
    else:
        devices, read_cost = topologies.tpu_devices(topology.value), tpu_cost
    report = {"config": name, "topology": topology.value}
    report |= compare_steps(config, devices, read_cost) | _date_and_versions()
    print_table(report)
    if json_file is not None:
        write_json(json_file, report)
    return 0


def compare_steps(
    config: ConfigDict, devices: Sequence[Any], read_cost: ReadCost
) -> dict[str, Any]:
    """Return the figures of the step of `config` and, under `without_gc`, of a step without GC.

    Raises:
      UserError: If the config does not fit its data set or the devices, or the step needs more
        memory than a device has.
    """
    without_gc = copy.deepcopy(config)
    without_gc.gc.mode = "none"
    print("compiling the training step ...")
    with_gc = compile_step(config, devices, read_cost)
    has_gc = config.gc.mode != "none"
    baseline = compile_step(without_gc, devices, read_cost) if has_gc else with_gc
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


def compile_step(config: ConfigDict, devices: Sequence[Any], read_cost: ReadCost) -> dict[str, Any]:
    """Compile the training step of `config` for the devices; return the figures of one device.

    Raises:
      UserError: As in `compare_steps`.
    """
    import jax  # imported late, so that a wrong command line fails without this second

    from train import data, tasks
    from train.data import standardization
    from train.data.standardization import Standardization
    from train.engine import optimizers, plan, schedules, state, step, streaming
    from train.runtime import mesh

    sharding = mesh.make_sharding(config, devices)
    dataset = data.describe(config)
    if standardization.is_requested(config):  # constants, whose values do not change the cost
        channels = (0.5,) * dataset.input_shape[-1]
        config = standardization.fill_in(config, Standardization(channels, channels))
    task = tasks.build(config, dataset)
    # The length of an epoch only affects constants of the learning-rate schedule. If the data set
    # is not prepared, an epoch is taken to have one batch.
    run_plan = plan.make(config, dataset.num_train or config.data.batch_size)
    schedule = schedules.make_schedule(config, run_plan)
    optimizer = optimizers.build(config, schedule, task.fan_in_axes(), task.last_layer)
    abstract_state = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding.replicated),
        jax.eval_shape(lambda: state.create(task.init, task.metrics, optimizer, config.seed)),
    )
    abstract_batch = data.abstract_training_batch(config, dataset.input_shape, sharding.batch)
    functions = step.make(config, task, optimizer, config.seed)
    train_step = streaming.jit_train_step(functions, sharding)
    lowered = train_step.lower(abstract_state, abstract_batch)
    start = time.process_time()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise _compile_error(error, config, len(devices)) from error
    seconds = time.process_time() - start
    return {**read_cost(compiled), "compile_seconds": round(seconds, 1)}


def tpu_cost(compiled: Any) -> dict[str, Any]:
    """Return the figures of the TPU compiler."""
    cost = compiled.cost_analysis()
    return {
        "flops": int(cost["flops"]),
        "bytes_accessed": int(cost["bytes accessed"]),
        **_memory_and_collectives(compiled),
    }


def gpu_cost(gpu: Gpu, compiled: Any) -> dict[str, Any]:
    """Return figures that are counted in the compiled program of a GPU."""
    kernels = hlo_cost.kernels(compiled.as_text())
    copies = [kernel for kernel in kernels if kernel.only_copies]
    seconds = hlo_cost.estimate_seconds(kernels, gpu.bandwidth, gpu.dense_bfloat16_flops)
    return {
        "kernels": len(kernels),
        "bytes_accessed": sum(kernel.bytes for kernel in kernels),
        "copies": len(copies),
        "copied_bytes": sum(kernel.bytes for kernel in copies),
        "estimated_ms": round(1e3 * seconds, 3),
        **_memory_and_collectives(compiled),
    }


def _memory_and_collectives(compiled: Any) -> dict[str, Any]:
    memory = compiled.memory_analysis()
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
        if name not in report:
            continue
        with_gc, without_gc = report[name], report["without_gc"][name]
        show_ratio = without_gc and name != "compile_seconds"
        ratio = f"{with_gc / without_gc:.4f}" if show_ratio else ""
        table.add_row(title, f"{with_gc:,}", f"{without_gc:,}", ratio)
    make_console(soft_wrap=False).print(table)


def _date_and_versions() -> dict[str, Any]:
    installed = {item.name for item in importlib.metadata.distributions()}
    names = [name for name in _PACKAGES if name in installed]
    versions = {name: importlib.metadata.version(name) for name in names}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | versions,
    }


if __name__ == "__main__":
    utf8.enable_utf8_mode()
    cli.run(main)
