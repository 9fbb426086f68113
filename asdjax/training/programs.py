"""The programs of a training: which runs train in one. Skip it on a first reading.

On a GPU several alike fleets in one program keep the device busier than one. On a CPU or TPU each run has a program of
its own. Measurements: tests/perf/README.md.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from asdjax.config.fields import Config
from asdjax.data.tasks import Task
from asdjax.fleet import checkpoints, training_set
from asdjax.fleet.runs import Run, list_lines
from asdjax.runtime import hardware
from asdjax.training.audio_feed import DEVICE_SHARE
from asdjax.training.group_size import choose_group_size, count_fitting_fleets

#: Fleets in one program on a GPU, at most, unless the configuration gives a number.
MOST_FLEETS = 7


@dataclass(frozen=True, kw_only=True)
class ProgramRuns:
    """Runs that train in one program, and the size of their groups of variants."""

    runs: Sequence[Run]
    variants_per_group: int

    @property
    def name(self) -> str:
        """Return the names of the runs, joined."""
        return "+".join(run.name for run in self.runs)


def make_programs(
    config: Config, runs: Sequence[Run], devices: int, audio_bytes: Mapping[str, float]
) -> list[ProgramRuns]:
    """Return the programs that train all runs, each on a number of devices.

    Runs share a program if their classes have the same layout of sections and they train the same phases. Finished runs
    share none with unfinished ones, which would compute them again. A run that was started keeps the group size in its
    training-set manifest. `audio_bytes` is the memory of each task's audio on a device, by the task's name.
    """
    alike: dict[tuple, list[Run]] = {}
    for run in runs:
        stored_size = training_set.read_group_size(run)
        alike.setdefault((stored_size, _is_trained(config, run), *make_program_key(config, run.task)), []).append(run)
    programs = []
    for (stored_size, *_), group in alike.items():
        largest = max(audio_bytes[run.task.name] for run in group)
        size = choose_fleets_per_program(config, len(group), devices, largest, stored_size or 0)
        programs += [
            ProgramRuns(
                runs=group[i : i + size],
                variants_per_group=stored_size or choose_group_size(config, devices, len(group[i : i + size])),
            )
            for i in range(0, len(group), size)
        ]
    return programs


def make_program_key(config: Config, task: Task) -> tuple:
    """Return the section index of each class and the names of the checkpoint lines.

    Tasks for which both are equal can share a program.
    """
    return task.section_of_class, tuple(list_lines(config, task))


def _is_trained(config: Config, run: Run) -> bool:
    """Return whether the last step of each phase exists. Training verifies its content."""
    return all(last in checkpoints.list_steps(run.folder / line) for line, last in list_lines(config, run.task).items())


def choose_fleets_per_program(
    config: Config, fleets: int, devices: int, audio_bytes: float, variants_per_group: int = 0
) -> int:
    """Return how many of some alike fleets train in one program, as evenly as possible.

    It is the configured number, or on a GPU as many as fit with each task's audio; one if the memory is unknown.
    `variants_per_group` is that of fleets that were started before, 0 for new ones.
    """
    configured = config.parallel.fleets_per_program
    group_size = variants_per_group or config.train.variants_per_group or 1
    return split_evenly(fleets, configured or _count_fitting(config, fleets, devices, audio_bytes, group_size))


def propose_parts(runs: int, devices: int) -> int:
    """Return a number of parts for a pool of devices (0: a part for each run).

    A part has as many runs as leave four parts or more for each device, so that no device waits long for the last part.
    It has at most MOST_FLEETS runs, which can share a program on a GPU.
    """
    sizes = range(MOST_FLEETS, 1, -1) if devices else ()
    size = next((size for size in sizes if math.ceil(runs / size) >= 4 * devices), 1)
    return math.ceil(runs / size)


def split_evenly(fleets: int, at_most: int) -> int:
    """Return the size of the fewest, most even parts of `fleets`: 4 for 8 fleets of which 7 fit."""
    return math.ceil(fleets / math.ceil(fleets / at_most))


def _count_fitting(config: Config, fleets: int, devices: int, audio_bytes: float, group_size: int) -> int:
    memory_bytes = hardware.memory_limit()
    if hardware.platform() != "gpu" or memory_bytes is None:
        return 1
    # a group of two to five variants counts as one of six, whose memory is known
    fitting = count_fitting_fleets(config, devices, variants_per_group=6 if group_size > 1 else 1)
    audio_fits = DEVICE_SHARE * memory_bytes / audio_bytes
    if config.data.resident != "host" and audio_fits >= 1:
        fitting = min(fitting, audio_fits)
    per_device_group = math.ceil(fleets / config.parallel.device_groups)
    return max(1, min(MOST_FLEETS, per_device_group, int(fitting)))
