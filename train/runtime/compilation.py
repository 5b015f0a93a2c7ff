"""Compiling a program ahead of its first call, and what that costs."""

import time
from typing import Any, NamedTuple

import jax

_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {
        # XLA removes optimization barriers before it fuses; `train.models.relu` says why not here.
        "xla_disable_hlo_passes": "cse_barrier_expander",
        # YNNPACK for reductions and products, not for convolutions, which Eigen does faster.
        "xla_cpu_experimental_ynn_fusion_type": (
            "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
        ),
    }
}


class Cost(NamedTuple):
    """What the compiler says of a program."""

    compile_seconds: float
    flops: float  # of one step, over all devices
    bytes_per_device: int  # of arguments, results and all that is between


def compile_program(jitted: Any, *args: Any) -> tuple[Any, Cost]:
    """Compiles a jitted function for arguments like `args`."""
    start = time.monotonic()
    program = jitted.lower(*args).compile(compiler_options=options())
    seconds = time.monotonic() - start
    memory = program.memory_analysis()
    size = (
        memory.argument_size_in_bytes
        + memory.output_size_in_bytes
        - memory.alias_size_in_bytes
        + memory.temp_size_in_bytes
    )
    flops = program.cost_analysis().get("flops", 0.0) * jax.device_count()
    return program, Cost(seconds, flops, size)


def options() -> dict[str, str | bool]:
    """The compiler's options for the devices of this process."""
    return _OPTIONS.get(jax.default_backend(), {})
