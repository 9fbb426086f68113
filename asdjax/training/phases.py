"""The two phases and the strategies of the second, as data."""

from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from asdjax.config.fields import Config, count_phase1_steps, count_phase2_steps
from asdjax.data.tasks import Task, hold_out
from asdjax.training import optimizer, sampler
from asdjax.training.sampler import SOURCE, TARGET, SamplingTable

PHASE1 = "phase1"


class Phase(NamedTuple):
    """One checkpoint line: its folder's name, its length in steps, which groups train, each step's learning rate, what
    is drawn, and the phase whose end it starts from (None: from scratch)."""

    name: str
    steps: int
    trainable: tuple[str, ...]
    rates: np.ndarray
    plan: SamplingTable
    after: Self | None


def make_phase1_table(task: Task, frames: Sequence[int]) -> SamplingTable:
    """What phase 1 draws from: all clips of a task, of so many STFT frames each."""
    is_target = [clip.domain == "target" for clip in task.clips]
    return sampler.make_table(task.class_of_clip, is_target, frames, task.section_of_class)


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


def list_lines(config: Config, task: Task) -> dict[str, int]:
    """The checkpoint lines that training makes of a task, and how many steps each has in the end."""
    trained, _ = hold_out(task, config.train.holdout_fraction)
    lines = {PHASE1: count_phase1_steps(config, trained.source_clips)}
    if target_sections(trained):
        steps = count_phase2_steps(config, trained.source_clips)
        lines |= {f"phase2_{strategy}": steps for strategy in config.phase2.strategies}
    return lines


def make_phases(config: Config, task: Task, plan: SamplingTable) -> list[Phase]:
    """Phase 1, then a phase 2 for each strategy, all from phase 1's end; only phase 1 without target sections.

    `plan` is phase 1's, over the clips that are not held out.
    """
    lines = list_lines(config, task)
    steps = lines.pop(PHASE1)
    rates = optimizer.learning_rates(config.optimizer, config.optimizer.learning_rate, steps)
    phase1 = Phase(PHASE1, steps, optimizer.GROUPS, rates, plan, None)
    trained, _ = hold_out(task, config.train.holdout_fraction)
    fine_tuning = sampler.make_target_table(plan, target_sections(trained))
    phases = [phase1]
    for line, steps in lines.items():
        strategy = line.removeprefix("phase2_")
        peak = config.phase2.learning_rate[strategy] or config.optimizer.learning_rate
        rates = optimizer.learning_rates(config.optimizer, peak, steps)
        phases.append(Phase(line, steps, optimizer.TRAINABLE[strategy], rates, fine_tuning, phase1))
    return phases
