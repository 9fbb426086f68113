"""The Python API: train, evaluate, watch, load, undo_accept and official_metrics.

The commands train, evaluate, score and metrics are thin layers over it. Each function imports what it needs, so that
official_metrics does not wait for JAX.

    import asdjax
    asdjax.train("dcase2021", workdir="run", overrides={"data.root": "dev_data"})
    results = asdjax.evaluate("run")
    detector = asdjax.load("run", machine="pump", section="00")
    detector.score("new.wav").is_anomaly

Letters: s samples, p pieces, d embedding.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from os import PathLike, fspath
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ml_collections import ConfigDict

from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.config.overrides import as_texts
from asdjax.data.clips import Domain
from asdjax.runtime.paths import compose, resolve_path

if TYPE_CHECKING:
    from asdjax.api_detector import Detector
    from asdjax.data.feedback import Judgement
    from asdjax.evaluation.evaluation_results import EvaluationResults
    from asdjax.evaluation.submission_metrics import FolderMetrics

# fields that `load` may override
_OF_RECORDINGS = ("data.on_mismatch", "data.channel")

NO_OVERRIDES: Mapping[str, Any] = MappingProxyType({})


def train(
    config: str | PathLike | ConfigDict | Config,
    *,
    workdir: str | PathLike,
    overrides: Mapping[str, Any] = NO_OVERRIDES,
    part: tuple[int, int] = (0, 1),
    only: Sequence[str] = (),
) -> Path:
    """Train all machine types and seeds of a configuration, or some of them, or resume; return the work directory.

    Parameters
    ----------
    config : a file with `get_config()`, the name of a shipped configuration such as "dcase2021", or a ConfigDict
    workdir : folder for checkpoints, logs and the decoded audio
    overrides : values by field, such as {"train.batch_size": 96}
    part : (i, n) for part i of n of the runs, i from 0; several processes train the parts of one work directory
    only : names of the runs to train; empty for all

    Raises
    ------
    InputError : wrong configuration or data; the message names the field or file and the remedy
    Diverged : a loss is not finite
    Interrupted : another process is at work on a run; call again later

    An error of one run is raised when the others are trained. After `jax.distributed.initialize` all processes train
    one program. A step that does not end ends the process, see `parallel.patience_minutes`.
    """
    from asdjax.runtime import jax_setup, processes

    with processes.sharing_errors():
        resolved = loading.load(fspath(config) if isinstance(config, PathLike) else config, as_texts(overrides))

        from asdjax.fleet.run_list import make_choice
        from asdjax.training import train as training

        jax_setup.prepare()
        training.train(resolved, folder := resolve_path(workdir), make_choice(part, [compose(name) for name in only]))
        return folder


def evaluate(
    workdir: str | PathLike,
    *,
    split: str = "dev",
    step: int | None = None,
    baselines: bool = False,
    sensitivity: bool = False,
    overrides: Mapping[str, Any] = NO_OVERRIDES,
) -> "EvaluationResults":
    """Score all test clips with the models of a work directory, and compute the challenge's figures.

    Parameters
    ----------
    workdir : folder that `train` has filled
    split : "dev" for labelled test clips, "eval" for the others
    step : checkpoint to evaluate; None for the newest
    baselines : also train and score the challenge's auto-encoder, which takes minutes
    sensitivity : also mix faults of known sizes into normal clips, and show which sizes are found
    overrides : values by field, of `evaluate.` and `baselines.` and of `data.root`, `data.truth`, `data.store`

    Raises
    ------
    InputError : the work directory, the data or a field is wrong; an earlier evaluation is kept
    """
    from asdjax.evaluation import checkpoint_selection
    from asdjax.evaluation import evaluate as evaluation
    from asdjax.evaluation.evaluation_results import describe
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    select = partial(checkpoint_selection.select_trained, step=step)
    request = evaluation.EvaluationRequest(split, select, baselines, sensitivity)
    return describe(evaluation.evaluate(resolve_path(workdir), request, as_texts(overrides)))


def prepare_evaluation(
    workdir: str | PathLike,
    *,
    part: tuple[int, int] = (0, 1),
    only: Sequence[str] = (),
    split: str = "dev",
    step: int | None = None,
    baselines: bool = False,
    overrides: Mapping[str, Any] = NO_OVERRIDES,
) -> list[str]:
    """Embed and score the clips of some runs, for `evaluate` to gather; return the names of the runs.

    Several processes may prepare parts at the same time. `part` and `only` are as in `train`, the others as in
    `evaluate`, which has to get the same. Raises InputError as `evaluate`, and if another process prepares a run.
    """
    from asdjax.evaluation import checkpoint_selection
    from asdjax.evaluation import evaluate as evaluation
    from asdjax.fleet.run_list import make_choice
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    select = partial(checkpoint_selection.select_trained, step=step)
    request = evaluation.EvaluationRequest(split, select, baselines)
    return evaluation.prepare_part(
        resolve_path(workdir), request, make_choice(part, [compose(name) for name in only]), as_texts(overrides)
    )


def watch(
    workdir: str | PathLike,
    *,
    split: str = "dev",
    baselines: bool = False,
    sensitivity: bool = False,
    overrides: Mapping[str, Any] = NO_OVERRIDES,
) -> "Iterator[EvaluationResults]":
    """Evaluate each new checkpoint while a training writes them, until it has ended; arguments as in `evaluate`."""
    from asdjax.evaluation import watch_checkpoints
    from asdjax.evaluation.evaluate import EvaluationRequest
    from asdjax.evaluation.evaluation_results import describe
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    request = EvaluationRequest(split, baselines=baselines, sensitivity=sensitivity)
    yield from map(describe, watch_checkpoints.watch(resolve_path(workdir), request, as_texts(overrides)))


def load(
    workdir: str | PathLike,
    *,
    machine: str,
    section: str | None = None,
    domain: Domain | None = None,
    system: str | None = None,
    split: str | None = None,
    false_alarms_per_day: float | None = None,
    clips_per_day: float | None = None,
    overrides: Mapping[str, Any] = NO_OVERRIDES,
) -> "Detector":
    """Load the detector of an evaluated work directory for one machine type and section.

    Parameters
    ----------
    workdir : folder that `evaluate` has filled
    machine, section : as in the training data; None for the only section
    domain : "source" or "target", where banks or thresholds depend on it
    system : name in the table of results, except the auto-encoder; None for `config.evaluate.system`
    split : "dev" or "eval"; None for dev if it was evaluated, else eval
    false_alarms_per_day : normal clips a day that the threshold may let raise an alarm; None for the evaluation's
    clips_per_day : clips scored a day; None for those of the training clips' usual length without a gap
    overrides : values of `data.on_mismatch` and `data.channel`, which accept other recordings

    Raises
    ------
    InputError : there is no such evaluation, machine type, section or system, its models have changed since, or its
        training clips are too few for so rare an alarm
    """
    from asdjax.api_detector import Detector
    from asdjax.inference.alarm_rates import make_rate
    from asdjax.inference.clip_reader import ClipReader
    from asdjax.inference.loaded_evaluation import open_evaluation
    from asdjax.inference.loaded_system import DetectorSource, open_detector
    from asdjax.runtime import jax_setup

    jax_setup.prepare()
    evaluation = open_evaluation(resolve_path(workdir), split, as_texts(overrides), _OF_RECORDINGS)
    rate = make_rate(false_alarms_per_day, clips_per_day)
    section = None if section is None else compose(section)
    source = DetectorSource(evaluation, system, compose(machine), section, domain, rate)
    detector = open_detector(source)
    return Detector(detector, ClipReader.for_detector(evaluation.config, detector), source)


def undo_accept(workdir: str | PathLike) -> "Judgement":
    """Undo the newest acceptance of clips that is in force, and return it; earlier ones by further calls.

    Detectors that are loaded later have the banks and thresholds from before it, to the last bit. Raises InputError if
    there is none.
    """
    from asdjax.data import feedback

    return feedback.undo(resolve_path(workdir), "accept")


def official_metrics(year: int, scores: str | PathLike, *, truth: str | PathLike | None = None) -> "FolderMetrics":
    """Return the official figures of a folder of score files, computed by the rules of a DCASE challenge.

    Parameters
    ----------
    year : 2020 to 2026
    scores : folder with anomaly_score_*.csv and optionally decision_result_*.csv
    truth : folder with the truth of an evaluation set; None if file names contain the labels

    Raises
    ------
    InputError : a file is missing or wrong
    """
    from asdjax.evaluation.submission_metrics import score_folder

    return score_folder(year, resolve_path(scores), resolve_path(truth) if truth else None)
