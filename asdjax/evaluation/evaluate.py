"""`asdjax evaluate`: the evaluation of a work directory's models, from its checkpoints and the corpus.

Nothing is trained except the auto-encoder baseline, on request.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.access import RecordedClips, Stores, open_corpus, open_stores, read_recordings
from asdjax.data.clips import Corpus
from asdjax.data.official_files import YEAR_OF_LAYOUT
from asdjax.data.tasks import Task, make_tasks
from asdjax.errors import InputError
from asdjax.evaluation import checkpoint_selection, results, systems
from asdjax.evaluation.baselines import score_baselines, stored_autoencoders
from asdjax.evaluation.checkpoint_selection import Select, SelectedCheckpoint, Selection
from asdjax.evaluation.preconditions import (
    log_small_banks,
    require_allowed,
    require_density,
    select_scorable,
    select_test_clips,
)
from asdjax.evaluation.results import Results
from asdjax.evaluation.systems import Losses, ModelScores
from asdjax.fleet import checkpoints, embed, fleet_model, metric_log, training_set
from asdjax.fleet.runs import Run, list_runs
from asdjax.inference import clip_scores, stored_embeddings, stored_results
from asdjax.inference.bank import Scoring
from asdjax.inference.loaded_evaluation import restore_model
from asdjax.runtime.files import locked_folder
from asdjax.runtime.progress import track


class EvaluationRequest(NamedTuple):
    """Options of an evaluation.

    `split` "dev" evaluates the test clips with a label in their name, "eval" the others. `select` selects the
    checkpoints. `baselines` adds the auto-encoder.
    """

    split: str = "dev"
    select: Select = checkpoint_selection.select_trained
    baselines: bool = False


def evaluate(workdir: Path, request: EvaluationRequest, overrides: Mapping[str, str] = MappingProxyType({})) -> Results:
    """Score all test clips, compute the metrics of a split and write W/evaluation/<split>/.

    `overrides` as in `loading.read`. Raises InputError if something is missing; an earlier evaluation then remains.
    """
    # 1. Read the configuration and the corpus; select the test clips.
    config = _read_config(workdir, request, overrides)
    corpus = open_corpus(config)
    require_allowed(config, corpus)
    require_density(config, corpus)
    test_clips = select_scorable(config, corpus, select_test_clips(corpus, request.split), request.split)
    folder = workdir / "evaluation" / request.split
    with _locked(folder) as embeddings_folder:
        # 2. Select the checkpoints.
        runs = list_runs(config, workdir, make_tasks(corpus, config.data.classes))
        selection = request.select(config, runs)
        runs = [run for run in runs if run.name in selection]
        _require_own_phase_1(runs, selection)
        training_set.require_same_training(config, workdir, runs)
        # 3. Read the recordings.
        tasks = {run.task.name: run.task for run in runs}
        machines = sorted({machine for task in tasks.values() for machine in task.machines})
        test_clips = [clip for clip in test_clips if clip.machine in machines]
        stores = open_stores(config, workdir, corpus, machines)
        recorded = {name: _read_clips(stores, corpus, task, request.split) for name, task in tasks.items()}
        log_small_banks(config, (clips["bank"] for clips in recorded.values()))
        # 4. Embed and score every clip by every model, seed by seed; store embeddings and scores.
        by_seed: dict[int, ModelScores] = {}
        for run in runs:
            scores = _score_run(config, run, selection[run.name], recorded[run.task.name], embeddings_folder)
            by_seed.setdefault(run.seed, {}).update(scores)
        # 5. Make the systems: single models, ensembles and baselines, with thresholds and metrics.
        year = YEAR_OF_LAYOUT[corpus.layout]
        fleet_systems = {
            seed: systems.build_systems(config, year, scores, test_clips, _read_losses(runs, selection, seed))
            for seed, scores in by_seed.items()
        }
        joint = systems.build_joint_systems(config, year, by_seed, test_clips)
        names = score_baselines.ALWAYS + (score_baselines.ON_REQUEST if request.baselines else ())
        baselines = _score_baselines(config, workdir, recorded.values(), names)
        joint |= systems.build_baselines(config, year, baselines, test_clips)
        # 6. Write the files, results.json last.
        about = {"year": year, "split": request.split, **_describe(config, runs, selection, names)}
        about["clip_seconds"] = _find_clip_seconds(config, recorded.values())
        return results.write(folder, year, fleet_systems, about, joint)


def require_possible(request: EvaluationRequest, overrides: Mapping[str, str]) -> None:
    """Raise InputError for an unknown split, and for a field of baselines that are not evaluated."""
    if request.split not in stored_results.SPLITS:
        raise InputError(f"split: expected one of {', '.join(stored_results.SPLITS)}, got {request.split!r}")
    for field in overrides:
        if field.startswith("baselines.") and not request.baselines:
            raise InputError(
                f"config.{field}: expected an evaluation with baselines, got one without; "
                "ask for baselines, or leave the field out"
            )


def _read_config(workdir: Path, request: EvaluationRequest, overrides: Mapping[str, str]) -> Config:
    require_possible(request, overrides)
    return loading.read(workdir, overrides)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Lock an evaluation's folder. Yield the temporary folder of its embeddings, which is removed in the end."""
    with locked_folder(folder, wait=False):
        results.make_partial(folder, stored_embeddings.FOLDER)
        try:
            yield folder / f"{stored_embeddings.FOLDER}.partial"
        finally:
            results.remove_partial(folder, stored_embeddings.FOLDER)


def _require_own_phase_1(runs: Sequence[Run], selection: Selection) -> None:
    """Raise InputError if a checkpoint of phase 2 began from another phase 1 than the present one."""
    for run in runs:
        for checkpoint in selection[run.name]:
            with contextlib.suppress(checkpoints.Damaged):  # reported when it is loaded
                checkpoints.require_same_start(run.folder / checkpoint.line, checkpoint.step)


def _read_clips(stores: Stores, corpus: Corpus, task: Task, split: str) -> dict[str, RecordedClips]:
    """Read a task's training clips, "bank", and its test clips, "test".

    The labelled test clips rank models, so they are read for both splits; the split "eval" adds the others.
    """
    wanted = [clip for clip in corpus.select(split="test") if split == "eval" or not clip.blind]
    test = [clip for clip in wanted if clip.machine in task.machines]
    return {
        part: RecordedClips(clips, read_recordings(stores, clips))
        for part, clips in (("bank", list(task.clips)), ("test", test))
    }


def _score_run(
    config: Config,
    run: Run,
    selected: Sequence[SelectedCheckpoint],
    recorded: Mapping[str, RecordedClips],
    embeddings_folder: Path,
) -> ModelScores:
    """Score a run's clips by each selected model, and store embeddings and scores in a folder."""
    spec = fleet_model.make_spec(config, len(run.task.classes))
    scoring = Scoring.from_config(config)
    scores: ModelScores = {machine: {} for machine in run.task.machines}
    for checkpoint in selected:
        name = f"{run.name} {checkpoint.line}"
        model = restore_model(spec, run.folder / checkpoint.line, checkpoint.step, checkpoint.digest)
        embedded = {
            part: embed.embed_clips(
                spec,
                model,
                clips.samples,
                stride_frames=config.evaluate.stride_frames,
                batch_size=config.evaluate.batch_size,
                what=f"{name} {part}",
            )
            for part, clips in recorded.items()
        }
        by_variant = {
            variant: clip_scores.score_clips(
                recorded["bank"].clips, embedded["bank"], recorded["test"].clips, embedded["test"], variant, scoring
            )
            for variant in track(spec.variants, f"{name} score", len(spec.variants), "model")
        }
        stored_embeddings.save(embeddings_folder / run.name / checkpoint.line, recorded, embedded, by_variant)
        for variant, variant_scores in by_variant.items():
            for machine in run.task.machines:
                scores[machine][variant + checkpoint.suffix] = variant_scores.select_machine(machine)
    return scores


def _read_losses(runs: Sequence[Run], selection: Selection, seed: int) -> Losses:
    """Read the held-out losses that training logged at the selected checkpoints of a seed."""
    losses: dict[str, dict[str, float | None]] = {}
    for run in runs:
        if run.seed == seed:
            rows = [row for row in metric_log.read(run.folder / metric_log.FILE) if "holdout_loss" in row]
            by_model = {
                variant + checkpoint.suffix: loss
                for checkpoint in selection[run.name]
                for row in rows
                if (row["phase"], row["step"]) == (checkpoint.line, checkpoint.step)
                for variant, loss in row["holdout_loss"].items()
            }
            losses |= dict.fromkeys(run.task.machines, by_model)
    return losses


def _score_baselines(
    config: Config, workdir: Path, recorded: Iterable[Mapping[str, RecordedClips]], names: Sequence[str]
) -> ModelScores:
    """Score the clips of each machine type by the named baselines, which do not depend on the seeds of the fleets."""
    return {
        machine: score_baselines.score_machine(
            config,
            machine,
            clips["bank"].of_machine(machine),
            clips["test"].of_machine(machine),
            workdir / "evaluation" / stored_autoencoders.FOLDER / machine,
            names,
        )
        for clips in recorded
        for machine in sorted({clip.machine for clip in clips["bank"].clips})
    }


def _describe(config: Config, runs: Sequence[Run], selection: Selection, baselines: Sequence[str]) -> dict[str, Any]:
    """Return the entries of results.json on checkpoints, configuration, models and the named baselines."""
    evaluated = {f"{run.name}/{one.line}": (run, one) for run in runs for one in selection[run.name]}
    return {
        "checkpoints": {name: one.step for name, (_, one) in evaluated.items()},
        "judged": {
            name: {"digest": one.digest, "classes": len(run.task.classes)} for name, (run, one) in evaluated.items()
        },
        "config": config.to_dict(),
        "precision": fleet_model.choose_precision(config),
        "models": _list_models(config, runs, selection),
        "baselines": score_baselines.describe_baselines(config, baselines),
    }


def _find_clip_seconds(config: Config, recorded: Iterable[Mapping[str, RecordedClips]]) -> dict[str, float]:
    """Return the most common length of each machine type's training clips, in seconds."""
    lengths: dict[str, Counter[int]] = defaultdict(Counter)
    for clips in recorded:
        for clip, samples in zip(clips["bank"].clips, clips["bank"].samples, strict=True):
            lengths[clip.machine][len(samples)] += 1
    rate = config.signal.sample_rate_hz
    return {machine: counts.most_common(1)[0][0] / rate for machine, counts in lengths.items()}


def _list_models(config: Config, runs: Sequence[Run], selection: Selection) -> dict[str, dict[str, tuple[str, ...]]]:
    """Return run, line and variant, the model's place in embeddings/, by machine type and model."""
    models: dict[str, dict[str, tuple[str, ...]]] = {}
    for run in runs:
        seed_suffix = f"@{run.seed}" if len(config.seed) > 1 else ""
        run_models = {
            f"{variant}{checkpoint.suffix}{seed_suffix}": (run.name, checkpoint.line, variant)
            for checkpoint in selection[run.name]
            for variant in config.variants
        }
        for machine in run.task.machines:
            models.setdefault(machine, {}).update(run_models)
    return models
