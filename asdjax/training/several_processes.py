"""The start of a training by several processes of one program: the first prepares and decides, then the others follow.

Skip it unless you train on several hosts at once.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from asdjax import __version__, errors
from asdjax.config.fields import Config, flatten_fields
from asdjax.data.access import Recording
from asdjax.data.tasks import Task
from asdjax.errors import InputError
from asdjax.fleet import training_set
from asdjax.fleet.run_list import RunChoice
from asdjax.fleet.runs import Run
from asdjax.runtime import processes
from asdjax.training.failures import Failure
from asdjax.training.prepare import PreparedRuns
from asdjax.training.programs import ProgramRuns

# fields of which each host may have its own
_OWN_FIELDS = ("data.root", "data.store")


def require_same_command(config: Config, choice: RunChoice, names: Sequence[str]) -> None:
    """Raise InputError in all processes if one has other settings or runs to train, or another version of asdjax."""
    if processes.count() == 1:
        return
    values = {f"config.{name}": repr(value) for name, value in flatten_fields(config).items()}
    values = {name: value for name, value in values.items() if name.removeprefix("config.") not in _OWN_FIELDS}
    _require_same({**values, "--part, --only": repr(tuple(choice)), "runs": repr(names), "asdjax": __version__})


def _require_same(own: Mapping[str, str]) -> None:
    first, *others = processes.gather("the settings", own)
    for process, other in enumerate(others, start=1):
        for name, value in first.items():
            if other.get(name) != value:
                raise InputError(
                    f"process {process}: {name}: expected {value} as in process 0, got {other.get(name)}; give all "
                    "processes the same command and recordings"
                )


def prepare_in_turn(prepare: Callable[[Sequence[str]], PreparedRuns], names: Sequence[str]) -> PreparedRuns:
    """Prepare the named runs: in the first process, which locks them and builds stores, and then in all others.

    Raises InputError in all processes if one of the others cannot read what the first one can, or reads something else.
    """
    own: list[PreparedRuns] = []

    def prepare_first() -> dict[str, Any]:
        own.append(prepare(names))
        failures = [[list(failed), type(error).__name__, str(error)] for failed, error in own[0].failures]
        return {"runs": [run.name for run in own[0].runs], "failures": failures}

    outcome = processes.decide("checking and decoding the recordings", prepare_first)
    if not own:
        own.append(_follow(prepare, outcome))
    if processes.count() > 1:
        _require_same({f"clips of {run.name}": _digest(run.task, own[0].recordings) for run in own[0].runs})
    return own[0]


def _digest(task: Task, recordings: Mapping[str, Sequence[Recording]]) -> str:
    samples = zip(task.clips, recordings[task.name], strict=True)
    return training_set.digest_clips(task, {clip.path: recording.sha256 for clip, recording in samples})


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
