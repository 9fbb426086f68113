"""The two phases, and the fine-tuning strategies of the second, as data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from asdjax.config.fields import PHASE1, Config, name_phase2
from asdjax.data.tasks import Task, hold_out
from asdjax.fleet.runs import list_lines, list_target_sections
from asdjax.models.variants import PARAMETER_GROUPS
from asdjax.training import optimizer, sampler
from asdjax.training.sampler import SamplingTable


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Phase 1, or phase 2 by one strategy: the name of its checkpoint line, and what its steps depend on.

    `rates` (steps,) are learning rates, and batches are drawn from `table`. It starts from the end of the phase
    `after`, or for None from scratch.
    """

    name: str
    steps: int
    trainable: tuple[str, ...]
    rates: np.ndarray
    table: SamplingTable
    after: Self | None


def make_phase1_table(task: Task, frames: Sequence[int]) -> SamplingTable:
    """Return the sampling table of phase 1: all training clips of a task, of which it draws the source's."""
    is_target = [clip.domain == "target" for clip in task.clips]
    return sampler.make_table(task.class_of_clip, is_target, frames, task.section_of_class)


def make_phases(config: Config, task: Task, table: SamplingTable) -> list[Phase]:
    """Return phase 1, then a phase 2 for each strategy, each starting from the end of phase 1.

    Without target sections there is only phase 1. `table` is that of phase 1, without held-out clips.
    """
    lines = list_lines(config, task)
    steps = lines.pop(PHASE1)
    rates = optimizer.compute_learning_rates(config.optimizer, config.optimizer.learning_rate, steps)
    phase1 = Phase(name=PHASE1, steps=steps, trainable=PARAMETER_GROUPS, rates=rates, table=table, after=None)
    trained, _ = hold_out(task, config.train.holdout_fraction)
    target_table = sampler.make_target_table(table, list_target_sections(trained))
    phases = [phase1]
    for strategy in config.phase2.strategies if lines else ():
        line = name_phase2(strategy)
        peak = config.phase2.learning_rate[strategy] or config.optimizer.learning_rate
        phases.append(
            Phase(
                name=line,
                steps=lines[line],
                trainable=optimizer.TRAINABLE[strategy],
                rates=optimizer.compute_learning_rates(config.optimizer, peak, lines[line]),
                table=target_table,
                after=phase1,
            )
        )
    return phases
