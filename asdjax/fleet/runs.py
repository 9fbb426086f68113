"""Run: a fleet with a seed; the runs of a configuration, their folders and their checkpoint lines."""

from collections.abc import Sequence, Sized
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asdjax.config.fields import PHASE1, Config, count_phase1_steps, count_phase2_steps, name_phase2
from asdjax.data.tasks import Task, hold_out
from asdjax.runtime.files import is_locked


class Run(NamedTuple):
    """A fleet with a seed: its task, its seed and its folder."""

    name: str
    task: Task
    seed: int
    folder: Path


def list_runs(config: Config, workdir: Path, tasks: Sequence[Task]) -> list[Run]:
    """Return every task with every seed: W/<task>, with several seeds W/<task>@<seed>."""
    runs = []
    for task in tasks:
        for seed in config.seed:
            name = add_seed(task.name, seed, config.seed)
            runs.append(Run(name, task, seed, workdir / name))
    return runs


def add_seed(name: str, seed: int | str | None, seeds: Sized) -> str:
    """Return the name of one seed's run, model or system: `<name>@<seed>` if there are several seeds, else `name`."""
    return f"{name}@{seed}" if len(seeds) > 1 else name


def is_training(workdir: Path) -> bool:
    """Return whether a process is at work in the folder of a run; False on a disk that cannot lock."""
    return workdir.is_dir() and any(is_locked(folder) for folder in workdir.iterdir() if folder.is_dir())


def list_lines(config: Config, task: Task) -> dict[str, int]:
    """Return the checkpoint lines that training writes for a task with models, and the number of steps of each."""
    if not task.has_models:
        return {}
    trained, _ = hold_out(task, config.train.holdout_fraction)
    lines = {PHASE1: count_phase1_steps(config, trained.source_clips)}
    if list_target_sections(trained):
        steps = count_phase2_steps(config, trained.source_clips)
        lines |= dict.fromkeys(map(name_phase2, config.phase2.strategies), steps)
    return lines


def list_target_sections(task: Task) -> tuple[int, ...]:
    """Return the sections that phase 2 draws from: those with target clips, and another class to mix them with.

    The rule is that of the sampler, which draws nothing from the others (asdjax/training/sampler.py).
    """
    source, target = np.zeros((2, len(task.classes)), int)
    for clip, class_index in zip(task.clips, task.class_of_clip, strict=True):
        (target if clip.domain == "target" else source)[class_index] += 1
    sections = np.asarray(task.section_of_class)
    eligible = []
    for section in np.unique(sections):
        drawable = np.where(sections == section, target, source) > 0
        if drawable[sections == section].any() and drawable.sum() >= 2:
            eligible.append(int(section))
    return tuple(eligible)
