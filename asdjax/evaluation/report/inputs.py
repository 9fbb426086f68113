"""What a report goes on from: an evaluation's results, its clips, what it kept of the models, what training told."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from asdjax import configfile, journal
from asdjax.config import Config
from asdjax.errors import InputError
from asdjax.evaluation import clip_table, embeddings, results
from asdjax.evaluation.clip_table import Row
from asdjax.evaluation.embeddings import Checkpointed
from asdjax.evaluation.ensembles import ALL

HEADLINE = ALL
"""The system that figures and clips are shown of: it selects nothing."""


class Fleet(NamedTuple):
    """A run whose models were judged: name, folder, by checkpoint line the judged step and what the evaluation kept of
    it, and the rows of its metrics.jsonl."""

    name: str
    folder: Path
    steps: dict[str, int]
    kept: dict[str, Checkpointed]
    told: list[dict[str, Any]]

    @property
    def machines(self) -> tuple[str, ...]:
        """Its machine types, sorted."""
        first = next(iter(self.kept.values()))
        return tuple(sorted({clip.machine for clip in first.bank.clips}))


class Inputs(NamedTuple):
    """An evaluation as it lies on disk.

    `results` is results.json, `config` the run's with the evaluation's settings; `seed` the one that is shown, of
    `seeds`; `rows` the headline system's clips, `fleets` that seed's runs.
    """

    folder: Path
    results: dict[str, Any]
    config: Config
    seeds: tuple[int, ...]
    seed: int
    rows: list[Row]
    fleets: list[Fleet]

    @property
    def machines(self) -> tuple[str, ...]:
        """Machine types with test clips, or all where none has any, sorted."""
        with_test = {row.clip.machine for row in self.rows if row.split == "test"}
        return tuple(sorted(with_test or {row.clip.machine for row in self.rows}))

    @property
    def detector(self) -> Mapping[str, Any]:
        """The headline system's thresholds and members in results.json, of the seed that is shown."""
        return results.of_seed(self.results["systems"][HEADLINE], self.seed)

    def fleet_of(self, machine: str) -> Fleet:
        """The run that a machine type belongs to."""
        return next(fleet for fleet in self.fleets if machine in fleet.machines)


def read(workdir: Path, split: str | None, overrides: Mapping[str, str]) -> Inputs:
    """Read an evaluation; of `split` None the labelled one, if there is one.

    Raises InputError where nothing was evaluated, or something of it is missing.
    """
    for field in overrides:
        if field.startswith(configfile.OF_EVALUATION):
            raise InputError(f"--config.{field}: settled by the evaluation; give it to asdjax evaluate, then report")
    config = configfile.read(workdir, overrides)
    folder = results.folder_of(workdir, split)
    found = results.read(folder)
    config.evaluate.update(configfile.tuples(found["settings"]))
    seeds = tuple(found["systems"][HEADLINE].get("seeds", config.seed))  # training may have begun others since
    name = HEADLINE if len(seeds) == 1 else f"{HEADLINE}@{seeds[0]}"
    rows = clip_table.read(folder / "clips" / f"{name}.csv")
    fleets = _fleets(workdir, folder, found["checkpoints"], config, seeds)
    return Inputs(folder, found, config, seeds, seeds[0], rows, fleets)


def _fleets(
    workdir: Path, folder: Path, checkpoints: Mapping[str, int], config: Config, seeds: tuple[int, ...]
) -> list[Fleet]:
    """The first seed's runs."""
    steps: dict[str, dict[str, int]] = {}
    for place, step in checkpoints.items():
        run, line = place.rsplit("/", 1)
        if len(seeds) == 1 or run.endswith(f"@{seeds[0]}"):
            steps.setdefault(run, {})[line] = step
    return [
        Fleet(
            run,
            workdir / run,
            lines,
            {line: embeddings.load(folder, run, line, config.variants) for line in lines},
            journal.read(workdir / run / journal.FILE),
        )
        for run, lines in steps.items()
    ]
