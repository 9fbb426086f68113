"""An evaluation opened again: the one way of `score`, `report` and `export` to its models and banks.

Reads the evaluation's folder, the checkpoints that it judged and each fleet's task.json; the recordings that the
models were trained on need not be there any more.

Letters: n clips, q queries, d embedding.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from asdjax import configfile
from asdjax.config import Config
from asdjax.corpus.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation import embeddings, results
from asdjax.evaluation.backends import Scorer, scorer_of
from asdjax.evaluation.bank import Scoring, bank_of, group_of, grouped
from asdjax.evaluation.embeddings import Checkpointed
from asdjax.evaluation.ensembles import SCALES, Scale
from asdjax.training import checkpoints, fleet, optimizer, record
from asdjax.training.fleet import FleetSpec, Model


class Member(NamedTuple):
    """One model of a system: its variant, how it scores pieces, and what the system averages of that."""

    variant: str
    scorer: Scorer
    scale: Scale

    def score(self, vectors: np.ndarray) -> np.ndarray:
        """What the system averages of pieces, given as unit embeddings: (q, d) -> (q,) float64."""
        return self.scale(self.scorer(vectors).astype(np.float64))


class Loaded(NamedTuple):
    """A checkpoint's models, and the spec to embed by those that are asked for."""

    spec: FleetSpec
    model: Model


class Checkpoint(NamedTuple):
    """A checkpoint that was judged, the `variants` of it that are asked for, and what the evaluation, made by `config`,
    has kept of them."""

    workdir: Path
    run: str
    line: str
    step: int
    variants: tuple[str, ...]
    kept: Checkpointed
    config: Config

    @property
    def name(self) -> str:
        """As results.json has it."""
        return f"{self.run}/{self.line}"

    def load(self) -> Loaded:
        """Read the models; raises InputError where they are gone or damaged."""
        spec = fleet.spec_of(self.config, record.number_of_classes(self.workdir / self.run), optimizer.GROUPS)
        return Loaded(spec._replace(variants=self.variants), restored(spec, self.workdir / self.name, self.step))

    def bank_for(self, clip: Clip) -> list[int]:
        """The numbers of the training clips that a clip is held against; none where there is no such bank."""
        how = self.config.evaluate.bank
        return grouped(self.kept.bank.clips, how).get(group_of(clip, how), [])

    def members(self, clip: Clip, ensemble: str) -> list[Member]:
        """The models as they score a clip that has a bank, with what an ensemble of this kind averages of them."""
        scoring, bank, numbers = Scoring.of(self.config), self.kept.bank, self.bank_for(clip)
        return [
            Member(
                variant,
                scorer_of(bank_of(bank.clips, numbers, bank.pieces, variant), scoring),
                SCALES[ensemble](self.kept.scores_of(variant, clip.machine)),
            )
            for variant in self.variants
        ]


class Evaluation(NamedTuple):
    """An evaluation as it lies in `folder`: `results` is results.json, `config` the run's, as the evaluation had it."""

    workdir: Path
    folder: Path
    results: dict[str, Any]
    config: Config

    def checkpoints(self, machine: str, models: Sequence[str]) -> list[Checkpoint]:
        """The checkpoints that hold some models of a machine type, named as in results.json.

        Raises InputError where what was kept of them is missing or damaged.
        """
        variants: dict[tuple[str, str], list[str]] = {}
        for run, line, variant in (self.results["models"][machine][model] for model in models):
            variants.setdefault((run, line), []).append(variant)
        return [self._checkpoint(*place, tuple(of_place)) for place, of_place in variants.items()]

    def _checkpoint(self, run: str, line: str, variants: tuple[str, ...]) -> Checkpoint:
        step = self.results["checkpoints"][f"{run}/{line}"]
        kept = embeddings.load(self.folder, run, line, variants)
        return Checkpoint(self.workdir, run, line, step, variants, kept, self.config)


def open_evaluation(config: Config, workdir: Path, split: str | None) -> Evaluation:
    """Open an evaluation; `split` as in `results.folder_of`.

    `config` is the work directory's, and stays as it is; how clips are scored is as it was when they were evaluated,
    and so is the precision, whichever this device's usual one is: thresholds hold for no other. Raises InputError where
    nothing was evaluated, or it is damaged.
    """
    folder = results.folder_of(workdir, split)
    found = results.read(folder)
    config = copy.deepcopy(config)
    config.evaluate.update(configfile.tuples(found["settings"]))
    config.train.precision = found["precision"]
    return Evaluation(workdir, folder, found, config)


def restored(spec: FleetSpec, line: Path, step: int) -> Model:
    """A step of a line to evaluate or score with, on the device; raises InputError where it is gone or damaged."""
    try:
        return jax.device_put(checkpoints.restore(line, step, {"model": fleet.abstract_model(spec)})["model"])
    except checkpoints.Damaged as damage:  # a training that goes on forgets old steps
        raise InputError(f"{damage}; run asdjax evaluate again") from None
