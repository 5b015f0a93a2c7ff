"""Compiler options, and compilation with figures about the compiled program."""

import time
from typing import Any, NamedTuple

import jax

_OPTIONS: dict[str, dict[str, str | bool]] = {
    "cpu": {
        # This pass removes optimization barriers before fusion, during which
        # `train.models.layers.conv.relu` needs them.
        "xla_disable_hlo_passes": "cse_barrier_expander",
        # YNNPACK for reductions and products, but not for convolutions: Eigen's are faster.
        "xla_cpu_experimental_ynn_fusion_type": (
            "LIBRARY_FUSION_TYPE_REDUCE,LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"
        ),
    }
}


class Cost(NamedTuple):
    """The compiler's figures for a program.

    Attributes:
      compile_seconds: The wall time of the compilation.
      flops: The floating-point operations of one step, over all devices.
      bytes_per_device: The memory for arguments, results and temporaries.
    """

    compile_seconds: float
    flops: float
    bytes_per_device: int


def compile_program(jitted: Any, *args: Any) -> tuple[Any, Cost]:
    """Compile a jitted function for arguments like `args`.

    Returns:
      The compiled function and its cost.
    """
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


def jit(fn: Any, out_shardings: Any) -> Any:
    """Return `jax.jit(fn)` with the compiler options of this process's devices."""
    return jax.jit(fn, out_shardings=out_shardings, compiler_options=options())


def options() -> dict[str, str | bool]:
    """Return the compiler options for the backend of this process."""
    return _OPTIONS.get(jax.default_backend(), {})
