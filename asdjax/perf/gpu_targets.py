"""NVIDIA's GPUs described to XLA, which compiles for them where there is none.

Nothing is tuned then, as that is done by trying: calls to cuBLAS, and to cuDNN where there are any, are defaults. So
cuDNN's scratch memory is left out, and a program compiled on the GPU may move a little more or less.
"""

from collections.abc import Sequence
from string import Template
from typing import Any, NamedTuple

import jax

from asdjax.errors import InputError, reason_of
from asdjax.perf.datasheets import Datasheet, find_datasheet

MOST_OF_A_HOST = 8
"""Which NVLink joins."""

_JAX_TAKES = 0.75
"""Of a GPU's memory, unless it is told otherwise."""


class Gpu(NamedTuple):
    """What JAX calls it; its compute capability, multiprocessors, float32 lanes of each, clock, second-level cache, and
    shared memory of a multiprocessor and of a block: NVIDIA's data sheets and architecture white papers."""

    kind: str
    capability: tuple[int, int]
    processors: int
    lanes: int
    clock_ghz: float
    cache_mib: int
    shared_kib: tuple[int, int]


GPUS = {
    "h200": Gpu("NVIDIA H200", (9, 0), 132, 128, 1.98, 50, (228, 227)),
    "h100": Gpu("NVIDIA H100 80GB HBM3", (9, 0), 132, 128, 1.98, 50, (228, 227)),
    "a100": Gpu("NVIDIA A100-SXM4-80GB", (8, 0), 108, 64, 1.41, 40, (164, 163)),
}
"""By the name in `--devices`; all as SXM modules."""

_DESCRIPTION = Template("""
platform_name: "CUDA"
device_description_str: "$kind"
runtime_version { major: 13 }
dnn_version_info { major: 9 minor: 10 }
gpu_device_info {
  name: "$kind"
  cuda_compute_capability { major: $major minor: $minor }
  core_count: $processors
  fpus_per_core: $lanes
  clock_rate_ghz: $clock_ghz
  memory_bandwidth: $bytes_per_s
  device_memory_size: $memory_bytes
  l2_cache_size: $cache_bytes
  shared_memory_per_core: $shared_bytes
  shared_memory_per_block_optin: $shared_bytes_of_block
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
"""XLA's `GpuTargetConfigProto`: CUDA 13 and cuDNN 9.10 are taken to be where the program would run."""


def devices_of(name: str, number: int) -> Sequence[Any]:
    """So many of them in one host, to compile for.

    Raises InputError where JAX's plugin for CUDA is not here, or does not work.
    """
    from jax.experimental import topologies

    jax.config.update("jax_platforms", "cpu")
    described = _described(GPUS[name])
    try:
        return topologies.get_topology_desc(platform="cuda", target_config=described, topology=f"1x1x{number}").devices
    except (RuntimeError, ValueError) as error:  # from JAX, without the plugin, and from one of another version
        raise InputError(
            f"--devices {name}:{number}: expected JAX's plugin for CUDA in working order, which compiles for GPUs that "
            f"are not here (install asdjax[cuda]); JAX said: {reason_of(error)}"
        ) from error


def memory_bytes(sheet: Datasheet) -> float:
    """What JAX would ask such a GPU for, by the data sheet's round figure, a few percent below the driver's."""
    return _JAX_TAKES * sheet.memory_bytes


def _described(gpu: Gpu) -> str:
    sheet = find_datasheet(gpu.kind)
    assert sheet is not None
    major, minor = gpu.capability
    shared, shared_of_block = gpu.shared_kib
    return _DESCRIPTION.substitute(
        kind=gpu.kind,
        major=major,
        minor=minor,
        processors=gpu.processors,
        lanes=gpu.lanes,
        clock_ghz=gpu.clock_ghz,
        bytes_per_s=round(sheet.bytes_per_s),
        memory_bytes=round(sheet.memory_bytes),
        cache_bytes=gpu.cache_mib * 2**20,
        shared_bytes=shared * 2**10,
        shared_bytes_of_block=shared_of_block * 2**10,
    )
