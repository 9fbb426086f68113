"""Judge a work directory's models: the order of operations. Reads the work directory and the corpus; trains nothing but
the auto-encoder, and that only on request."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.access import RecordedClips, Stores, open_corpus, open_stores, read_recordings
from asdjax.data.clips import Clip, Corpus
from asdjax.data.official_files import YEAR_OF_LAYOUT
from asdjax.data.tasks import Task, make_tasks
from asdjax.evaluation import checkpoint_selection, results, systems
from asdjax.evaluation.baselines import score_baselines, stored_autoencoders
from asdjax.evaluation.checkpoint_selection import Choose, Chosen, SelectedCheckpoint
from asdjax.evaluation.preconditions import (
    log_small_banks,
    require_allowed,
    require_density,
    select_scorable,
    select_test_clips,
)
from asdjax.evaluation.results import Results
from asdjax.evaluation.systems import Losses, Models
from asdjax.fleet import checkpoints, embed, fleet_model, metric_log, training_set
from asdjax.fleet.runs import Run, list_runs
from asdjax.inference import clip_scores, stored_embeddings
from asdjax.inference.bank import Scoring
from asdjax.inference.loaded_evaluation import restored
from asdjax.runtime.files import locked_folder
from asdjax.runtime.progress import track


class EvaluationRequest(NamedTuple):
    """What to judge: `dev` the test clips whose names tell their label, `eval` the others, whatever truth is known of
    them; which checkpoints make the models; whether the auto-encoder, too, is put beside them."""

    split: str = "dev"
    choose: Choose = checkpoint_selection.trained
    baselines: bool = False


def evaluate(workdir: Path, request: EvaluationRequest, overrides: Mapping[str, str] = MappingProxyType({})) -> Results:
    """Score all test clips, judge those of a split and write W/evaluation/<split>/; returns what was written.

    `overrides` as in `configfile.read`. Raises InputError where something is missing that this needs; an earlier
    evaluation then stands.
    """
    # 1. What was trained, on what.
    config = loading.read(workdir, overrides)
    corpus = open_corpus(config)
    require_allowed(config, corpus)
    require_density(config, corpus)
    judged = select_scorable(config, corpus, select_test_clips(corpus, request.split), request.split)
    folder = workdir / "evaluation" / request.split
    with locked_folder(folder, wait=False):
        results.fresh(folder, stored_embeddings.FOLDER)
        try:
            return _evaluated(config, workdir, corpus, judged, folder, request)
        finally:
            results.sweep(folder, stored_embeddings.FOLDER)


def _evaluated(
    config: Config, workdir: Path, corpus: Corpus, judged: Sequence[Clip], folder: Path, request: EvaluationRequest
) -> Results:
    # 2. Every clip's embeddings, kept for later, and its score by every model, seed by seed.
    runs = list_runs(config, workdir, make_tasks(corpus, config.data.classes))
    chosen = request.choose(config, runs)
    runs = [run for run in runs if run.name in chosen]
    _require_own_phase_1(runs, chosen)
    machines = {machine for run in runs for machine in run.task.machines}
    judged = [clip for clip in judged if clip.machine in machines]
    training_set.require_same_training(config, workdir, runs)
    tasks = {run.task.name: run.task for run in runs}
    stores = open_stores(config, workdir, corpus, sorted(machines))
    recorded = {name: _recorded(stores, corpus, task, request.split) for name, task in tasks.items()}
    log_small_banks(config, (of_task["bank"] for of_task in recorded.values()))
    by_seed: dict[int, Models] = {}
    for run in runs:
        models = _scored(
            config, run, chosen[run.name], recorded[run.task.name], folder / f"{stored_embeddings.FOLDER}.partial"
        )
        by_seed.setdefault(run.seed, {}).update(models)
    # 3. Single models, ensembles, baselines; thresholds, figures.
    year = YEAR_OF_LAYOUT[corpus.layout]
    judgements = {
        seed: systems.build_systems(config, year, models, judged, _held_out(runs, chosen, seed))
        for seed, models in by_seed.items()
    }
    joint = systems.build_joint_systems(config, year, by_seed, judged)
    simple = score_baselines.ALWAYS + (score_baselines.ON_REQUEST if request.baselines else ())
    joint |= systems.build_baselines(config, year, _baselines(config, workdir, recorded.values(), simple), judged)
    # 4. Files, results.json last.
    about = {"year": year, "split": request.split, **_about(config, runs, chosen, simple)}
    return results.write(folder, year, judgements, about, joint)


def _about(config: Config, runs: Sequence[Run], chosen: Chosen, simple: Sequence[str]) -> dict[str, Any]:
    """Return the entries of results.json on models, settings and the simple detectors of these names."""
    judged = {f"{run.name}/{one.line}": (run, one) for run in runs for one in chosen[run.name]}
    return {
        "checkpoints": {name: one.step for name, (_, one) in judged.items()},
        "judged": {
            name: {"digest": one.digest, "classes": len(run.task.classes)} for name, (run, one) in judged.items()
        },
        "config": config.to_dict(),
        "settings": config.evaluate.to_dict(),
        "precision": fleet_model.choose_precision(config),
        "models": _models(config, runs, chosen),
        "baselines": score_baselines.describe_baselines(config, simple),
    }


def _require_own_phase_1(runs: Sequence[Run], chosen: Chosen) -> None:
    """Raise InputError where a checkpoint of phase 2 began from another phase 1 than is there now."""
    for run in runs:
        for checkpoint in chosen[run.name]:
            with contextlib.suppress(checkpoints.Damaged):  # said where it is loaded
                checkpoints.require_same_start(run.folder / checkpoint.line, checkpoint.step)


def _recorded(stores: Stores, corpus: Corpus, task: Task, split: str) -> dict[str, RecordedClips]:
    """The training clips of a task's machine types, which make the banks, and their test clips: the labelled ones,
    which rank models, and of the split `eval` the others too."""
    wanted = [clip for clip in corpus.select(split="test") if split == "eval" or not clip.blind]
    test = [clip for clip in wanted if clip.machine in task.machines]
    return {
        what: RecordedClips(clips, read_recordings(stores, clips))
        for what, clips in (("bank", list(task.clips)), ("test", test))
    }


def _scored(
    config: Config, run: Run, chosen: Sequence[SelectedCheckpoint], recorded: Mapping[str, RecordedClips], kept: Path
) -> Models:
    """Clip scores of a run's clips by machine type, then by model; embeddings and scores are kept in a folder."""
    spec = fleet_model.make_spec(config, len(run.task.classes))
    bank, test = recorded["bank"].clips, recorded["test"].clips
    models: Models = {machine: {} for machine in run.task.machines}
    for checkpoint in chosen:
        model = restored(spec, run.folder / checkpoint.line, checkpoint.step, checkpoint.digest)
        embedded = {
            what: embed.embed_clips(
                spec,
                model,
                of_what.samples,
                stride_frames=config.evaluate.stride_frames,
                batch_size=config.evaluate.batch_size,
                what=f"{run.name} {checkpoint.line} {what}",
            )
            for what, of_what in recorded.items()
        }
        scored = {
            variant: clip_scores.score_clips(
                bank, embedded["bank"], test, embedded["test"], variant, Scoring.of(config)
            )
            for variant in track(spec.variants, f"{run.name} {checkpoint.line} score", len(spec.variants), "model")
        }
        stored_embeddings.save(kept, run.name, checkpoint.line, recorded, embedded, scored)
        for variant, of_variant in scored.items():
            for machine in run.task.machines:
                models[machine][variant + checkpoint.suffix] = of_variant.of_machine(machine)
    return models


def _models(config: Config, runs: Sequence[Run], chosen: Chosen) -> dict[str, dict[str, tuple[str, str, str]]]:
    """By machine type, then by model: the run, line and variant that it is, as embeddings/ has it."""
    models: dict[str, dict[str, tuple[str, str, str]]] = {}
    for run in runs:
        of_seed = f"@{run.seed}" if len(config.seed) > 1 else ""
        of_run = {
            f"{variant}{checkpoint.suffix}{of_seed}": (run.name, checkpoint.line, variant)
            for checkpoint in chosen[run.name]
            for variant in config.variants
        }
        for machine in run.task.machines:
            models.setdefault(machine, {}).update(of_run)
    return models


def _baselines(
    config: Config, workdir: Path, recorded: Iterable[Mapping[str, RecordedClips]], names: Sequence[str]
) -> Models:
    """Return clip scores of the named baselines, by machine type; they are the same beside the fleets of every seed."""
    return {
        machine: score_baselines.score_machine(
            config,
            machine,
            of_task["bank"].of_machine(machine),
            of_task["test"].of_machine(machine),
            workdir / "evaluation" / stored_autoencoders.FOLDER / machine,
            names,
        )
        for of_task in recorded
        for machine in sorted({clip.machine for clip in of_task["bank"].clips})
    }


def _held_out(runs: Sequence[Run], chosen: Chosen, seed: int) -> Losses:
    """What training has told of its held-out clips at the checkpoints that are judged."""
    losses: dict[str, dict[str, float | None]] = {}
    for run in runs:
        if run.seed == seed:
            rows = [row for row in metric_log.read(run.folder / metric_log.FILE) if "holdout_loss" in row]
            of_models = {
                variant + checkpoint.suffix: loss
                for checkpoint in chosen[run.name]
                for row in rows
                if (row["phase"], row["step"]) == (checkpoint.line, checkpoint.step)
                for variant, loss in row["holdout_loss"].items()
            }
            losses |= dict.fromkeys(run.task.machines, of_models)
    return losses
