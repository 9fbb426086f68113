"""Which fleets a configuration trains, and where each lies in the work directory."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from asdjax.config import Config
from asdjax.corpus.tasks import Task
from asdjax.errors import InputError

RESERVED = ("store", "evaluation")
"""Folders of a work directory that hold no fleet."""


class Run(NamedTuple):
    """One fleet: a task with one seed, and its folder."""

    name: str
    task: Task
    seed: int
    folder: Path


def runs_of(config: Config, workdir: Path, tasks: Sequence[Task]) -> list[Run]:
    """Every task with every seed: W/<task>, with several seeds W/<task>@<seed>.

    Raises InputError for a machine type whose folder in the work directory means something else.
    """
    several = len(config.seed) > 1
    runs = []
    for task in tasks:
        if task.name in RESERVED:
            raise InputError(
                f"config.data.root: a machine type cannot be called {task.name}, which is a folder of every work "
                "directory; rename it"
            )
        for seed in config.seed:
            name = f"{task.name}@{seed}" if several else task.name
            runs.append(Run(name, task, seed, workdir / name))
    return runs
