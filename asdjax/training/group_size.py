"""The number of variants in a group of a step, and of fleets in one program, by the memory of the device.

Skip it on a first reading. A larger group keeps a GPU busier and needs more memory for temporaries, as the activations
of all its variants are alive at a time. Measurements: tests/perf/README.md.
"""

from collections.abc import Mapping

from asdjax.config.fields import VARIANTS, Config
from asdjax.fleet.fleet_model import choose_precision
from asdjax.runtime import hardware

#: Share of a device's memory for temporaries; audio may take as much.
SHARE = 0.4

#: Bytes of temporaries per fleet and piece of 32 frames, in bfloat16 at width 1, by variants in a group.
PIECE_BYTES: Mapping[int, float] = {1: 60e6, 6: 375e6}


def choose_group_size(config: Config, devices: int, fleets: int) -> int:
    """Return the variants per group for a program of some fleets: the configured number, or what memory allows.

    A program of one fleet takes the largest group that fits a GPU of known memory. Every other program takes groups of
    one variant: several fleets keep a GPU busy, and a CPU or TPU gains nothing from larger groups.
    """
    variants = len(config.variants)
    if config.train.variants_per_group:
        return min(config.train.variants_per_group, variants)
    if hardware.platform() != "gpu" or fleets > 1:
        return 1
    fitting = [size for size in PIECE_BYTES if count_fitting_fleets(config, devices, size) >= 1]
    return min(max(fitting, default=1), variants)


def count_fitting_fleets(config: Config, devices: int, variants_per_group: int) -> float:
    """Return how many fleets' temporaries fit on devices of known memory, on which each batch is split; else 0."""
    memory_bytes = hardware.memory_limit()
    if memory_bytes is None:
        return 0
    piece_bytes = PIECE_BYTES[variants_per_group]
    if variants_per_group > 1:
        piece_bytes *= min(len(config.variants), variants_per_group) / len(VARIANTS)
    number_bytes = 1 if choose_precision(config) == "bfloat16" else 2
    pieces = config.train.batch_size / devices * config.signal.piece_frames / 32
    return SHARE * memory_bytes / (piece_bytes * number_bytes * config.width * pieces)
