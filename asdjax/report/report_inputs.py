"""Inputs of a report: an evaluation's results, clips and stored embeddings, and the metric logs of training."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.config.fields import Config
from asdjax.evaluation import clip_table
from asdjax.evaluation.clip_table import ClipRow
from asdjax.fleet import metric_log
from asdjax.fleet.runs import add_seed
from asdjax.inference import log_mel_statistics
from asdjax.inference.ensembles import ALL, OF_ALL_SEEDS
from asdjax.inference.loaded_evaluation import Checkpoint, Evaluation, open_evaluation
from asdjax.inference.stored_embeddings import Checkpointed
from asdjax.inference.stored_results import select_seed
from asdjax.runtime.progress import log


class ReportedRun(NamedTuple):
    """An evaluated run: its name, its evaluated checkpoints by line, and the rows of its metrics.jsonl.

    There are no rows if an evaluated checkpoint is gone, since they may then belong to another training. `simple` names
    the simple detectors of the headline system, and `statistics` has their stored data by machine type. A machine type
    without models is a run of its own, without checkpoints.
    """

    name: str
    checkpoints: dict[str, Checkpoint]
    metric_rows: list[dict[str, Any]]
    simple: tuple[str, ...]
    statistics: dict[str, Checkpointed]

    @property
    def machines(self) -> tuple[str, ...]:
        """Return the machine types, sorted."""
        return tuple(sorted(self.statistics))

    @property
    def steps(self) -> dict[str, int]:
        """Return the evaluated steps by checkpoint line."""
        return {line: checkpoint.step for line, checkpoint in self.checkpoints.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class ReportInputs:
    """An evaluation on disk.

    `results` is the content of results.json and `config` the evaluation's configuration. `headline` is the system of
    figures and clips, the evaluation's default system for one seed; no test label selected its models. The report shows
    one of the `seeds`: `rows` has the headline system's clips for that seed, `fleets` the runs with that seed.
    """

    folder: Path
    headline: str
    results: dict[str, Any]
    config: Config
    seeds: tuple[int, ...]
    rows: list[ClipRow]
    fleets: list[ReportedRun]

    @property
    def seed(self) -> int:
        """Return the seed of figures, thresholds and clips."""
        return self.seeds[0]

    @property
    def system(self) -> dict[str, Any]:
        """Return the headline system in results.json."""
        return self.results["systems"][self.headline]

    @property
    def machines(self) -> tuple[str, ...]:
        """Return the machine types that have test clips, or all if none has any, sorted."""
        with_test = {row.clip.machine for row in self.rows if row.split == "test"}
        return tuple(sorted(with_test or {row.clip.machine for row in self.rows}))

    @property
    def detector(self) -> Mapping[str, Any]:
        """Return the headline system's thresholds and members in results.json, for the seed of the report."""
        return select_seed(self.system, self.seed)

    def list_sensitivity(self, machine: str) -> dict[str, Mapping[str, Any]]:
        """Return the sensitivity of the headline system, the models' average and the simple detectors, if measured.

        With several seeds, that of the system of all seeds comes second.
        """
        measured = self.results["sensitivity"]
        names = [add_seed(name, self.seed, self.seeds) for name in dict.fromkeys((self.headline, ALL))]
        if self.results["default_system"] not in names:
            names.insert(1, self.results["default_system"])
        known = (name for name in (*names, *log_mel_statistics.NAMES) if machine in measured.get(name, {}))
        return {name: measured[name][machine] for name in known}

    def find_fleet(self, machine: str) -> ReportedRun:
        """Return the run of a machine type."""
        return next(fleet for fleet in self.fleets if machine in fleet.machines)


def read(workdir: Path, split: str | None, overrides: Mapping[str, str]) -> ReportInputs:
    """Read an evaluation. `split` None is the development set if it was evaluated, else the evaluation set.

    Raises InputError if there is no evaluation, or if a part of it is missing.
    """
    evaluation = open_evaluation(workdir, split, overrides, ("data.store",))
    default = evaluation.results["default_system"]
    headline = next((one for one, joint in OF_ALL_SEEDS.items() if joint == default), default)
    system = evaluation.results["systems"][headline]
    seeds = tuple(system.get("seeds", evaluation.config.seed))
    name = add_seed(headline, seeds[0], seeds)
    rows = clip_table.read(evaluation.folder / "clips" / f"{name}.csv", evaluation.results["clips"][name])
    return ReportInputs(
        folder=evaluation.folder,
        headline=headline,
        results=evaluation.results,
        config=evaluation.config,
        seeds=seeds,
        rows=rows,
        fleets=_list_fleets(evaluation, select_seed(system, seeds[0])),
    )


def _list_fleets(evaluation: Evaluation, system: Mapping[str, Any]) -> list[ReportedRun]:
    """Return the runs of a system's models. Machine types of one run have the same models."""
    fleets: dict[str, ReportedRun] = {}
    for machine, models in system["members"].items():
        run = evaluation.results["models"][machine][models[0]][0] if models else machine
        if run not in fleets:
            by_line = {checkpoint.line: checkpoint for checkpoint in evaluation.checkpoints(machine, models)}
            rows = _read_metric_rows(evaluation.workdir / run, by_line.values()) if by_line else []
            fleets[run] = ReportedRun(run, by_line, rows, tuple(system["baselines"]), {})
        fleets[run].statistics[machine] = evaluation.load_statistics(machine)
    return list(fleets.values())


def _read_metric_rows(run: Path, checkpoints: Iterable[Checkpoint]) -> list[dict[str, Any]]:
    """Read a run's metrics.jsonl. Raises InputError if an evaluated checkpoint was replaced."""
    present = [checkpoint.is_there() for checkpoint in checkpoints]
    if not all(present):
        log(f"{run}: an evaluated checkpoint is gone; the report has no training curves of this run")
        return []
    return metric_log.read(run / metric_log.FILE)
