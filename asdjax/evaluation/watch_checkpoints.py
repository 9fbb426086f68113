"""`asdjax evaluate --watch`: each new checkpoint judged as training writes it."""

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
from asdjax.evaluation.checkpoint_selection import Chosen
from asdjax.evaluation.evaluate import EvaluationRequest, evaluate
from asdjax.evaluation.results import Results
from asdjax.fleet.runs import Run, list_runs
from asdjax.runtime.files import is_locked
from asdjax.runtime.progress import log

SECONDS_BETWEEN_LOOKS = 5.0
LOOKS_FOR_A_START = 6
"""A training that is started at the same time imports JAX and lists the corpus before it locks the work directory."""
HISTORY = "history.jsonl"


def watch(
    workdir: Path, request: EvaluationRequest, overrides: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Results]:
    """Evaluate whenever a task has new checkpoints, until those that training will end with have been judged, or
    nothing trains any more in the work directory, which training locks.

    Before phase 2 has saved anything, phase 1 is judged; tasks that have saved nothing yet are left out. Each
    evaluation replaces the one before, and a line of W/evaluation/<split>/history.jsonl keeps its official scores:
    {"time", "checkpoints", "judged": {checkpoint: digest of its model}, "official": {system: x}}; the digests show
    which lines are of one training. Raises InputError as `evaluate` does.
    """
    _wait_for_config(workdir)
    config = loading.read(workdir, overrides)
    runs = list_runs(config, workdir, make_tasks(open_corpus(config), config.data.classes))
    checkpoint_selection.require_lines(config, runs)
    judged: Chosen = {}
    while not (judged and checkpoint_selection.is_complete(config, runs, judged)):
        chosen = _next(workdir, config, runs, judged)
        if chosen is None:
            return
        try:
            results = evaluate(workdir, request._replace(choose=lambda config, runs, chosen=chosen: chosen), overrides)
        except InputError:
            if checkpoint_selection.newest(config, runs) == chosen:
                raise
            continue  # training has gone on meanwhile, and forgotten what was to be judged
        judged = chosen
        _remember(results.folder, results)
        yield results


def _wait_for_config(workdir: Path) -> None:
    """A training writes its configuration once it has decoded the audio; one that has only just been started does not
    even lock the work directory yet, so some looks go by before none is expected any more."""
    path, looks = workdir / loading.FILE, 0
    if not path.exists():
        log(f"{path} is not there yet; waiting for a training to write it")
    while not path.exists() and (looks < LOOKS_FOR_A_START or is_locked(workdir)):
        sleep(SECONDS_BETWEEN_LOOKS)
        looks += 1


def _next(workdir: Path, config: Config, runs: Sequence[Run], judged: Chosen) -> Chosen | None:
    """Wait for checkpoints that have not been judged; None, and it is said, where training has ended without any."""
    if not checkpoint_selection.newest(config, runs) and is_locked(workdir):
        log("no checkpoint yet; waiting for the first")
    while True:
        training = is_locked(workdir)  # asked first: what it saves last is there when it no longer is
        if (chosen := checkpoint_selection.newest(config, runs)) != judged:
            return chosen
        if not training:
            break
        sleep(SECONDS_BETWEEN_LOOKS)
    if not judged:
        raise InputError(
            f"{workdir}: expected checkpoints or a training at work, found neither; run asdjax train first"
        )
    log("no training is at work any more, and it has not come to its end; nothing is left to judge")
    return None


def _remember(folder: Path, results: Results) -> None:
    content = json.loads((folder / "results.json").read_text())
    row = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoints": content["checkpoints"],
        "judged": {name: judged["digest"] for name, judged in content["judged"].items()},
        "official": {row.system: row.official for row in results.rows},
    }
    with (folder / HISTORY).open("a") as file:
        file.write(json.dumps(row) + "\n")
