"""`asdjax evaluate --watch`: each new checkpoint judged as training writes it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from types import MappingProxyType

from asdjax import configfile
from asdjax.config import Config
from asdjax.corpus.access import open_corpus
from asdjax.corpus.tasks import tasks_of
from asdjax.errors import InputError
from asdjax.evaluation import choice
from asdjax.evaluation.choice import Chosen
from asdjax.evaluation.evaluate import Request, evaluate
from asdjax.evaluation.results import Results
from asdjax.progress import say
from asdjax.training.runs import Run, runs_of

SECONDS_BETWEEN_LOOKS = 5.0
HISTORY = "history.jsonl"


def watch(workdir: Path, request: Request, overrides: Mapping[str, str] = MappingProxyType({})) -> Iterator[Results]:
    """Evaluate whenever a task has new checkpoints, until those that training will end with have been judged.

    Before phase 2 has saved anything, phase 1 is judged; tasks that have saved nothing yet are left out. Each
    evaluation replaces the one before, and a line of W/evaluation/<split>/history.jsonl keeps its official scores:
    {"time", "checkpoints", "official": {system: x}}. Raises InputError as `evaluate` does.
    """
    config = configfile.read(workdir, overrides)
    runs = runs_of(config, workdir, tasks_of(open_corpus(config), config.data.classes))
    judged: Chosen = {}
    while not (judged and choice.is_complete(config, runs, judged)):
        chosen = _next(config, runs, judged)
        try:
            results = evaluate(workdir, request._replace(choose=lambda config, runs, chosen=chosen: chosen), overrides)
        except InputError:
            if choice.newest(config, runs) == chosen:
                raise
            continue  # training has gone on meanwhile, and forgotten what was to be judged
        judged = chosen
        _remember(results.folder, results)
        yield results


def _next(config: Config, runs: Sequence[Run], judged: Chosen) -> Chosen:
    """Wait for checkpoints that have not been judged."""
    if not choice.newest(config, runs):
        say("no checkpoint yet; waiting for the first")
    while (chosen := choice.newest(config, runs)) == judged:
        sleep(SECONDS_BETWEEN_LOOKS)
    return chosen


def _remember(folder: Path, results: Results) -> None:
    content = json.loads((folder / "results.json").read_text())
    row = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoints": content["checkpoints"],
        "official": {row.system: row.official for row in results.rows},
    }
    with (folder / HISTORY).open("a") as file:
        file.write(json.dumps(row) + "\n")
