"""`asdjax evaluate --watch`: an evaluation of each new checkpoint while training writes them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from types import MappingProxyType

from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.access import open_corpus
from asdjax.data.tasks import make_tasks
from asdjax.errors import InputError
from asdjax.evaluation import checkpoint_selection
from asdjax.evaluation.checkpoint_selection import Selection
from asdjax.evaluation.evaluate import EvaluationRequest, evaluate, require_possible
from asdjax.evaluation.results import Results
from asdjax.fleet.runs import Run, is_training, list_runs
from asdjax.runtime.progress import log

SECONDS_BETWEEN_LOOKS = 5.0
#: A training started at the same time imports JAX and lists the corpus before it locks the folders of runs.
LOOKS_FOR_A_START = 6
HISTORY = "history.jsonl"


def watch(
    workdir: Path, request: EvaluationRequest, overrides: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Results]:
    """Evaluate whenever a task has new checkpoints.

    It ends after the last checkpoints of a training, or when no process trains a run any more. Phase 1 is
    evaluated until phase 2 has saved a checkpoint; tasks without a checkpoint are left out. Each evaluation replaces
    the one before and appends a line to W/evaluation/<split>/history.jsonl: {"time", "checkpoints", "evaluated":
    {checkpoint: digest of its model}, "official": {system: x}}. Lines with equal digests belong to the same training.
    Raises InputError as `evaluate` does.
    """
    require_possible(request, overrides)  # before any wait
    _wait_for_config(workdir)
    config = loading.read(workdir, overrides)
    runs = list_runs(config, workdir, make_tasks(open_corpus(config), config.data.classes))
    checkpoint_selection.require_lines(config, runs)
    evaluated: Selection = {}
    while not (evaluated and checkpoint_selection.is_complete(config, runs, evaluated)):
        selection = _wait_for_checkpoints(workdir, config, runs, evaluated)
        if selection is None:
            return
        try:
            results = evaluate(
                workdir, request._replace(select=lambda config, runs, selection=selection: selection), overrides
            )
        except InputError:
            if checkpoint_selection.select_newest(config, runs) == selection:
                raise
            continue  # training has gone on and deleted the selected checkpoints
        evaluated = selection
        _append_history(results)
        yield results


def _wait_for_config(workdir: Path) -> None:
    """Wait until a training has written its configuration.

    A training locks its runs some time after its start, and writes the file after it has decoded the audio. The wait
    ends after LOOKS_FOR_A_START looks that find no locked run.
    """
    path, looks = workdir / loading.FILE, 0
    if not path.exists():
        log(f"{path} does not exist yet; waiting for a training to write it")
    while not path.exists() and (looks < LOOKS_FOR_A_START or is_training(workdir)):
        sleep(SECONDS_BETWEEN_LOOKS)
        looks += 1


def _wait_for_checkpoints(workdir: Path, config: Config, runs: Sequence[Run], evaluated: Selection) -> Selection | None:
    """Wait for new checkpoints. Return None, and log, if training has ended without any."""
    if not checkpoint_selection.select_newest(config, runs) and is_training(workdir):
        log("no checkpoint yet; waiting for the first")
    while True:
        training = is_training(workdir)  # read first: the last checkpoints are saved before the lock is released
        if (selection := checkpoint_selection.select_newest(config, runs)) != evaluated:
            return selection
        if not training:
            break
        sleep(SECONDS_BETWEEN_LOOKS)
    if not evaluated:
        raise InputError(f"{workdir}: expected checkpoints or a running training, got neither; run asdjax train first")
    log("no training is running any more, and it was stopped before its end; no checkpoint is left to evaluate")
    return None


def _append_history(results: Results) -> None:
    content = json.loads((results.folder / "results.json").read_text())
    row = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoints": content["checkpoints"],
        "evaluated": {name: entry["digest"] for name, entry in content["evaluated"].items()},
        "official": {name: system["official"] for name, system in results.content["systems"].items()},
    }
    with (results.folder / HISTORY).open("a") as file:
        file.write(json.dumps(row) + "\n")
