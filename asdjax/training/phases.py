"""The two phases and the strategies of the second, as data."""

from typing import NamedTuple, Self

import numpy as np

from asdjax.config import Config, phase1_steps
from asdjax.corpus.tasks import Task
from asdjax.training import optimizer, sampler
from asdjax.training.sampler import SOURCE, TARGET, Plan

PHASE1 = "phase1"


class Phase(NamedTuple):
    """One checkpoint line: its folder's name, its length in steps, which groups train, what is drawn, and the
    phase whose end it starts from (None: from scratch)."""

    name: str
    steps: int
    trainable: tuple[str, ...]
    plan: Plan
    after: Self | None


def target_sections(task: Task) -> tuple[int, ...]:
    """The sections that phase 2 draws from: those with target clips, and another class to mix them with."""
    sizes = np.zeros((len(task.classes), 2), int)
    for clip, klass in zip(task.clips, task.class_of_clip, strict=True):
        sizes[klass, TARGET if clip.domain == "target" else SOURCE] += 1
    sections = np.asarray(task.section_of_class)
    eligible = []
    for section in np.unique(sections):
        drawable = np.where(sections == section, sizes[:, TARGET], sizes[:, SOURCE]) > 0
        if drawable[sections == section].any() and drawable.sum() >= 2:
            eligible.append(int(section))
    return tuple(eligible)


def lines_of(config: Config, task: Task) -> dict[str, int]:
    """The checkpoint lines that training makes of a task, and how many steps each has in the end."""
    lines = {PHASE1: phase1_steps(config, task.source_clips)}
    if target_sections(task):
        lines |= {f"phase2_{strategy}": config.phase2.steps for strategy in config.phase2.strategies}
    return lines


def phases_of(config: Config, task: Task, plan: Plan) -> list[Phase]:
    """Phase 1, then a phase 2 for each strategy, all from phase 1's end; only phase 1 without target sections."""
    lines = lines_of(config, task)
    phase1 = Phase(PHASE1, lines.pop(PHASE1), optimizer.GROUPS, plan, None)
    fine_tuning = sampler.fine_tuning(plan, target_sections(task))
    return [
        phase1,
        *(
            Phase(line, steps, optimizer.TRAINABLE[line.removeprefix("phase2_")], fine_tuning, phase1)
            for line, steps in lines.items()
        ),
    ]
