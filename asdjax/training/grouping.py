"""Which fleets train in one program, side by side."""

import math
from collections.abc import Mapping, Sequence

from asdjax.config.fields import Config
from asdjax.data.tasks import Task
from asdjax.fleet import checkpoints
from asdjax.fleet.fleet_model import choose_precision
from asdjax.fleet.runs import Run
from asdjax.runtime import hardware
from asdjax.training import step_memory
from asdjax.training.audio_feed import DEVICE_SHARE
from asdjax.training.phases import list_lines

MOST = 7
"""Fleets that a GPU is given at a time, if nobody says how many: 2021's machine types, and as many as were measured. An
H200 took 19.1 ms for a step of each of seven, 22.8 for one alone (README, Speed). A TPU, by its compiler, and a CPU
take longer."""


def group_runs(config: Config, runs: Sequence[Run], devices: int, audio_bytes: Mapping[str, float]) -> list[list[Run]]:
    """Runs that train in one program, on so many devices. Those that have been trained share none with others, as they
    would be computed again.

    audio_bytes: of each task on a device, by its name.
    """
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        groups.setdefault((*group_key(config, run.task), _is_trained(config, run)), []).append(run)
    stacks = []
    for group in groups.values():
        largest = max(audio_bytes[run.task.name] for run in group)
        size = stack_size(config, len(group), devices, largest)
        stacks += [group[i : i + size] for i in range(0, len(group), size)]
    return stacks


def group_key(config: Config, task: Task) -> tuple:
    """What tasks have in common whose fleets may train in one program: classes and phases."""
    return task.section_of_class, tuple(list_lines(config, task))


def _is_trained(config: Config, run: Run) -> bool:
    """Whether the last step of each phase is there; what lies there is verified where it is trained."""
    return all(last in checkpoints.steps(run.folder / line) for line, last in list_lines(config, run.task).items())


def stack_size(config: Config, fleets: int, devices: int, audio_bytes: float) -> int:
    """How many of so many alike fleets train in one program, as evenly divided as they can be: as many as are asked
    for, or on a GPU as many as fit on so many devices, one where their memory is not known, but no more
    than leave each task's audio there."""
    return split_evenly(fleets, config.parallel.fleets_per_program or _fitting(config, fleets, devices, audio_bytes))


def split_evenly(fleets: int, at_most: int) -> int:
    """The size of as few stacks as hold so many fleets, alike but for the last: 4 where 8 go 7 at most."""
    return math.ceil(fleets / math.ceil(fleets / at_most))


def _fitting(config: Config, fleets: int, devices: int, audio_bytes: float) -> int:
    memory_bytes = hardware.memory_limit()
    if hardware.platform() != "gpu" or memory_bytes is None:
        return 1
    pieces = config.train.batch_size / devices
    batch = step_memory.BatchSize(pieces, config.signal.piece_frames, config.width, choose_precision(config))
    fitting = step_memory.fleets_that_fit(step_memory.PIECE_BYTES_IN_TURN, batch, memory_bytes)
    of_audio = DEVICE_SHARE * memory_bytes / audio_bytes
    if config.data.resident != "host" and of_audio >= 1:
        fitting = min(fitting, of_audio)
    of_each_row = math.ceil(fleets / config.parallel.device_groups)
    return max(1, min(MOST, of_each_row, int(fitting)))
