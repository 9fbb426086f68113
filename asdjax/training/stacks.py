"""Which fleets train in one program, side by side."""

import math
from collections.abc import Sequence

from asdjax import parallel
from asdjax.config import Config
from asdjax.training.feed import device_bytes
from asdjax.training.fleet import precision_of
from asdjax.training.phases import lines_of
from asdjax.training.runs import Run

MOST = 7
"""Fleets that a GPU is given at a time, if nobody says how many: 2021's machine types, and as many as were measured. An
H200 took 25.0 ms for a step of each of seven, 38.3 for one alone (README, Speed). A TPU, by its compiler, and a CPU
take longer."""

PIECE_BYTES = 35e6
"""Of a step's temporaries, for each fleet and each piece of 32 frames of its batch, in bfloat16 at width 1: seven
fleets of 48 took 10.9 GiB on an H200."""

SHARE = 0.4
"""Of the device's memory, what temporaries may take so; audio may take as much."""


def stacks_of(config: Config, runs: Sequence[Run], devices: int) -> list[list[Run]]:
    """Runs that train in one program, on so many devices: those of equal classes and phases."""
    alike: dict[tuple, list[Run]] = {}
    for run in runs:
        alike.setdefault((run.task.section_of_class, tuple(lines_of(config, run.task))), []).append(run)
    stacks = []
    for group in alike.values():
        size = stack_size(config, len(group), devices)
        stacks += [group[i : i + size] for i in range(0, len(group), size)]
    return stacks


def stack_size(config: Config, fleets: int, devices: int, memory_bytes: float | None = None) -> int:
    """Of so many fleets that could train in one program how many do, on so many devices of so much memory each; without
    `memory_bytes`, of those that are here."""
    if config.parallel.stacked:
        return min(config.parallel.stacked, fleets)
    if parallel.platform() != "gpu":
        return 1
    numbers = 1 if precision_of(config) == "bfloat16" else 2
    piece_bytes = PIECE_BYTES * numbers * config.width * config.signal.piece_frames / 32
    fitting = SHARE * (memory_bytes or device_bytes()) / (piece_bytes * config.train.batch_size / devices)
    of_each_row = math.ceil(fleets / config.parallel.tasks_at_once)
    return max(1, min(MOST, of_each_row, int(fitting)))
