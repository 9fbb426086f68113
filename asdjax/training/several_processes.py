"""The start of a training by several processes of one program: the first prepares and decides, then the others follow.

Skip it unless you train on several hosts at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from asdjax import errors
from asdjax.errors import InputError
from asdjax.fleet.runs import Run
from asdjax.runtime import processes
from asdjax.training.failures import Failure
from asdjax.training.prepare import PreparedRuns
from asdjax.training.programs import ProgramRuns

_PREPARING = "checking and decoding the recordings"


def prepare_in_turn(prepare: Callable[[Sequence[str]], PreparedRuns], names: Sequence[str]) -> PreparedRuns:
    """Prepare the named runs in the first process, which locks them and builds stores, and then in all others.

    Raises InputError in all processes if one of the others cannot read what the first one can.
    """
    own: list[PreparedRuns] = []

    def prepare_first() -> dict[str, Any]:
        own.append(prepare(names))
        failures = [[list(failed), type(error).__name__, str(error)] for failed, error in own[0].failures]
        return {"runs": [run.name for run in own[0].runs], "failures": failures}

    outcome, problem = processes.decide(_PREPARING, prepare_first), ""
    if not own:
        try:
            own.append(_follow(prepare, outcome))
        except InputError as error:
            problem = str(error)
    for process, other in enumerate(processes.gather(_PREPARING, problem)):
        if other:
            raise InputError(f"process {process}: {other}")
    return own[0]


def _follow(prepare: Callable[[Sequence[str]], PreparedRuns], outcome: Mapping[str, Any]) -> PreparedRuns:
    """Prepare the runs that the first process could prepare; the failures are those of the first process."""
    failures: list[Failure] = [(names, getattr(errors, kind)(why)) for names, kind, why in outcome["failures"]]
    if not outcome["runs"]:
        return PreparedRuns(runs=(), recordings={}, clips={}, failures=failures)
    prepared = prepare(outcome["runs"])
    for _, error in prepared.failures:
        raise error
    return replace(prepared, failures=failures)


def agree_on_programs(
    runs: Sequence[Run], make: Callable[[Sequence[Run]], Sequence[ProgramRuns]]
) -> Sequence[ProgramRuns]:
    """Return the programs that the first process makes of the runs."""
    by_name = {run.name: run for run in runs}

    def make_first() -> list[tuple[list[str], int]]:
        return [([run.name for run in program.runs], program.variants_per_group) for program in make(runs)]

    return [
        ProgramRuns(runs=[by_name[name] for name in names], variants_per_group=size)
        for names, size in processes.decide("programs", make_first)
    ]
