"""What a configuration would train: its machine types, how much audio each has, and for how many steps."""

import heapq
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asdjax.config.fields import Config
from asdjax.data.access import open_corpus
from asdjax.data.audio import converted_length, read_header
from asdjax.data.clips import Clip, Corpus, Domain
from asdjax.data.synthetic.machines import MACHINES
from asdjax.data.tasks import Task, hold_out, make_tasks
from asdjax.fleet.runs import list_lines
from asdjax.training.grouping import group_key

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

    def steps_in_turn(self, sizes: Sequence[int], rows: int) -> int:
        """How many steps follow one another until all is trained, in stacks of a size for each kind, on so many rows of
        devices: a stack's phase goes on until the last of its fleets is done, and a row that is done takes the next.
        """
        taken = [0] * rows
        for fleets, size in zip(self.kinds, sizes, strict=True):
            for i in range(0, len(fleets), size):
                steps = sum(map(max, zip(*fleets[i : i + size], strict=True)))
                heapq.heapreplace(taken, taken[0] + steps)
        return max(taken)


def make_work(config: Config) -> Work:
    """What `config.data.root` holds, or where no such folder is here, what 2021's seven machine types held."""
    roots = [Path(root) for root in config.data.root]
    assumed = not any(root.exists() for root in roots)
    corpus = _like_2021(config) if assumed else open_corpus(config)
    tasks = make_tasks(corpus, config.data.classes)
    largest = max(tasks, key=lambda task: (len(task.classes), len(task.clips)))
    trained, _ = hold_out(largest, config.train.holdout_fraction)
    rate = config.signal.sample_rate_hz
    lengths = [rate * _SECONDS if assumed else converted_length(read_header(clip.path), rate) for clip in trained.clips]
    kinds: dict[tuple, list[Steps]] = {}
    for task in tasks:
        of_seeds = len(config.seed) * [tuple(list_lines(config, task).values())]
        kinds.setdefault(group_key(config, task), []).extend(of_seeds)
    absent = f"{', '.join(config.data.root)} is not here: planned for clips as many and as long as in 2021"
    return Work(
        absent if assumed else ", ".join(config.data.root),
        trained,
        lengths,
        tuple(map(tuple, kinds.values())),
    )


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
