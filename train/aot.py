"""`python -m train.aot`: what a training step costs on TPUs that are not here, by their compiler.

The step is the trainer's own, for a batch from the host, spread over every device of the topology.
It is compiled twice, as the config says and without gradient centralization; nothing is run, and
no data set needs to be prepared.
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
from rich.console import Console
from rich.table import Table

from train import cli
from train.config import validate
from train.errors import UserError, describe_error, short_repr, truncate
from train.output.files import write_json

USAGE = """\
usage: python -m train.aot --config FILE --topology NAME [--json FILE] [--config.FIELD=VALUE ...]

Compiles the training step that FILE describes for TPUs that need not be there, with GC and without,
and prints what the compiler says: operations, bytes, memory, collectives. All figures are those of
one device. Needs Linux and libtpu: pip install -e '.[tpu-aot]'

  --topology=v5e:16x16                the generation, and the chips along each side of the slice
  --json=FILE                         writes the figures too
  --config.data.batch_size=1024       the batch over all devices; it must divide by their number

Exit status: 0 done; 2 a mistake, in one line on stderr.
"""

_COLLECTIVE = re.compile(
    r" (all-reduce|all-gather|all-to-all|reduce-scatter|collective-permute|collective-broadcast)"
    r"(?:-start)?\("
)
_PACKAGES = ("jax", "jaxlib", "libtpu", "flax", "optax")
_FIGURES = {  # of a step, in the table's words
    "flops": "operations",
    "bytes_accessed": "bytes read and written",
    "peak_bytes_per_device": "bytes of memory reserved",
    "all_reduces": "all-reduces",
    "other_collectives": "other collectives",
    "compile_seconds": "processor seconds",
}


def main(argv: list[str]) -> int:
    values = flags.FlagValues()
    topology = flags.DEFINE_string("topology", None, "", flag_values=values)
    json = flags.DEFINE_string("json", None, "", flag_values=values)
    config, name = cli.parse_config(argv, lambda: USAGE, values)
    validate(config)
    if not topology.value:
        raise UserError("--topology is missing; for example --topology v5e:2x2")
    if json.value is not None:
        _check_writable(Path(json.value))
    devices = tpu_devices(topology.value)
    report = {"config": name, "topology": topology.value} | measure(config, devices) | _made()
    print_table(report)
    if json.value is not None:
        write_json(Path(json.value), report)
    return 0


def tpu_devices(topology: str) -> Sequence[Any]:
    """The devices of a TPU slice, to compile for.

    Args:
      topology: such as `v5e:16x16`.

    Raises:
      UserError: there is no such slice, or libtpu is not installed.
    """
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "libtpu, the TPU's compiler, is not installed; it is there for Linux: "
            "pip install -e '.[tpu-aot]', or outside this repository "
            "pip install 'optax-gc[tpu-aot]'"
        )
    # So libtpu neither looks for a TPU nor logs on stderr that it found none.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    import jax  # it takes a second, which a typing error need not cost
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # or the seconds would mean nothing
    try:
        devices = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    except Exception as error:  # libtpu's, of any type
        raise UserError(
            f"--topology={short_repr(topology)} is not a TPU slice: {describe_error(error)}; it must be a "
            "generation and its chips, as v5e:2x2, v5e:16x16, v6e:4x4 or v5p:4x4x4"
        ) from error
    if any(getattr(device, "core_on_chip", 0) for device in devices):
        raise UserError(
            f"--topology={short_repr(topology)} has several devices a chip, over which JAX lays no "
            "mesh; use a newer generation, as v5e:2x2, v6e:4x4 or v5p:4x4x4"
        )
    return devices


def measure(config: ConfigDict, devices: Sequence[Any]) -> dict[str, Any]:
    """The figures of a step as `config` says and, under `without_gc`, of one without GC.

    Raises:
      UserError: the config fits neither its data set nor the devices, or the step takes more
        memory than a device has.
    """
    without_gc = copy.deepcopy(config)
    without_gc.gc.mode = "none"
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
    """Compiles the training step of `config` for the devices; returns one device's figures.

    Raises:
      UserError: as in `measure`.
    """
    import jax  # as above

    from train import data, models
    from train.data import batch, inputs
    from train.engine import optimizers, plan, state, step, streaming
    from train.runtime import mesh

    sharding = mesh.make_sharding(config, devices)
    known = data.describe(config)
    model = models.build(config, known.num_classes, known.input_shape)
    # How long an epoch is matters to the rates of a schedule alone, which are constants in the
    # program; where the set is not prepared one batch stands for it.
    todo = plan.make(config, known.num_train or config.data.batch_size)
    rate = optimizers.make_schedule(config, todo)
    tx = optimizers.build(config, rate, models.fan_in_axes(model))
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding.replicated),
        jax.eval_shape(lambda: state.create(model, tx, config.seed)),
    )
    batch_shapes = batch.abstract_batch(
        config.data.batch_size, known.input_shape, sharding.batch, inputs.dtype(config)
    )
    steps = step.make(config, model, tx, rate, config.seed)
    lowered = streaming.jit_train_step(steps, sharding).lower(like, batch_shapes)
    start = time.process_time()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        raise _does_not_compile(error, config, len(devices)) from error
    seconds = time.process_time() - start
    return {**_figures(compiled), "compile_seconds": round(seconds, 1)}


def _figures(compiled: Any) -> dict[str, Any]:
    cost, memory = compiled.cost_analysis(), compiled.memory_analysis()
    # All that is reserved while the step runs. `peak_memory_in_bytes` is less than the temporaries
    # alone can take, because it counts neither the program nor the gaps between buffers.
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


def _does_not_compile(error: Exception, config: ConfigDict, devices: int) -> UserError:
    if "RESOURCE_EXHAUSTED" in str(error):
        return UserError(
            f"config.data.batch_size={config.data.batch_size} on {devices} devices does not fit "
            f"in their memory ({truncate(str(error))}); make it smaller, or try "
            "--config.model.remat=True or --config.precision=bfloat16"
        )
    return UserError(f"the step does not compile: {describe_error(error)}; try another --topology")


def print_table(report: dict[str, Any]) -> None:
    """The figures side by side, and how they compare."""
    print(
        f"{report['model']} on {report['data']}, batch {report['batch_size']:,} on "
        f"{report['devices']} x {report['device_kind']}, {report['batch_per_device']:,} each"
    )
    table = Table()
    table.add_column("of one device, a step")
    for column in (f"GC {report['gc_mode']}", "without GC", "ratio"):
        table.add_column(column, justify="right")
    for figure, words in _FIGURES.items():
        ours, theirs = report[figure], report["without_gc"][figure]
        ratio = f"{ours / theirs:.4f}" if theirs and figure != "compile_seconds" else ""
        table.add_row(words, f"{ours:,}", f"{theirs:,}", ratio)
    Console().print(table)


def _made() -> dict[str, Any]:
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version()} | versions,
    }


def _check_writable(file: Path) -> None:
    """Now, and not after minutes of compiling."""
    try:
        if file.is_dir():
            raise IsADirectoryError(None, "it is a folder")
        with tempfile.TemporaryFile(dir=file.parent):
            pass
    except OSError as error:
        raise UserError(
            f"--json={short_repr(str(file))} cannot be written: {error.strerror}; give it a file in a "
            "folder that is there"
        ) from None


if __name__ == "__main__":
    cli.run(main)
