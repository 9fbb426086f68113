"""An evaluation opened again: the one way of `score`, `report` and `export` to its models and banks.

Reads the evaluation's folder and the checkpoints that it judged; neither config.json nor the recordings that the models
were trained on need be there any more. A checkpoint that was trained again since is refused: banks and thresholds are
of the model that was evaluated.

Letters: n clips, q queries, d embedding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import numpy as np

from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation import results
from asdjax.fleet import checkpoints, fleet_model
from asdjax.fleet.fleet_model import Model, ModelSpec
from asdjax.inference import stored_embeddings
from asdjax.inference.backends import Scorer, make_scorer
from asdjax.inference.bank import Scoring, bank_group, group_clips, make_bank
from asdjax.inference.ensembles import SCALES, Scale
from asdjax.inference.stored_embeddings import Checkpointed


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

    spec: ModelSpec
    model: Model


class Checkpoint(NamedTuple):
    """A checkpoint that was judged, with the digest of its model and the number of its classes; the `variants` of it
    that are asked for, and what the evaluation, made by `config`, has kept of them."""

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
        """As results.json has it."""
        return f"{self.run}/{self.line}"

    def load(self) -> Loaded:
        """Read the models; raises InputError where they are gone or damaged, or were trained again since."""
        spec = fleet_model.make_spec(self.config, self.classes)
        model = restored(spec, self.workdir / self.name, self.step, self.digest)
        return Loaded(replace(spec, variants=self.variants), model)

    def is_there(self) -> bool:
        """Return whether the step is still there; raises InputError where another model has taken its place."""
        try:
            found = checkpoints.read_digest(self.workdir / self.name, self.step)
        except checkpoints.Damaged:
            return False
        if found != self.digest:
            raise _replaced(self.workdir / self.name, self.step)
        return True

    def bank_for(self, clip: Clip) -> list[int]:
        """The numbers of the training clips that a clip is held against; none where there is no such bank."""
        how = self.config.evaluate.bank
        return group_clips(self.kept.bank.clips, how).get(bank_group(clip, how), [])

    def members(self, clip: Clip, ensemble: str) -> list[Member]:
        """The models as they score a clip that has a bank, with what an ensemble of this kind averages of them."""
        scoring, bank, numbers = Scoring.of(self.config), self.kept.bank, self.bank_for(clip)
        return [
            Member(
                variant,
                make_scorer(make_bank(bank.clips, numbers, bank.pieces, variant), scoring),
                SCALES[ensemble](self.kept.scores_of(variant, clip.machine)),
            )
            for variant in self.variants
        ]


class Evaluation(NamedTuple):
    """An evaluation in `folder`: `results` is results.json, `config` the evaluation's own."""

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
        name = f"{run}/{line}"
        step = self.results["checkpoints"][name]
        model = self.results["judged"][name]
        kept = stored_embeddings.load(self.folder, run, line, variants)
        return Checkpoint(self.workdir, run, line, step, model["digest"], model["classes"], variants, kept, self.config)


def open_evaluation(
    workdir: Path,
    split: str | None,
    overrides: Mapping[str, str] = MappingProxyType({}),
    free: tuple[str, ...] = (),
) -> Evaluation:
    """Open an evaluation; `split` as in `results.folder_of`.

    Its configuration is the evaluation's own copy, whatever config.json holds today, with overrides of fields that
    begin with one of `free`. The precision is the one that the evaluation computed in, whichever this device's usual
    one is: thresholds hold for no other. Raises InputError where nothing was evaluated, or it is damaged.
    """
    folder = results.folder_of(workdir, split)
    found = results.read(folder)
    if not {"config", "judged"} <= found.keys():
        raise InputError(
            f"{folder}: expected an evaluation with a configuration of its own, got one of an earlier version of "
            "asdjax; run asdjax evaluate again"
        )
    try:
        config = loading.parsed(found["config"])
    except InputError as error:
        raise InputError(f"{folder}: {error}; run asdjax evaluate again") from None
    config.train.precision = found["precision"]
    loading.change(config, overrides, free)
    return Evaluation(workdir, folder, found, config)


def restored(spec: ModelSpec, line: Path, step: int, digest: str) -> Model:
    """Return the model of a saved step, to evaluate or score with, on the device.

    Raises InputError where it is gone or damaged, or where its model has another digest.
    """
    try:
        trees = checkpoints.restore(line, step, {"model": fleet_model.abstract_model(spec)}, digest)
    except checkpoints.Replaced:
        raise _replaced(line, step) from None
    except checkpoints.Damaged as damage:  # a training that goes on forgets old steps
        raise InputError(f"{damage}; run asdjax evaluate again") from None
    return jax.device_put(trees["model"])


def _replaced(line: Path, step: int) -> InputError:
    return InputError(
        f"{line}: expected step {step} as it was evaluated, got another model: {line.parent.name} was trained again "
        "since; run asdjax evaluate again"
    )
