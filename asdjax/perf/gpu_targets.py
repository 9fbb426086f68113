"""Descriptions of NVIDIA's GPUs, for which XLA then compiles without the GPU.

Such programs are not autotuned, because that needs the GPU: calls to cuBLAS and cuDNN take their defaults. cuDNN's
scratch memory is left out. A program compiled on the GPU may move slightly more or fewer bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import Template
from typing import Any

import jax

from asdjax.errors import InputError, summarize
from asdjax.perf.datasheets import Datasheet, find_datasheet

# GPUs in one host, joined by NVLink.
MAX_PER_HOST = 8

# JAX's default share of a GPU's memory (XLA_PYTHON_CLIENT_MEM_FRACTION).
_DEFAULT_MEMORY_SHARE = 0.75


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A GPU by NVIDIA's data sheets and architecture white papers.

    kind: JAX's name. lanes: float32 units of a multiprocessor. cache_mib: second-level cache. shared_kib: shared memory
    of a multiprocessor and of a block.
    """

    kind: str
    capability: tuple[int, int]
    multiprocessors: int
    lanes: int
    clock_ghz: float
    cache_mib: int
    shared_kib: tuple[int, int]


_H200 = Gpu(
    kind="NVIDIA H200",
    capability=(9, 0),
    multiprocessors=132,
    lanes=128,
    clock_ghz=1.98,
    cache_mib=50,
    shared_kib=(228, 227),
)

# By their names in `--devices`; all are SXM modules.
GPUS = {
    "h200": _H200,
    "h100": replace(_H200, kind="NVIDIA H100 80GB HBM3"),
    "a100": Gpu(
        kind="NVIDIA A100-SXM4-80GB",
        capability=(8, 0),
        multiprocessors=108,
        lanes=64,
        clock_ghz=1.41,
        cache_mib=40,
        shared_kib=(164, 163),
    ),
}

# XLA's GpuTargetConfigProto. CUDA 13 and cuDNN 9.10 are assumed where the program would run.
_DESCRIPTION = Template("""
platform_name: "CUDA"
device_description_str: "$kind"
runtime_version { major: 13 }
dnn_version_info { major: 9 minor: 10 }
gpu_device_info {
  name: "$kind"
  cuda_compute_capability { major: $major minor: $minor }
  core_count: $multiprocessors
  fpus_per_core: $lanes
  clock_rate_ghz: $clock_ghz
  memory_bandwidth: $bytes_per_s
  device_memory_size: $memory_bytes
  l2_cache_size: $cache_bytes
  shared_memory_per_core: $shared_bytes
  shared_memory_per_block_optin: $block_shared_bytes
  shared_memory_per_block: 49152
  registers_per_core_limit: 65536
  registers_per_block_limit: 65536
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  thread_dim_limit_x: 1024
  thread_dim_limit_y: 1024
  thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  device_address_bits: 64
  runtime_version: "13.0.0"
  driver_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
  dnn_version: "9.10.0"
}
""")


def describe_gpus(name: str, number: int) -> Sequence[Any]:
    """Return devices to compile for: `number` GPUs of GPUS[name] in one host.

    Raises InputError if JAX's plugin for CUDA is missing or does not work.
    """
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    description = _describe_target(GPUS[name])
    try:
        shape = f"1x1x{number}"
        return topologies.get_topology_desc(platform="cuda", target_config=description, topology=shape).devices
    except (RuntimeError, ValueError) as error:  # from JAX, without the plugin, and from one of another version
        raise InputError(
            f"--devices {name}:{number}: expected JAX's plugin for CUDA, which compiles for GPUs of other machines, "
            f"got: {summarize(error)}; install asdjax[cuda]"
        ) from error


def estimate_memory(sheet: Datasheet) -> float:
    """Return the bytes that JAX would reserve on such a GPU.

    The data sheet's memory, from which they are computed, is a few percent below the driver's.
    """
    return _DEFAULT_MEMORY_SHARE * sheet.memory_bytes


def _describe_target(gpu: Gpu) -> str:
    sheet = find_datasheet(gpu.kind)
    assert sheet is not None
    major, minor = gpu.capability
    shared, block_shared = gpu.shared_kib
    return _DESCRIPTION.substitute(
        kind=gpu.kind,
        major=major,
        minor=minor,
        multiprocessors=gpu.multiprocessors,
        lanes=gpu.lanes,
        clock_ghz=gpu.clock_ghz,
        bytes_per_s=round(sheet.bytes_per_s),
        memory_bytes=round(sheet.memory_bytes),
        cache_bytes=gpu.cache_mib * 2**20,
        shared_bytes=shared * 2**10,
        block_shared_bytes=block_shared * 2**10,
    )
