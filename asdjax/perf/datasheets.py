"""What devices can do at most, by their makers' data sheets."""

from typing import NamedTuple


class Datasheet(NamedTuple):
    """Dense bfloat16 FLOP/s; bytes/s and bytes of the device's memory; bytes/s that one device sends to others; of TPUs
    cycles/s, as FLOP/s over twice the cells of the matrix units."""

    flops_per_s: float
    bytes_per_s: float
    memory_bytes: float
    interconnect_bytes_per_s: float
    cycles_per_s: float | None = None


_DATASHEETS = {
    "H200": Datasheet(989.4e12, 4.8e12, 141e9, 450e9),
    "H100 80GB HBM3": Datasheet(989.4e12, 3.35e12, 80e9, 450e9),
    "H100 PCIe": Datasheet(756.5e12, 2.0e12, 80e9, 64e9),
    "A100-SXM4-80GB": Datasheet(312e12, 2.039e12, 80e9, 300e9),
    "A100-SXM4-40GB": Datasheet(312e12, 1.555e12, 40e9, 300e9),
    "L40S": Datasheet(362e12, 0.864e12, 48e9, 32e9),
    "L4": Datasheet(121e12, 0.3e12, 24e9, 32e9),
    "TPU v4": Datasheet(275e12, 1.228e12, 32 * 2**30, 300e9, 275e12 / (2 * 8 * 128**2)),
    "TPU v5 lite": Datasheet(197e12, 0.819e12, 16 * 2**30, 200e9, 197e12 / (2 * 4 * 128**2)),
    "TPU v5p": Datasheet(459e12, 2.765e12, 95 * 2**30, 600e9, 459e12 / (2 * 8 * 128**2)),
    "TPU v5": Datasheet(459e12, 2.765e12, 95 * 2**30, 600e9, 459e12 / (2 * 8 * 128**2)),
    "TPU v6 lite": Datasheet(918e12, 1.64e12, 32 * 2**30, 400e9, 918e12 / (2 * 4 * 256**2)),
}
"""By the end of the device kind: NVIDIA's and Google Cloud's data sheets. Between devices: one direction, all links of
a device together (NVLink, else PCIe; a TPU's inter-chip links)."""


def find_datasheet(kind: str) -> Datasheet | None:
    """The data sheet of a `jax.Device.device_kind`, where one is known."""
    return next((sheet for name, sheet in _DATASHEETS.items() if kind.endswith(name)), None)
