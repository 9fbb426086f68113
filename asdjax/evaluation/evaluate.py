"""`asdjax evaluate`: the evaluation of a work directory's models, from its checkpoints and the corpus.

Nothing is trained except the auto-encoder baseline, on request.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.data.access import open_corpus, scan_corpus
from asdjax.data.clips import Clip, Corpus
from asdjax.data.layouts import find_name_errors
from asdjax.data.official_files import YEAR_OF_LAYOUT
from asdjax.errors import InputError
from asdjax.evaluation import (
    checkpoint_selection,
    reliability,
    results,
    sensitivity,
    stored_parts,
    systems,
    training_ranking,
)
from asdjax.evaluation.baselines import score_baselines
from asdjax.evaluation.checkpoint_selection import Select
from asdjax.evaluation.model_scores import ModelScores
from asdjax.evaluation.preconditions import (
    log_small_banks,
    select_scorable,
    select_test_clips,
)
from asdjax.evaluation.results import Results
from asdjax.evaluation.score_runs import (
    are_baselines_stored,
    read_scores,
    score_each_baseline,
    score_run,
)
from asdjax.evaluation.sensitivity import Sensitivity, Stored
from asdjax.evaluation.subject import Subject, describe, find_subject, make_key, read_losses
from asdjax.evaluation.systems import System
from asdjax.fleet import run_list
from asdjax.fleet.run_list import RunChoice
from asdjax.inference import stored_embeddings, stored_results
from asdjax.runtime import processes
from asdjax.runtime.files import locked_folder
from asdjax.runtime.progress import log


class EvaluationRequest(NamedTuple):
    """Options of an evaluation.

    `split` "dev" evaluates the test clips with a label in their name, "eval" the others. `select` selects the
    checkpoints. `baselines` adds the auto-encoder, `sensitivity` measures which faults are found from which size on.
    """

    split: str = "dev"
    select: Select = checkpoint_selection.select_trained
    baselines: bool = False
    sensitivity: bool = False


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
    subject = find_subject(config, workdir, corpus, request.split, request.select)
    with _locked(folder) as stored:
        log_small_banks(config, subject.list_banks())
        # 2. Embed and score every clip by every model, seed by seed; store embeddings and scores.
        names = list_baselines(request)
        prepared = _score_runs(config, workdir, subject, folder, names)
        by_seed = _read_all_scores(config, subject, stored)
        baselines = score_each_baseline(config, workdir, subject.recorded.values(), names, stored.statistics)
        # 3. Make the systems: single models, ensembles and baselines, with thresholds and metrics.
        fleet_systems, joint = _build_all_systems(config, subject, by_seed, baselines, test_clips)
        # 4. Mix faults into normal clips, on request: which sizes does each system find?
        if request.sensitivity:
            found = sensitivity.measure(config, subject, stored, fleet_systems, joint)
        else:
            found = _drop_sensitivity(folder)
        # 5. Rank the training clips, some of which may be faulty; look for signs that the detectors may not be trusted.
        first = {**fleet_systems[config.seed[0]], **joint}
        default = systems.choose_default(config, first.keys())
        ranked = training_ranking.rank(config, first[default].training)
        simple = score_baselines.select_always(baselines)
        evaluated = reliability.Evaluated(by_seed, simple, first[default], ranked, found, stored.statistics)
        # 6. Write the files, results.json last.
        about = {
            **describe(config, subject, names),
            "split": request.split,
            "default_system": default,
            "sensitivity": sensitivity.to_json(found, default),
            "warnings": [doubt._asdict() for doubt in reliability.find_doubts(config, subject, evaluated)],
            "training_clips": training_ranking.to_json(ranked),
        }
        written = results.write(folder, about["year"], fleet_systems, about, joint)
        stored_parts.remove(folder, prepared)
    return written


def _drop_sensitivity(folder: Path) -> dict[str, dict[str, Sensitivity]]:
    """Log if the earlier evaluation in a folder measured the sensitivity; return none."""
    with contextlib.suppress(InputError):  # there is none, or it is damaged
        if stored_results.read_results(folder)["sensitivity"]:
            log("the sensitivity of the earlier evaluation is dropped; --sensitivity measures it again")
    return {}


def _read_all_scores(config: Config, subject: Subject, stored: Stored) -> dict[int, ModelScores]:
    """Return the stored scores of all models by seed."""
    by_seed: dict[int, ModelScores] = {}
    for run in subject.runs:
        scores = read_scores(config, run, subject.selection[run.name], stored.embeddings / run.name)
        by_seed.setdefault(run.seed, {}).update(scores)
    return by_seed


def _build_all_systems(
    config: Config,
    subject: Subject,
    by_seed: Mapping[int, ModelScores],
    baselines: ModelScores,
    test_clips: Sequence[Clip],
) -> tuple[results.BySeed, dict[str, System]]:
    """Return the systems by seed, and those that no single seed has, for the test clips that are evaluated."""
    test_clips = [clip for clip in test_clips if clip.machine in subject.stores]
    year, simple = YEAR_OF_LAYOUT[subject.corpus.layout], score_baselines.select_always(baselines)
    fleet_systems = {
        seed: systems.build_systems(config, year, scores, test_clips, read_losses(subject, seed))
        | systems.build_combined(config, year, scores, simple, test_clips)
        for seed, scores in by_seed.items()
    }
    joint = systems.build_joint_systems(config, year, by_seed, simple, test_clips)
    return results.keep_common(fleet_systems), joint | systems.build_baselines(config, year, baselines, test_clips)


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
    subject = find_subject(config, workdir, Corpus(found.layout, found.clips), request.split, request.select, names)
    folder = workdir / "evaluation" / request.split
    log_small_banks(config, subject.list_banks())
    for task in subject.recorded:
        subject.verify(task)
    for run in subject.runs:
        key = make_key(config, subject, run)
        if not stored_parts.is_prepared(folder, run.name, key):
            with stored_parts.preparing(folder, run.name, key) as into:
                score_run(config, run, subject.selection[run.name], subject.recorded[run.task.name], into)
    score_each_baseline(config, workdir, subject.recorded.values(), list_baselines(request))
    return [run.name for run in subject.runs]


def _score_runs(
    config: Config, workdir: Path, subject: Subject, folder: Path, baselines: Sequence[str]
) -> dict[str, str]:
    """Store the embeddings and scores of every run, taken where they are prepared; return the keys of those by run.

    A task's recordings are read only if one of its runs or baselines is not prepared.
    """
    into = folder / f"{stored_embeddings.FOLDER}.partial"
    keys = {run.name: make_key(config, subject, run) for run in subject.runs}
    prepared = {name: key for name, key in keys.items() if stored_parts.take(folder, name, key, into / name)}
    others = [run for run in subject.runs if run.name not in prepared]
    if others and any(stored_parts.exists(folder, name) for name in keys):
        log(
            f"{len(prepared)} of {len(keys)} runs are prepared with the present settings, models, recordings and "
            "precision; the others are scored now"
        )
    for task, clips in subject.recorded.items():
        scored = any(run.task.name == task and subject.selection[run.name] for run in others)
        if scored or not are_baselines_stored(config, workdir, clips, baselines):
            subject.verify(task)
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
def _locked(folder: Path) -> Iterator[Stored]:
    """Lock an evaluation's folder. Yield the temporary folders of STORED, which are removed in the end."""
    with locked_folder(folder, wait=False):
        results.make_partial(folder, *stored_embeddings.STORED)
        try:
            yield Stored(*(folder / f"{name}.partial" for name in stored_embeddings.STORED))
        finally:
            results.remove_partial(folder, *stored_embeddings.STORED)
