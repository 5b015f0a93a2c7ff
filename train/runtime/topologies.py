"""Devices to compile for that this machine does not have: TPU slices and GPUs."""

import importlib.util
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from train.errors import UserError, describe_error, short_repr


class Gpu(NamedTuple):
    """What XLA needs to know of a GPU to compile for it.

    Attributes:
      name: The name that the driver reports.
      compute_capability: The major version.
      cores: Streaming multiprocessors.
      fpus_per_core: float32 units of a core.
      clock_ghz: The highest clock.
      memory: Bytes.
      bandwidth: Bytes of memory per second.
      l2_cache: Bytes.
      shared_memory: Bytes of a core.
      shared_memory_of_block: Bytes that one block can have.
      dense_bfloat16_flops: Operations per second of the matrix units, as the vendor states them.
    """

    name: str
    compute_capability: int
    cores: int
    fpus_per_core: int
    clock_ghz: float
    memory: int
    bandwidth: int
    l2_cache: int
    shared_memory: int
    shared_memory_of_block: int
    dense_bfloat16_flops: float


_HOPPER: dict[str, Any] = {
    "compute_capability": 9,
    "cores": 132,
    "fpus_per_core": 128,
    "clock_ghz": 1.98,
    "l2_cache": 52428800,
    "shared_memory": 233472,
    "shared_memory_of_block": 232448,
    "dense_bfloat16_flops": 989e12,
}
GPUS = {
    "a100": Gpu(
        name="NVIDIA A100-SXM4-80GB",
        compute_capability=8,
        cores=108,
        fpus_per_core=64,
        clock_ghz=1.41,
        memory=85100068864,
        bandwidth=2039040000000,
        l2_cache=41943040,
        shared_memory=167936,
        shared_memory_of_block=166912,
        dense_bfloat16_flops=312e12,
    ),
    "h100": Gpu(
        name="NVIDIA H100 80GB HBM3", memory=84929347584, bandwidth=3352320000000, **_HOPPER
    ),
    "h200": Gpu(
        name="NVIDIA H200 141GB HBM3e", memory=151397597184, bandwidth=4800000000000, **_HOPPER
    ),
}
"""The GPUs that can be compiled for; the figures are those of the vendor's data sheets."""

_TPU_EXAMPLES = "v5e:2x2, v5e:16x16, v6e:4x4 or v5p:4x4x4"
_GPU_EXAMPLES = "h100:1, h100:8, h200:8 or a100:8"


def parse_gpus(topology: str) -> tuple[Gpu, int] | None:
    """Return the GPU and the number of GPUs that a topology names, or None for a TPU slice.

    Raises:
      UserError: If a GPU is named without a number of GPUs of one host.
    """
    name, _, count = topology.partition(":")
    if name not in GPUS:
        return None
    if not re.fullmatch(r"[1-8]", count):
        raise UserError(
            f"--topology={short_repr(topology)} must be {name}:N with 1 to 8 GPUs of one host, "
            f"such as {name}:8"
        )
    return GPUS[name], int(count)


def gpu_devices(gpu: Gpu, count: int) -> Sequence[Any]:
    """Return devices to compile for with XLA's GPU compiler, on a machine without a GPU.

    Raises:
      UserError: If JAX's CUDA plugin is not installed.
    """
    if not any(importlib.util.find_spec(f"jax_cuda{v}_plugin") for v in (12, 13)):
        raise UserError(
            "JAX's CUDA plugin, which has the GPU compiler, is not installed; on Linux, run "
            "python -m pip install -e '.[gpu-aot]' in this repository"
        )
    # Without a GPU, the compiler cannot measure which kernel is fastest.
    flags = "--xla_gpu_autotune_level=0 --xla_gpu_enable_triton_gemm=false"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags}"
    topologies = _import_topologies()
    return topologies.get_topology_desc(
        topology_name=gpu.name,
        platform="cuda",
        target_config=_target_config(gpu),
        topology=f"1x1x{count}",
    ).devices


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
            "python -m pip install -e '.[tpu-aot]' in this repository"
        )
    # These settings keep libtpu from searching for a TPU and from logging that it found none.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("TPU_ACCELERATOR_TYPE", "v5litepod-4")
    topologies = _import_topologies()
    try:
        devices = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    except Exception as error:  # libtpu raises many types
        raise UserError(
            f"--topology={short_repr(topology)} is neither a TPU slice ({describe_error(error)}) "
            f"nor GPUs; give a TPU generation and its chips, such as {_TPU_EXAMPLES}, or "
            f"{_GPU_EXAMPLES}"
        ) from error
    if any(getattr(device, "core_on_chip", 0) for device in devices):
        raise UserError(
            f"--topology={short_repr(topology)} has several devices per chip, for which JAX cannot "
            "make a mesh; use a newer generation, such as v5e:2x2, v6e:4x4 or v5p:4x4x4"
        )
    return devices


def _import_topologies() -> Any:
    """Import JAX late, so that a wrong command line fails without this second."""
    import jax
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # to measure the compile time
    return topologies


def _target_config(gpu: Gpu) -> str:
    """Return the text form of XLA's `GpuTargetConfigProto`."""
    return f"""
gpu_device_info {{
  threads_per_block_limit: 1024
  threads_per_warp: 32
  shared_memory_per_block: 49152
  shared_memory_per_core: {gpu.shared_memory}
  threads_per_core_limit: 2048
  core_count: {gpu.cores}
  fpus_per_core: {gpu.fpus_per_core}
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  memory_bandwidth: {gpu.bandwidth}
  l2_cache_size: {gpu.l2_cache}
  clock_rate_ghz: {gpu.clock_ghz}
  device_memory_size: {gpu.memory}
  shared_memory_per_block_optin: {gpu.shared_memory_of_block}
  cuda_compute_capability {{ major: {gpu.compute_capability} }}
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
}}
platform_name: "CUDA"
dnn_version_info {{ major: 9 minor: 7 }}
runtime_version {{ major: 13 minor: 0 patch: 0 }}
device_description_str: "{gpu.name}"
"""
