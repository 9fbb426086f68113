"""Peak rates of devices by their makers' data sheets."""

from typing import NamedTuple


class Datasheet(NamedTuple):
    """Peak figures of one device.

    flops_per_s: dense bfloat16. bytes_per_s, memory_bytes: of the device's memory. interconnect_bytes_per_s: one
    direction, all links to other devices together. cycles_per_s: TPUs only, FLOP/s over twice the cells of the matrix
    units.
    """

    flops_per_s: float
    bytes_per_s: float
    memory_bytes: float
    interconnect_bytes_per_s: float
    cycles_per_s: float | None = None


# Keyed by the end of the device kind. Sources: NVIDIA's and Google Cloud's data sheets. The interconnect is NVLink, or
# PCIe where there is none; for a TPU its inter-chip links.
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


def find_datasheet(kind: str) -> Datasheet | None:
    """Return the data sheet of a `jax.Device.device_kind`; None if there is none here."""
    return next((sheet for name, sheet in _DATASHEETS.items() if kind.endswith(name)), None)
