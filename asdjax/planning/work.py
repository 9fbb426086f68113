"""What a configuration would train: its machine types, how much audio each has, and for how many steps."""

import heapq
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asdjax.config import Config
from asdjax.corpus.access import open_corpus
from asdjax.corpus.audio import converted_length, read_header
from asdjax.corpus.clips import Clip, Corpus, Domain
from asdjax.corpus.machines import MACHINES
from asdjax.corpus.tasks import Task, hold_out, tasks_of
from asdjax.training.phases import lines_of
from asdjax.training.stacks import kind_of

_SECTIONS, _SECONDS = 6, 10
_CLIPS: dict[Domain, int] = {"source": 1000, "target": 3}
"""Of a machine type of 2021, development and additional training set together: clips of a section."""


Steps = tuple[int, ...]
"""Of a fleet, by phase."""


class Work(NamedTuple):
    """Where it is from; one task, the one with the most classes and clips, without what is held out; its clips' lengths
    in samples; and of each kind of fleets that may train in one program, all seeds', the steps of each."""

    origin: str
    task: Task
    lengths: Sequence[int]
    kinds: tuple[tuple[Steps, ...], ...]

    @property
    def fleets(self) -> int:
        """Every task with every seed."""
        return sum(map(len, self.kinds))

    @property
    def steps(self) -> int:
        """Of all fleets together."""
        return sum(sum(steps) for fleets in self.kinds for steps in fleets)

    @property
    def most_alike(self) -> int:
        """Fleets of the largest kind."""
        return max(map(len, self.kinds))


def work_of(config: Config) -> Work:
    """What `config.data.root` holds, or where no such folder is here, what 2021's seven machine types held."""
    roots = [Path(root) for root in config.data.root]
    assumed = not any(root.exists() for root in roots)
    corpus = _like_2021(config) if assumed else open_corpus(config)
    tasks = tasks_of(corpus, config.data.classes)
    largest = max(tasks, key=lambda task: (len(task.classes), len(task.clips)))
    trained, _ = hold_out(largest, config.train.holdout_fraction)
    rate = config.signal.sample_rate_hz
    lengths = [rate * _SECONDS if assumed else converted_length(read_header(clip.path), rate) for clip in trained.clips]
    kinds: dict[tuple, list[Steps]] = {}
    for task in tasks:
        of_seeds = len(config.seed) * [tuple(lines_of(config, task).values())]
        kinds.setdefault(kind_of(config, task), []).extend(of_seeds)
    absent = f"{', '.join(config.data.root)} is not here: planned for clips as many and as long as in 2021"
    return Work(
        absent if assumed else ", ".join(config.data.root),
        trained,
        lengths,
        tuple(map(tuple, kinds.values())),
    )


def seconds_of(config: Config, work: Work, step_s: float) -> float:
    """Of all fleets, phases and seeds, where a step of those that train at a time takes so many seconds.

    A stack's phase goes on until the last of its fleets is done; a row of devices that is done takes the next stack.
    """
    rows = [0] * config.parallel.tasks_at_once
    for fleets in work.kinds:
        size = math.ceil(len(fleets) / math.ceil(len(fleets) / config.parallel.stacked))
        for i in range(0, len(fleets), size):
            heapq.heapreplace(rows, rows[0] + sum(map(max, zip(*fleets[i : i + size], strict=True))))
    return step_s * max(rows)


def _like_2021(config: Config) -> Corpus:
    machines = config.data.machines or tuple(MACHINES)
    clips = [
        Clip(Path(f"{domain}_{i}.wav"), machine, f"{section:02}", "train", domain, "normal")
        for machine in machines
        for section in range(_SECTIONS)
        for domain, number in _CLIPS.items()
        for i in range(number)
    ]
    return Corpus("dcase2021", tuple(clips))
