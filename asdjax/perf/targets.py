"""Devices to plan for, which need not be here: `v5e:4x4`, `h200:8`, `gpu:8`, `cpu:8`."""

import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from asdjax.errors import InputError, reason_of
from asdjax.perf import datasheets, gpu_targets
from asdjax.perf.datasheets import Datasheet
from asdjax.runtime import hardware, jax_setup

_FORM = re.compile(r"(?P<kind>[a-z][a-z0-9]*):(?P<size>[1-9]\d*(x[1-9]\d*)*)")
_TPU = re.compile(r"v\d{1,2}[a-z]*|tpu\w+")
_EXPECTED = (
    "expected a TPU's generation and shape (v5e:4x4, v5p:2x2x1, v6e:2x2), one to "
    f"{gpu_targets.MOST_OF_A_HOST} of {', '.join(gpu_targets.GPUS)} (h200:8), gpu:N for GPUs of this machine or cpu:N"
)
_MOST_PARTS = 1024
"""Of a processor: more take JAX minutes to make."""
_TPU_SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",  # nobody to ask which TPU this is
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",  # asked for, and of no effect on what is compiled
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # several plans at once, or one beside a training
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


class Target(NamedTuple):
    """Devices by the name they were asked for; the data sheet of one and the bytes of its memory, where known."""

    name: str
    platform: str
    devices: Sequence[Any]
    kind: str
    sheet: Datasheet | None
    memory_bytes: float | None

    @property
    def hosts(self) -> int:
        """Computers that the devices are in."""
        return len({device.process_index for device in self.devices})


def parse_target(name: str) -> Target:
    """The devices called so; to be asked before JAX has begun anything else.

    Raises InputError for names that nothing answers to, and where what compiles for them is not here.
    """
    form = _FORM.fullmatch(name)
    if form is None:
        raise InputError(f"--devices: {_EXPECTED}, got {name!r}")
    kind, size = form["kind"], form["size"]
    if _TPU.fullmatch(kind):
        jax.config.update("jax_platforms", "cpu")
        return _target(name, "tpu", _tpu(name))
    known = kind in ("cpu", "gpu", *gpu_targets.GPUS)
    if not known or "x" in size or (kind in gpu_targets.GPUS and int(size) > gpu_targets.MOST_OF_A_HOST):
        raise InputError(f"--devices: {_EXPECTED}, got {name!r}")
    if kind == "cpu":
        return _target(name, "cpu", _cpu(int(size)))
    if kind == "gpu":
        return _target(name, "gpu", _gpu(int(size)))._replace(memory_bytes=hardware.memory_limit())
    absent = _target(name, "gpu", gpu_targets.devices_of(kind, int(size)))
    return absent._replace(memory_bytes=gpu_targets.memory_bytes(absent.sheet) if absent.sheet else None)


def _target(name: str, platform: str, devices: Sequence[Any]) -> Target:
    """With the memory that the data sheet tells."""
    kind = devices[0].device_kind
    sheet = datasheets.find_datasheet(kind)
    return Target(name, platform, devices, kind, sheet, sheet.memory_bytes if sheet else None)


def _tpu(name: str) -> Sequence[Any]:
    """Of a slice of that shape, by libtpu, which compiles without one."""
    from jax.experimental import topologies

    for setting, value in _TPU_SETTINGS.items():
        os.environ.setdefault(setting, value)
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    # from JAX and libtpu, for a name or shape that no TPU has, or no libtpu
    except (RuntimeError, ValueError, ModuleNotFoundError) as error:
        raise InputError(
            f"--devices {name}: {_EXPECTED}, and for a TPU libtpu (install asdjax[tpu]); it said: {reason_of(error)}"
        ) from error


def _cpu(number: int) -> Sequence[Any]:
    """So many parts of this machine's processor."""
    if number > _MOST_PARTS:
        raise InputError(f"--devices cpu:{number}: expected at most {_MOST_PARTS}")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", number)
    return jax.devices()


def _gpu(number: int) -> Sequence[Any]:
    """Return GPUs of this machine."""
    jax_setup.require_device()
    try:
        here = jax.devices("gpu")
    except RuntimeError:
        here = []
    if len(here) < number:
        raise InputError(
            f"--devices gpu:{number}: expected so many GPUs in this machine, got {len(here)}; for GPUs that are not "
            f"here give {', '.join(f'{name}:N' for name in gpu_targets.GPUS)}"
        )
    return here[:number]
