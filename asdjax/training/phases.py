"""The two phases and the strategies of the second, as data."""

from typing import NamedTuple

from asdjax.config import Config, phase1_steps
from asdjax.corpus.tasks import Task
from asdjax.training import optimizer, sampler
from asdjax.training.sampler import Plan

PHASE1 = "phase1"


class Phase(NamedTuple):
    """One checkpoint line: its folder's name, its length in steps, which groups train, what is drawn, and the
    line that it starts from (None: from scratch)."""

    name: str
    steps: int
    trainable: tuple[str, ...]
    plan: Plan
    after: str | None


def phases_of(config: Config, task: Task, plan: Plan) -> list[Phase]:
    """Phase 1, then a phase 2 for each strategy, all from phase 1's end.

    Only phase 1 where no section has target clips (and classes to mix them with).
    """
    phases = [Phase(PHASE1, phase1_steps(config, task.source_clips), optimizer.GROUPS, plan, None)]
    fine_tuning = sampler.fine_tuning(plan)
    if fine_tuning is None:
        return phases
    for strategy in config.phase2.strategies:
        trainable = optimizer.TRAINABLE[strategy]
        phases.append(Phase(f"phase2_{strategy}", config.phase2.steps, trainable, fine_tuning, PHASE1))
    return phases
