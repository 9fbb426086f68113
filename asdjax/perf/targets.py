"""Devices to plan for, which this machine need not have: `v5e:4x4`, `h200:8`, `gpu:8`, `cpu:8`."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax

from asdjax.errors import InputError, summarize
from asdjax.perf import datasheets, gpu_targets
from asdjax.perf.datasheets import Datasheet
from asdjax.runtime import hardware, jax_setup

_FORM = re.compile(r"(?P<kind>[a-z][a-z0-9]*):(?P<size>[1-9]\d*(x[1-9]\d*)*)")
_TPU = re.compile(r"v\d{1,2}[a-z]*|tpu\w+")
_EXPECTED = (
    "expected a TPU's generation and shape (v5e:4x4, v5p:2x2x1, v6e:2x2), one to "
    f"{gpu_targets.MAX_PER_HOST} of {', '.join(gpu_targets.GPUS)} (h200:8), gpu:N for GPUs of this machine or cpu:N"
)
# JAX takes minutes to make more CPU devices.
_MAX_CPU_DEVICES = 1024
_TPU_SETTINGS = {
    "TPU_SKIP_MDS_QUERY": "1",  # there is no metadata server to query
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-1",  # required, but without effect on the compiled program
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # for several plans at once, or a plan during a training
    "TPU_STDERR_LOG_LEVEL": "3",
    "TPU_MIN_LOG_LEVEL": "3",
}


@dataclass(frozen=True, kw_only=True)
class Target:
    """Devices to plan for. `name` is the user's, `kind` JAX's; sheet and memory_bytes are of one device, if known."""

    name: str
    platform: str
    devices: Sequence[Any]
    kind: str
    sheet: Datasheet | None
    memory_bytes: float | None

    @property
    def hosts(self) -> int:
        """Return the number of computers that hold the devices."""
        return len({device.process_index for device in self.devices})


def split_pool(name: str) -> tuple[str, int]:
    """Return the name of one device of a pool, and their number: h200:512 -> h200:1 and 512.

    Raises InputError for unknown names.
    """
    form = _FORM.fullmatch(name)
    if form is None or not (_TPU.fullmatch(form["kind"]) or (_is_kind(form["kind"]) and "x" not in form["size"])):
        raise InputError(f"--devices: {_EXPECTED}, got {name!r}")
    sides = form["size"].split("x")
    return f"{form['kind']}:{'x'.join('1' for _ in sides)}", math.prod(map(int, sides))


def _is_kind(kind: str) -> bool:
    return kind in ("cpu", "gpu", *gpu_targets.GPUS)


def is_pool(name: str) -> bool:
    """Return whether a name asks for more GPUs than a host has."""
    form = _FORM.fullmatch(name)
    return bool(form and form["kind"] in gpu_targets.GPUS and split_pool(name)[1] > gpu_targets.MAX_PER_HOST)


def parse_target(name: str) -> Target:
    """Return the named devices. Call it before JAX has initialised any device.

    Raises InputError for unknown names, and if the compiler for the devices is not installed.
    """
    form = _FORM.fullmatch(name)
    if form is None:
        raise InputError(f"--devices: {_EXPECTED}, got {name!r}")
    kind, size = form["kind"], form["size"]
    if _TPU.fullmatch(kind):
        jax.config.update("jax_platforms", "cpu")
        return _make_target(name, "tpu", _describe_tpus(name))
    if not _is_kind(kind) or "x" in size or (kind in gpu_targets.GPUS and int(size) > gpu_targets.MAX_PER_HOST):
        raise InputError(f"--devices: {_EXPECTED}, got {name!r}")
    if kind == "cpu":
        return _make_target(name, "cpu", _make_cpus(int(size)))
    if kind == "gpu":
        return replace(_make_target(name, "gpu", _find_gpus(int(size))), memory_bytes=hardware.memory_limit())
    target = _make_target(name, "gpu", gpu_targets.describe_gpus(kind, int(size)))
    return replace(target, memory_bytes=gpu_targets.estimate_memory(target.sheet) if target.sheet else None)


def _make_target(name: str, platform: str, devices: Sequence[Any]) -> Target:
    kind = devices[0].device_kind
    sheet = datasheets.find_datasheet(kind)
    memory_bytes = sheet.memory_bytes if sheet else None
    return Target(name=name, platform=platform, devices=devices, kind=kind, sheet=sheet, memory_bytes=memory_bytes)


def _describe_tpus(name: str) -> Sequence[Any]:
    """Return the devices of a slice, for which libtpu compiles without a TPU."""
    from jax.experimental import topologies

    for setting, value in _TPU_SETTINGS.items():
        os.environ.setdefault(setting, value)
    try:
        return topologies.get_topology_desc(platform="tpu", topology_name=name).devices
    # from JAX and libtpu: unknown name or shape, or no libtpu
    except (RuntimeError, ValueError, ModuleNotFoundError) as error:
        raise InputError(
            f"--devices {name}: {_EXPECTED}, and libtpu for a TPU, got: {summarize(error)}; correct the name or "
            "install asdjax[tpu]"
        ) from error


def _make_cpus(number: int) -> Sequence[Any]:
    if number > _MAX_CPU_DEVICES:
        raise InputError(f"--devices: expected at most cpu:{_MAX_CPU_DEVICES}, got cpu:{number}")
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", number)
    return jax.devices()


def _find_gpus(number: int) -> Sequence[Any]:
    jax_setup.require_device()
    try:
        gpus = jax.devices("gpu")
    except RuntimeError:
        gpus = []
    if len(gpus) < number:
        names = ", ".join(f"{name}:N" for name in gpu_targets.GPUS)
        raise InputError(
            f"--devices gpu:{number}: expected {number} GPUs in this machine, got {len(gpus)}; for GPUs of other "
            f"machines use {names}"
        )
    return gpus[:number]
