"""Judge a work directory's models: the order of operations. Reads the work directory and the corpus; trains nothing but
the baselines, and those only where they are asked for."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from asdjax import configfile, journal
from asdjax.config import Config, evaluated_lines
from asdjax.corpus.access import Recording, open_corpus, open_stores, recordings_of
from asdjax.corpus.clips import Clip, Corpus
from asdjax.corpus.official import YEAR_OF_LAYOUT
from asdjax.corpus.tasks import tasks_of
from asdjax.errors import InputError
from asdjax.evaluation import embeddings, results, scores, systems
from asdjax.evaluation.bank import Scoring
from asdjax.evaluation.baselines import score
from asdjax.evaluation.baselines.score import Sounds
from asdjax.evaluation.results import Results
from asdjax.evaluation.systems import Losses, Models
from asdjax.files import locked_folder
from asdjax.progress import say, track
from asdjax.training import checkpoints, embed, fleet, optimizer, record
from asdjax.training.fleet import FleetSpec, Model
from asdjax.training.phases import PHASE1, lines_of
from asdjax.training.runs import Run, runs_of


class Checkpoint(NamedTuple):
    """One saved step of a run: what it is called in the names of models, its line, its step."""

    suffix: str
    line: str
    step: int


def evaluate(
    workdir: Path,
    *,
    split: str = "dev",
    step: int | None = None,
    baselines: bool = False,
    overrides: Mapping[str, str] = MappingProxyType({}),
) -> Results:
    """Score all test clips, judge those of a split and write W/evaluation/<split>/; returns what was written.

    `dev` are the test clips whose names tell their label, `eval` the others, whatever truth is known of them. `step`
    judges that checkpoint instead of the newest; with `baselines` two detectors that need no trained fleet stand beside
    its systems; `overrides` as in `configfile.read`. Raises InputError where something is missing that this needs,
    before anything is written.
    """
    # 1. What was trained, on what.
    config = configfile.read(workdir, overrides)
    corpus = open_corpus(config)
    _require_allowed(config, corpus)
    judged = [clip for clip in corpus if clip.split == "test" and clip.blind == (split == "eval")]
    if not judged:
        kind, other = ("labelled", "eval") if split == "dev" else ("unlabelled", "dev")
        raise InputError(
            f"config.data.root: expected {kind} test clips for --split {split}, found none; the others are judged by "
            f"--split {other}"
        )
    folder = workdir / "evaluation" / split
    with locked_folder(folder, wait=False):
        return _evaluated(config, workdir, corpus, judged, folder, split, step, baselines)


def _evaluated(
    config: Config,
    workdir: Path,
    corpus: Corpus,
    judged: Sequence[Clip],
    folder: Path,
    split: str,
    step: int | None,
    baselines: bool,
) -> Results:
    # 2. Every clip's embeddings, kept for later, and its score by every model, seed by seed.
    runs = runs_of(config, workdir, tasks_of(corpus, config.data.classes))
    chosen = {run.name: _checkpoints(config, run, step) for run in runs}
    prepared = [(run, _recorded(config, workdir, corpus, run)) for run in runs]
    results.fresh(folder, embeddings.FOLDER)
    try:
        by_seed: dict[int, Models] = {}
        for run, recorded in prepared:
            models = _scored(config, run, chosen[run.name], recorded, folder / f"{embeddings.FOLDER}.partial")
            by_seed.setdefault(run.seed, {}).update(models)
        judged = _scorable(judged, by_seed)
        beside = _baselines(config, prepared) if baselines else {}
        # 3. Single models, ensembles, thresholds, figures.
        year = YEAR_OF_LAYOUT[corpus.layout]
        judgements = {
            seed: systems.judge_all(config, year, models, judged, _held_out(runs, chosen, seed), beside)
            for seed, models in by_seed.items()
        }
        joint = systems.judge_seeds(config, year, by_seed, judged)
        # 4. Files, results.json last.
        used = {
            f"{name}/{checkpoint.line}": checkpoint.step for name, of_run in chosen.items() for checkpoint in of_run
        }
        about = {"year": year, "split": split, "checkpoints": used, "settings": config.evaluate.to_dict()}
        if baselines:
            about["baselines"] = score.described(config)
        return results.write(folder, year, judgements, about, joint)
    finally:
        results.sweep(folder, embeddings.FOLDER)


def _require_allowed(config: Config, corpus: Corpus) -> None:
    for field, value, instead in (
        ("bank", "same_domain", "section or either_domain"),
        ("threshold_per", "section_domain", "section or machine"),
    ):
        if corpus.layout == "dcase2022" and config.evaluate[field] == value:
            raise InputError(
                f"config.evaluate.{field}: {value} needs the domain of a test clip, which from 2022 on is no input; "
                f"set it to {instead}"
            )


def _checkpoints(config: Config, run: Run, step: int | None) -> list[Checkpoint]:
    """The checkpoints of a run that make its models: of the lines asked for, or phase 1 where it has none of them."""
    asked, planned = evaluated_lines(config), lines_of(config, run.task)
    lines = [line for line in asked if line in planned]
    if len(lines) < len(asked):
        say(f"{run.name}: has no phase 2, evaluating phase 1")
        lines = [PHASE1]
    plain = lines[0] if asked[0] not in lines and PHASE1 not in asked else asked[0]
    return [
        Checkpoint("" if line == plain else f"@{line}", line, _step(run, line, planned[line], step)) for line in lines
    ]


def _step(run: Run, line: str, planned: int, step: int | None) -> int:
    """The step of a line to judge; says so where training has not come to its end."""
    saved = checkpoints.steps(run.folder / line)
    if not saved:
        raise InputError(f"{run.folder}: expected checkpoints of {line}, none there; run asdjax train first")
    if step is not None and step not in saved:
        raise InputError(f"--step {step}: {run.folder / line} holds {', '.join(map(str, saved))}")
    if step is None and saved[-1] < planned:
        say(f"{run.name} {line}: judged at step {saved[-1]} of {planned}, where its training was ended")
    chosen = saved[-1] if step is None else step
    try:
        checkpoints.verify(run.folder / line, chosen)
    except checkpoints.Damaged as damage:
        raise InputError(f"{damage}; give another --step, or run asdjax train again") from None
    return chosen


def _load(spec: FleetSpec, run: Run, checkpoint: Checkpoint) -> Model:
    try:
        shapes = {"model": fleet.abstract_model(spec)}
        return checkpoints.restore(run.folder / checkpoint.line, checkpoint.step, shapes)["model"]
    except checkpoints.Damaged as damage:  # since it was verified: a training that goes on forgets old steps
        raise InputError(f"{damage}; run asdjax evaluate again") from None


class Recorded(NamedTuple):
    """A run's clips and what the stores hold of them."""

    clips: list[Clip]
    recordings: list[Recording]


def _recorded(config: Config, workdir: Path, corpus: Corpus, run: Run) -> dict[str, Recorded]:
    """The training clips, which make the banks, and the test clips of a run's machine types."""
    stores = open_stores(config, workdir, corpus, run.task.machines)
    test = [clip for clip in corpus if clip.split == "test" and clip.machine in run.task.machines]
    recorded = {
        what: Recorded(clips, recordings_of(stores, clips))
        for what, clips in (("bank", list(run.task.clips)), ("test", test))
    }
    record.require_same(run.folder, run.task, recorded["bank"].recordings)
    return recorded


def _scored(
    config: Config, run: Run, chosen: Sequence[Checkpoint], recorded: Mapping[str, Recorded], kept: Path
) -> Models:
    """Clip scores of a run's clips by machine type, then by model; embeddings and scores are kept in a folder."""
    spec = fleet.spec_of(config, len(run.task.classes), optimizer.GROUPS)
    bank, test = recorded["bank"].clips, recorded["test"].clips
    models: Models = {machine: {} for machine in run.task.machines}
    for checkpoint in chosen:
        model = _load(spec, run, checkpoint)
        embedded = {
            what: embed.embed_clips(
                spec,
                model,
                [recording.samples for recording in of_what.recordings],
                stride_frames=config.evaluate.stride_frames,
                batch_size=config.evaluate.batch_size,
                what=f"{run.name} {checkpoint.line} {what}",
            )
            for what, of_what in recorded.items()
        }
        scored = {
            variant: scores.score_clips(bank, embedded["bank"], test, embedded["test"], variant, Scoring.of(config))
            for variant in track(spec.variants, f"{run.name} {checkpoint.line} score", len(spec.variants), "model")
        }
        embeddings.save(kept, run.name, checkpoint.line, {"bank": bank, "test": test}, embedded, scored)
        for variant, of_variant in scored.items():
            for machine in run.task.machines:
                models[machine][variant + checkpoint.suffix] = of_variant.of_machine(machine)
    return models


def _baselines(config: Config, prepared: Sequence[tuple[Run, Mapping[str, Recorded]]]) -> Models:
    """Clip scores of the baselines: computed once, as they are the same beside the fleets of every seed."""
    return {
        machine: score.score_machine(config, machine, *(_sounds(recorded[what], machine) for what in ("bank", "test")))
        for run, recorded in prepared
        if run.seed == config.seed[0]
        for machine in run.task.machines
    }


def _sounds(recorded: Recorded, machine: str) -> Sounds:
    """The part that is one machine type's."""
    rows = [i for i, clip in enumerate(recorded.clips) if clip.machine == machine]
    return Sounds([recorded.clips[i] for i in rows], [recorded.recordings[i].samples for i in rows])


def _held_out(runs: Sequence[Run], chosen: Mapping[str, Sequence[Checkpoint]], seed: int) -> Losses:
    """What training has told of its held-out clips at the checkpoints that are judged."""
    losses: dict[str, dict[str, float]] = {}
    for run in runs:
        if run.seed == seed:
            rows = [row for row in journal.read(run.folder / journal.FILE) if "holdout_loss" in row]
            of_models = {
                variant + suffix: loss
                for suffix, line, step in chosen[run.name]
                for row in rows
                if (row["phase"], row["step"]) == (line, step)
                for variant, loss in row["holdout_loss"].items()
            }
            losses |= dict.fromkeys(run.task.machines, of_models)
    return losses


def _scorable(judged: Sequence[Clip], by_seed: Mapping[int, Models]) -> list[Clip]:
    """The clips that were scored; says how many of which sections have nothing to be scored against."""
    models = [
        scored for of_seed in by_seed.values() for of_machine in of_seed.values() for scored in of_machine.values()
    ]
    known = {clip for scored in models for clip in scored.test}
    left_out = Counter(f"{clip.machine} {clip.section}" for clip in judged if clip not in known)
    if left_out:
        counts = ", ".join(f"{number} of {section}" for section, number in sorted(left_out.items()))
        say(f"test clips left out, as they have no training clips to be scored against: {counts}")
    if len(left_out) and sum(left_out.values()) == len(judged):
        raise InputError("config.data.root: no test clip has training clips of its own section to be scored against")
    return [clip for clip in judged if clip in known]
