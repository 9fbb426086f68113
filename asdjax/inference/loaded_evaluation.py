"""An evaluation loaded from disk: the models, banks and scores that `score`, `report` and `export` share.

It reads the evaluation's folder and the evaluated checkpoints. config.json and the training recordings are not needed.
A checkpoint that was trained again since is refused, because banks and thresholds belong to the evaluated model.

Letters: n clips, q queries, d embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.fleet import checkpoints, fleet_model
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.inference import log_mel_statistics, stored_embeddings, stored_results
from asdjax.inference.backends import Scorer, make_scorer
from asdjax.inference.bank import Scoring, group_clips, make_bank, make_bank_key
from asdjax.inference.ensembles import NORMALISERS, Normaliser
from asdjax.inference.stored_embeddings import Checkpointed


class Member(NamedTuple):
    """One model of a system: its variant, the scorer of its pieces and the normaliser of the system's average."""

    variant: str
    scorer: Scorer
    normaliser: Normaliser

    def normalise(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores of pieces or clips (n,) as the system averages them, float64."""
        return self.normaliser(scores.astype(np.float64))


class Loaded(NamedTuple):
    """The models of a checkpoint. `spec` embeds only the selected variants."""

    spec: ModelSpec
    model: Model


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """An evaluated checkpoint, with the selected variants and the data that the evaluation stored for them.

    `digest` identifies the model, `classes` counts its classes, and `config` is the evaluation's configuration.
    """

    workdir: Path
    run: str
    line: str
    step: int
    digest: str
    classes: int
    variants: tuple[str, ...]
    kept: Checkpointed
    config: Config

    @property
    def name(self) -> str:
        """Return the checkpoint's name in results.json, `<run>/<line>`."""
        return f"{self.run}/{self.line}"

    def load(self) -> Loaded:
        """Read the models. Raises InputError if they are missing, damaged or were trained again since."""
        spec = fleet_model.make_spec(self.config, self.classes)
        model = restore_model(spec, self.workdir / self.name, self.step, self.digest)
        return Loaded(replace(spec, variants=self.variants), model)

    def is_there(self) -> bool:
        """Return True if the step still exists. Raises InputError if another model replaced it."""
        try:
            found = checkpoints.read_digest(self.workdir / self.name, self.step)
        except checkpoints.Damaged:
            return False
        if found != self.digest:
            raise _replaced_error(self.workdir / self.name, self.step)
        return True

    def bank_for(self, clip: Clip) -> list[int]:
        """Return the numbers of the training clips in the bank for a clip; empty without a bank."""
        how = self.config.evaluate.bank
        return group_clips(self.kept.bank.clips, how).get(make_bank_key(clip, how), [])

    def members(self, clip: Clip, normaliser: str) -> list[Member]:
        """Return the models with their scorers for a clip that has a bank; `normaliser` is a key of NORMALISERS."""
        scoring, bank, numbers = Scoring.from_config(self.config), self.kept.bank, self.bank_for(clip)
        return [
            Member(
                variant,
                make_scorer(make_bank(bank.clips, numbers, bank.pieces, variant), scoring),
                NORMALISERS[normaliser](self.kept.scores_of(variant, clip.machine)),
            )
            for variant in self.variants
        ]


class Evaluation(NamedTuple):
    """An evaluation in `folder`: the content of results.json, and the configuration that it was made with."""

    workdir: Path
    folder: Path
    results: dict[str, Any]
    config: Config

    def checkpoints(self, machine: str, models: Sequence[str]) -> list[Checkpoint]:
        """Return the checkpoints of some models of a machine type, named as in results.json.

        Raises InputError if the stored embeddings are missing or damaged.
        """
        variants: dict[tuple[str, str], list[str]] = {}
        for run, line, variant in (self.results["models"][machine][model] for model in models):
            variants.setdefault((run, line), []).append(variant)
        return [self._load_checkpoint(*place, tuple(selected)) for place, selected in variants.items()]

    def load_statistics(self, machine: str) -> Checkpointed:
        """Return the stored data of a machine type's simple detectors.

        Raises InputError if they are missing or damaged.
        """
        return stored_embeddings.load(self.folder / stored_embeddings.STATISTICS / machine, log_mel_statistics.NAMES)

    def _load_checkpoint(self, run: str, line: str, variants: tuple[str, ...]) -> Checkpoint:
        name = f"{run}/{line}"
        entry = self.results["evaluated"][name]
        return Checkpoint(
            workdir=self.workdir,
            run=run,
            line=line,
            step=self.results["checkpoints"][name],
            digest=entry["digest"],
            classes=entry["classes"],
            variants=variants,
            kept=stored_embeddings.load(self.folder / stored_embeddings.FOLDER / run / line, variants),
            config=self.config,
        )


def open_evaluation(
    workdir: Path,
    split: str | None,
    overrides: Mapping[str, str] = MappingProxyType({}),
    free: tuple[str, ...] = (),
) -> Evaluation:
    """Open an evaluation; `split` as in `stored_results.find_evaluation`.

    The configuration is the evaluation's own copy, not today's config.json. `overrides` may change fields that begin
    with one of `free`. The precision is the one that the evaluation computed in, because thresholds hold for no other.
    Raises InputError if the evaluation is missing or damaged.
    """
    folder = stored_results.find_evaluation(workdir, split)
    content = stored_results.read_results(folder)
    try:
        config = loading.parse(content["config"])
    except InputError as error:
        raise InputError(f"{folder}: {error}; run asdjax evaluate again") from None
    config.train.precision = content["precision"]
    loading.apply_changes(config, overrides, free)
    return Evaluation(workdir, folder, content, config)


def restore_model(spec: ModelSpec, line: Path, step: int, digest: str) -> Model:
    """Load the model of a saved step onto the device.

    Raises InputError if it is missing or damaged, or if its digest is not `digest`.
    """
    try:
        trees = checkpoints.restore(line, step, {"model": fleet_model.describe_model(spec)}, digest)
    except checkpoints.Replaced:
        raise _replaced_error(line, step) from None
    except checkpoints.Damaged as damage:  # training that continues deletes old steps
        if any(newer > step for newer in checkpoints.list_steps(line)):
            raise InputError(f"{damage}; run asdjax evaluate again") from None
        raise InputError(f"{damage}; {checkpoints.name_repair(line)}, and then asdjax evaluate") from None
    return jax.device_put(trees["model"])


def _replaced_error(line: Path, step: int) -> InputError:
    return InputError(
        f"{line}: expected step {step} as it was evaluated, got another model: {line.parent.name} was trained again "
        "since; run asdjax evaluate again"
    )
