"""Runs of a configuration, and their folders in the work directory."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asdjax.config.fields import Config
from asdjax.data.tasks import Task


class Run(NamedTuple):
    """Training of one fleet: a task with one seed, and its folder."""

    name: str
    task: Task
    seed: int
    folder: Path


def list_runs(config: Config, workdir: Path, tasks: Sequence[Task]) -> list[Run]:
    """Return every task with every seed, in W/<task>, or in W/<task>@<seed> if there are several seeds."""
    several = len(config.seed) > 1
    runs = []
    for task in tasks:
        for seed in config.seed:
            name = f"{task.name}@{seed}" if several else task.name
            runs.append(Run(name, task, seed, workdir / name))
    return runs
