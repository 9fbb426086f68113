"""What a report goes on from: an evaluation's results, its clips, what it kept of the models, what training told."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.config.fields import Config
from asdjax.evaluation import clip_table
from asdjax.evaluation.clip_table import ClipRow
from asdjax.fleet import metric_log
from asdjax.inference.ensembles import ALL
from asdjax.inference.loaded_evaluation import Checkpoint, Evaluation, open_evaluation
from asdjax.inference.stored_results import select_seed
from asdjax.runtime.progress import log

HEADLINE = ALL
"""The system that figures and clips are shown of: it selects nothing."""


class ReportedFleet(NamedTuple):
    """A run whose models were judged: its name, its judged checkpoints by line, and the rows of its metrics.jsonl, none
    where a judged checkpoint is gone: they may be of another training."""

    name: str
    checkpoints: dict[str, Checkpoint]
    told: list[dict[str, Any]]

    @property
    def machines(self) -> tuple[str, ...]:
        """Its machine types, sorted."""
        first = next(iter(self.checkpoints.values()))
        return tuple(sorted({clip.machine for clip in first.kept.bank.clips}))

    @property
    def steps(self) -> dict[str, int]:
        """The judged steps by line."""
        return {line: checkpoint.step for line, checkpoint in self.checkpoints.items()}


class ReportInputs(NamedTuple):
    """An evaluation as it lies on disk.

    `results` is results.json, `config` the evaluation's; `seed` the one that is shown, of
    `seeds`; `rows` the headline system's clips, `fleets` that seed's runs.
    """

    folder: Path
    results: dict[str, Any]
    config: Config
    seeds: tuple[int, ...]
    seed: int
    rows: list[ClipRow]
    fleets: list[ReportedFleet]

    @property
    def machines(self) -> tuple[str, ...]:
        """Machine types with test clips, or all where none has any, sorted."""
        with_test = {row.clip.machine for row in self.rows if row.split == "test"}
        return tuple(sorted(with_test or {row.clip.machine for row in self.rows}))

    @property
    def detector(self) -> Mapping[str, Any]:
        """The headline system's thresholds and members in results.json, of the seed that is shown."""
        return select_seed(self.results["systems"][HEADLINE], self.seed)

    def fleet_of(self, machine: str) -> ReportedFleet:
        """The run that a machine type belongs to."""
        return next(fleet for fleet in self.fleets if machine in fleet.machines)


def read(workdir: Path, split: str | None, overrides: Mapping[str, str]) -> ReportInputs:
    """Read an evaluation; of `split` None the labelled one, if there is one.

    Raises InputError where nothing was evaluated, or something of it is missing.
    """
    evaluation = open_evaluation(workdir, split, overrides, ("data.store",))
    system = evaluation.results["systems"][HEADLINE]
    seeds = tuple(system.get("seeds", evaluation.config.seed))
    name = HEADLINE if len(seeds) == 1 else f"{HEADLINE}@{seeds[0]}"
    rows = clip_table.read(evaluation.folder / "clips" / f"{name}.csv", evaluation.results["clips"][name])
    fleets = _fleets(evaluation, select_seed(system, seeds[0])["members"])
    return ReportInputs(evaluation.folder, evaluation.results, evaluation.config, seeds, seeds[0], rows, fleets)


def _fleets(evaluation: Evaluation, members: Mapping[str, Sequence[str]]) -> list[ReportedFleet]:
    """The runs whose models a system averages, given by machine type; those of one run are the same for all of its."""
    fleets: dict[str, ReportedFleet] = {}
    for machine, models in members.items():
        run, _, _ = evaluation.results["models"][machine][models[0]]
        if run not in fleets:
            by_line = {checkpoint.line: checkpoint for checkpoint in evaluation.checkpoints(machine, models)}
            fleets[run] = ReportedFleet(run, by_line, _metric_rows(evaluation.workdir / run, by_line.values()))
    return list(fleets.values())


def _metric_rows(run: Path, judged: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl; raises InputError where its judged checkpoints were replaced."""
    there = [checkpoint.is_there() for checkpoint in judged]
    if not all(there):
        log(f"{run}: training curves are left out, as a checkpoint that was judged is gone")
        return []
    return metric_log.read(run / metric_log.FILE)
