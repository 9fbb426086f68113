"""The amount of training that a configuration asks for: fleets, clips, their lengths, and steps."""

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
from asdjax.errors import InputError
from asdjax.fleet.runs import list_lines
from asdjax.training.programs import make_program_key

# A machine type of 2021, development and additional training set together: training clips per section.
_SECTIONS, _SECONDS = 6, 10
_CLIPS: dict[Domain, int] = {"source": 1000, "target": 3}

#: Steps of one fleet, by phase.
Steps = tuple[int, ...]


class Work(NamedTuple):
    """Training that a configuration asks for.

    origin: folders of the recordings, or a note that 2021's were assumed. task: the one with the most classes and
    clips, without held-out clips. lengths: samples of each of its clips. kinds: for each group of fleets that may share
    a program, all seeds', the steps of each fleet.
    """

    origin: str
    task: Task
    lengths: Sequence[int]
    kinds: tuple[tuple[Steps, ...], ...]

    @property
    def fleets(self) -> int:
        """Return the number of fleets: tasks times seeds."""
        return sum(map(len, self.kinds))

    @property
    def longest(self) -> Steps:
        """Return the steps of the fleet with the most."""
        return max((steps for fleets in self.kinds for steps in fleets), key=sum)

    @property
    def steps(self) -> int:
        """Return the steps of all fleets together."""
        return sum(sum(steps) for fleets in self.kinds for steps in fleets)

    def consecutive_steps(self, sizes: Sequence[int], device_groups: int) -> int:
        """Return how many steps run one after another until everything is trained.

        sizes: fleets per program, for each kind. A program's phase ends when the last of its fleets has finished it. A
        group of devices that has finished a program takes the next.
        """
        steps_of_group = [0] * device_groups
        for fleets, size in zip(self.kinds, sizes, strict=True):
            for i in range(0, len(fleets), size):
                steps = sum(map(max, zip(*fleets[i : i + size], strict=True)))
                heapq.heapreplace(steps_of_group, steps_of_group[0] + steps)
        return max(steps_of_group)


def make_work(config: Config) -> Work:
    """Return the work for the recordings in `config.data.root`, or for 2021's seven machine types without them."""
    roots = [Path(root) for root in config.data.root]
    assumed = not any(root.exists() for root in roots)
    corpus = _make_corpus_like_2021(config) if assumed else open_corpus(config)
    tasks = [task for task in make_tasks(corpus, config.data.classes) if task.has_models]
    if not tasks:
        raise InputError(
            "config.data.root: expected two classes or more with source training clips, got no machine type with two "
            f"in {', '.join(config.data.root)}, so no models are trained and there is nothing to plan"
        )
    largest = max(tasks, key=lambda task: (len(task.classes), len(task.clips)))
    trained, _ = hold_out(largest, config.train.holdout_fraction)
    rate = config.signal.sample_rate_hz
    lengths = [rate * _SECONDS if assumed else converted_length(read_header(clip.path), rate) for clip in trained.clips]
    kinds: dict[tuple, list[Steps]] = {}
    for task in tasks:
        seeds = len(config.seed) * [tuple(list_lines(config, task).values())]
        kinds.setdefault(make_program_key(config, task), []).extend(seeds)
    folders = ", ".join(config.data.root)
    origin = f"{folders} not found: assumes the number and length of 2021's clips" if assumed else folders
    return Work(origin=origin, task=trained, lengths=lengths, kinds=tuple(map(tuple, kinds.values())))


def _make_corpus_like_2021(config: Config) -> Corpus:
    machines = config.data.machines or tuple(MACHINES)
    clips = [
        Clip(Path(f"{domain}_{i}.wav"), machine, f"{section:02}", "train", domain, "normal")
        for machine in machines
        for section in range(_SECTIONS)
        for domain, number in _CLIPS.items()
        for i in range(number)
    ]
    return Corpus("dcase2021", tuple(clips))
