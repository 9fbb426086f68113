"""Judge a work directory's models: the order of operations. Reads the work directory and the corpus, trains nothing."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from asdjax import configfile
from asdjax.config import Config, evaluated_lines
from asdjax.corpus.access import open_corpus, open_stores, samples_of
from asdjax.corpus.clips import Clip, Corpus
from asdjax.corpus.tasks import tasks_of
from asdjax.errors import InputError
from asdjax.evaluation import embed, results, scores, systems
from asdjax.evaluation.results import Results
from asdjax.evaluation.scores import ClipScores
from asdjax.evaluation.systems import Models
from asdjax.progress import say
from asdjax.training import checkpoints, fleet, optimizer
from asdjax.training.fleet import FleetSpec, Model
from asdjax.training.phases import PHASE1
from asdjax.training.runs import Run, runs_of

SPLITS = ("dev", "eval")

YEARS = {"dcase2020": 2020, "dcase2021": 2021, "dcase2022": 2022, "manifest": 2021}
"""The challenge whose rules judge a layout: from 2022 on they are the same, one's own recordings are judged as 2021."""


class Loaded(NamedTuple):
    """A fleet's model at one checkpoint."""

    line: str
    step: int
    spec: FleetSpec
    model: Model


def evaluate(workdir: Path, *, split: str = "dev", step: int | None = None) -> Results:
    """Score all test clips, judge those of a split and write W/evaluation/<split>/; returns what was written.

    `dev` are the test clips whose label is known, `eval` the others. `step` judges that checkpoint instead of the
    newest. Raises InputError where something is missing that this needs, before anything is written.
    """
    # 1. What was trained, on what.
    config = configfile.read(workdir)
    corpus = open_corpus(config)
    _require_allowed(config, corpus)
    test = [clip for clip in corpus if clip.split == "test"]
    judged = [clip for clip in test if (clip.label is not None) == (split == "dev")]
    if not judged:
        kind = "labelled" if split == "dev" else "unlabelled"
        raise InputError(f"config.data.root: expected {kind} test clips for --split {split}, found none")
    # 2. Every clip's score by every model, seed by seed.
    checked = [
        (run, _load(config, run, step)) for run in runs_of(config, workdir, tasks_of(corpus, config.data.classes))
    ]
    by_seed: dict[int, Models] = {}
    for run, lines in checked:
        models = _scored(config, workdir, corpus, run, lines)
        by_seed.setdefault(run.seed, {}).update(models)
    judged = _scorable(judged, by_seed)
    # 3. Single models, the report's four ensembles, thresholds, figures.
    year = YEARS[corpus.layout]
    judgements = {seed: systems.judge_all(config, year, models, judged) for seed, models in by_seed.items()}
    # 4. Files, results.json last.
    used = {f"{run.name}/{loaded.line}": loaded.step for run, lines in checked for loaded in lines}
    return results.write(workdir / "evaluation" / split, year, split, judgements, used)


def _require_allowed(config: Config, corpus: Corpus) -> None:
    if corpus.layout == "dcase2022" and config.evaluate.bank == "same_domain":
        raise InputError(
            "config.evaluate.bank: same_domain needs the domain of a test clip, which from 2022 on is no input; "
            "set it to section"
        )


def _load(config: Config, run: Run, step: int | None) -> list[Loaded]:
    """The models of a run's lines; phase 1 where phase 2 was left out."""
    lines = evaluated_lines(config)
    there = [line for line in lines if checkpoints.steps(run.folder / line)]
    if _no_phase2(run) and not there and checkpoints.steps(run.folder / PHASE1):
        say(f"{run.name}: has no phase 2, evaluating phase 1")
        there = [PHASE1]
    missing = [] if there and _no_phase2(run) else [line for line in lines if line not in there]
    if missing:
        raise InputError(
            f"{run.folder}: expected checkpoints of {', '.join(missing)}, none there; run asdjax train first"
        )
    return [_load_line(config, run, line, step) for line in there]


def _no_phase2(run: Run) -> bool:
    return all(clip.domain != "target" for clip in run.task.clips)


def _load_line(config: Config, run: Run, line: str, step: int | None) -> Loaded:
    saved = checkpoints.steps(run.folder / line)
    chosen = saved[-1] if step is None else step
    if chosen not in saved:
        raise InputError(f"--step {step}: {run.folder / line} holds {', '.join(map(str, saved))}")
    spec = fleet.spec_of(config, len(run.task.classes), optimizer.GROUPS)
    try:
        model = checkpoints.restore(run.folder / line, chosen, {"model": fleet.abstract_model(spec)})["model"]
    except checkpoints.Damaged as damage:
        raise InputError(f"{damage}; give another --step, or run asdjax train again") from None
    return Loaded(line, chosen, spec, model)


def _scored(config: Config, workdir: Path, corpus: Corpus, run: Run, lines: Sequence[Loaded]) -> Models:
    """Clip scores of a run's clips by machine type, then by model."""
    test = [clip for clip in corpus if clip.split == "test" and clip.machine in run.task.machines]
    train = list(run.task.clips)
    stores = open_stores(config, workdir, corpus, run.task.machines)
    models: dict[str, dict[str, ClipScores]] = {machine: {} for machine in run.task.machines}
    for loaded in lines:
        cut = {"stride_frames": config.evaluate.stride_frames, "batch_size": config.evaluate.batch_size}
        embedded = [
            embed.embed_clips(
                loaded.spec, loaded.model, samples_of(stores, clips), what=f"{run.name} {loaded.line} {what}", **cut
            )
            for what, clips in (("bank", train), ("test", test))
        ]
        for variant in loaded.spec.variants:
            name = variant if loaded is lines[0] else f"{variant}@{loaded.line}"
            scored = scores.score_clips(
                train,
                embedded[0],
                test,
                embedded[1],
                variant,
                k=config.evaluate.k,
                bank=config.evaluate.bank,
                pooling=config.evaluate.pooling,
            )
            for machine in run.task.machines:
                models[machine][name] = ClipScores(*(_of_machine(part, machine) for part in scored))
    return models


def _scorable(judged: Sequence[Clip], by_seed: Mapping[int, Models]) -> list[Clip]:
    """The clips that every model has scored; says how many of which sections have nothing to be scored against."""
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


def _of_machine(scored: Mapping[Clip, float], machine: str) -> dict[Clip, float]:
    return {clip: score for clip, score in scored.items() if clip.machine == machine}
