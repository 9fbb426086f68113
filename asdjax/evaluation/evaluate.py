"""`asdjax evaluate`: the evaluation of a work directory's models, from its checkpoints and the corpus.

Nothing is trained except the auto-encoder baseline, on request.
"""

import contextlib
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.access import Stores, open_corpus, open_stores, scan_corpus
from asdjax.data.clips import Corpus
from asdjax.data.layouts import find_name_errors
from asdjax.data.official_files import YEAR_OF_LAYOUT
from asdjax.data.tasks import make_tasks
from asdjax.errors import InputError
from asdjax.evaluation import checkpoint_selection, results, stored_parts, systems
from asdjax.evaluation.baselines import score_baselines
from asdjax.evaluation.checkpoint_selection import Select, Selection
from asdjax.evaluation.model_scores import ModelScores
from asdjax.evaluation.preconditions import (
    log_small_banks,
    require_allowed,
    require_density,
    select_scorable,
    select_test_clips,
)
from asdjax.evaluation.results import Results
from asdjax.evaluation.score_runs import (
    TaskClips,
    are_baselines_stored,
    read_clips,
    read_scores,
    score_each_baseline,
    score_run,
    verify_clips,
)
from asdjax.evaluation.system_definitions import Losses
from asdjax.fleet import checkpoints, fleet_model, metric_log, run_list, training_set
from asdjax.fleet.run_list import RunChoice
from asdjax.fleet.runs import Run, add_seed, list_runs
from asdjax.inference import stored_embeddings, stored_results
from asdjax.runtime import processes
from asdjax.runtime.files import locked_folder
from asdjax.runtime.progress import log


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

    Runs that `prepare_part` has scored are not scored again. `overrides` as in `loading.read`. Raises InputError if
    something is missing; an earlier evaluation then remains.
    """
    # 1. Read the configuration and the corpus; select the test clips and the checkpoints; open the recordings.
    processes.require_alone("evaluate")
    config = _read_config(workdir, request, overrides)
    folder = workdir / "evaluation" / request.split
    corpus = open_corpus(config)
    test_clips = select_scorable(config, corpus, select_test_clips(corpus, request.split), request.split)
    subject = _find_subject(config, workdir, request, corpus)
    with _locked(folder) as (embeddings_folder, statistics_folder):
        log_small_banks(config, (clips["bank"] for clips in subject.recorded.values()))
        # 2. Embed and score every clip by every model, seed by seed; store embeddings and scores.
        names = list_baselines(request)
        prepared = _score_runs(config, workdir, subject, folder, names)
        by_seed: dict[int, ModelScores] = {}
        for run in subject.runs:
            scores = read_scores(config, run, subject.selection[run.name], embeddings_folder / run.name)
            by_seed.setdefault(run.seed, {}).update(scores)
        # 3. Make the systems: single models, ensembles and baselines, with thresholds and metrics.
        year = YEAR_OF_LAYOUT[subject.corpus.layout]
        test_clips = [clip for clip in test_clips if clip.machine in subject.stores]
        fleet_systems = {
            seed: systems.build_systems(config, year, scores, test_clips, _read_losses(subject, seed))
            for seed, scores in by_seed.items()
        }
        baselines = score_each_baseline(config, workdir, subject.recorded.values(), names, statistics_folder)
        simple = score_baselines.select_always(baselines)
        joint = systems.build_joint_systems(config, year, by_seed, simple, test_clips)
        for seed, scores in by_seed.items():
            fleet_systems[seed] |= systems.build_combined(config, year, scores, simple, test_clips)
        joint |= systems.build_baselines(config, year, baselines, test_clips)
        # 4. Write the files, results.json last.
        about = {"year": year, "split": request.split, **_describe(config, subject, names)}
        about["default_system"] = systems.choose_default(config, {*joint, *fleet_systems[config.seed[0]]})
        written = results.write(folder, year, fleet_systems, about, joint)
        stored_parts.remove(folder, prepared)
    return written


def prepare_part(
    workdir: Path, request: EvaluationRequest, choice: RunChoice, overrides: Mapping[str, str] = MappingProxyType({})
) -> list[str]:
    """Embed and score the clips of some runs, and of their baselines, for `evaluate` to gather; return the runs' names.

    Parts may be prepared at the same time, by several processes. Raises InputError as `evaluate`, and InUse if another
    process prepares one of the runs.
    """
    processes.require_alone("evaluate")
    config = _read_config(workdir, request, overrides)
    listed, _ = run_list.find_runs(config, workdir)
    machines_of_run = listed.name_runs(config.seed)
    names = choice.choose(list(machines_of_run))
    if not names:
        return []
    machines = sorted({machine for name in names for machine in machines_of_run[name]})
    found = scan_corpus(config, listed.layout, machines)
    for error in find_name_errors(found).values():
        raise error
    subject = _find_subject(config, workdir, request, Corpus(found.layout, found.clips), names)
    folder = workdir / "evaluation" / request.split
    log_small_banks(config, (clips["bank"] for clips in subject.recorded.values()))
    for clips in subject.recorded.values():
        verify_clips(subject.stores, clips)
    for run in subject.runs:
        key = _make_key(config, subject, run)
        if not stored_parts.is_prepared(folder, run.name, key):
            with stored_parts.preparing(folder, run.name, key) as into:
                score_run(config, run, subject.selection[run.name], subject.recorded[run.task.name], into)
    score_each_baseline(config, workdir, subject.recorded.values(), list_baselines(request))
    return [run.name for run in subject.runs]


class _Subject(NamedTuple):
    """The runs of an evaluation with their selected checkpoints, and the clips of each task by its name."""

    corpus: Corpus
    runs: Sequence[Run]
    selection: Selection
    stores: Stores
    recorded: dict[str, TaskClips]


def _find_subject(
    config: Config, workdir: Path, request: EvaluationRequest, corpus: Corpus, names: Collection[str] | None = None
) -> _Subject:
    """Return the runs to evaluate, or some of them by their names, with the stores and clips of their machine types."""
    require_allowed(config, corpus)
    require_density(config, corpus)
    runs = list_runs(config, workdir, make_tasks(corpus, config.data.classes))
    runs = [run for run in runs if names is None or run.name in names]
    selection = request.select(config, runs)
    runs = [run for run in runs if run.name in selection]
    _require_own_phase_1(runs, selection)
    training_set.require_same_training(config, workdir, runs)
    tasks = {run.task.name: run.task for run in runs}
    machines = sorted({machine for task in tasks.values() for machine in task.machines})
    stores = open_stores(config, workdir, corpus, machines)
    recorded = {name: read_clips(stores, corpus, task, request.split) for name, task in tasks.items()}
    return _Subject(corpus, runs, selection, stores, recorded)


def _make_key(config: Config, subject: _Subject, run: Run) -> str:
    return stored_parts.make_key(config, subject.selection[run.name], subject.recorded[run.task.name])


def _score_runs(
    config: Config, workdir: Path, subject: _Subject, folder: Path, baselines: Sequence[str]
) -> dict[str, str]:
    """Store the embeddings and scores of every run, taken where they are prepared; return the keys of those by run.

    A task's recordings are read only if one of its runs or baselines is not prepared.
    """
    into = folder / f"{stored_embeddings.FOLDER}.partial"
    keys = {run.name: _make_key(config, subject, run) for run in subject.runs}
    prepared = {name: key for name, key in keys.items() if stored_parts.take(folder, name, key, into / name)}
    others = [run for run in subject.runs if run.name not in prepared]
    if others and any(stored_parts.exists(folder, name) for name in keys):
        log(
            f"{len(prepared)} of {len(keys)} runs are prepared with the present settings, models, recordings and "
            "precision; the others are scored now"
        )
    for task, clips in subject.recorded.items():
        scored = any(run.task.name == task for run in others)
        if scored or not are_baselines_stored(config, workdir, clips, baselines):
            verify_clips(subject.stores, clips)
    for run in others:
        score_run(config, run, subject.selection[run.name], subject.recorded[run.task.name], into / run.name)
    return prepared


def list_baselines(request: EvaluationRequest) -> tuple[str, ...]:
    """Return the names of the baselines that an evaluation scores."""
    return score_baselines.ALWAYS + (score_baselines.ON_REQUEST if request.baselines else ())


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
def _locked(folder: Path) -> Iterator[list[Path]]:
    """Lock an evaluation's folder. Yield the temporary folders of STORED, which are removed in the end."""
    with locked_folder(folder, wait=False):
        results.make_partial(folder, *stored_embeddings.STORED)
        try:
            yield [folder / f"{name}.partial" for name in stored_embeddings.STORED]
        finally:
            results.remove_partial(folder, *stored_embeddings.STORED)


def _require_own_phase_1(runs: Sequence[Run], selection: Selection) -> None:
    """Raise InputError if a checkpoint of phase 2 began from another phase 1 than the present one."""
    for run in runs:
        for checkpoint in selection[run.name]:
            with contextlib.suppress(checkpoints.Damaged):  # reported when it is loaded
                checkpoints.require_same_start(run.folder / checkpoint.line, checkpoint.step)


def _read_losses(subject: _Subject, seed: int) -> Losses:
    """Read the held-out losses that training logged at the selected checkpoints of a seed."""
    losses: dict[str, dict[str, float | None]] = {}
    for run in subject.runs:
        if run.seed == seed:
            rows = [row for row in metric_log.read(run.folder / metric_log.FILE) if "holdout_loss" in row]
            by_model = {
                variant + checkpoint.suffix: loss
                for checkpoint in subject.selection[run.name]
                for row in rows
                if (row["phase"], row["step"]) == (checkpoint.line, checkpoint.step)
                for variant, loss in row["holdout_loss"].items()
            }
            losses |= dict.fromkeys(run.task.machines, by_model)
    return losses


def _describe(config: Config, subject: _Subject, baselines: Sequence[str]) -> dict[str, Any]:
    """Return the entries of results.json on checkpoints, configuration, models, clips and the named baselines."""
    runs, selection = subject.runs, subject.selection
    evaluated = {f"{run.name}/{one.line}": (run, one) for run in runs for one in selection[run.name]}
    return {
        "checkpoints": {name: one.step for name, (_, one) in evaluated.items()},
        "evaluated": {
            name: {"digest": one.digest, "classes": len(run.task.classes)} for name, (run, one) in evaluated.items()
        },
        "config": config.to_dict(),
        "precision": fleet_model.choose_precision(config),
        "models": _list_models(config, runs, selection),
        "clip_seconds": _find_clip_seconds(config, subject.recorded.values()),
        "baselines": score_baselines.describe_baselines(config, baselines),
    }


def _find_clip_seconds(config: Config, recorded: Iterable[TaskClips]) -> dict[str, float]:
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
        run_models = {
            add_seed(f"{variant}{checkpoint.suffix}", run.seed, config.seed): (run.name, checkpoint.line, variant)
            for checkpoint in selection[run.name]
            for variant in config.variants
        }
        for machine in run.task.machines:
            models.setdefault(machine, {}).update(run_models)
    return models
