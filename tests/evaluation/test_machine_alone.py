"""A machine alone, of one section without attributes: no models, only the simple detectors, in every command."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
from conftest import RECIPE, overrides, shallow_networks, train_tiny
from jax import export
from sklearn.covariance import LedoitWolf

import asdjax
from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.config.fields import default_config
from asdjax.data.access import open_corpus
from asdjax.data.clips import Clip
from asdjax.data.synthetic.synthesis import synthesize
from asdjax.data.tasks import FEWEST_WITHOUT_MODELS, make_tasks
from asdjax.errors import InputError
from asdjax.evaluation import systems
from asdjax.evaluation.checkpoint_selection import select_newest, select_trained
from asdjax.fleet.runs import list_runs
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.combination import FEWEST_SCALED
from asdjax.inference.log_mel_statistics import compute_statistics
from asdjax.perf.workload import make_work

ALONE = replace(RECIPE, source_clips=12, target_clips=0, test_clips=6, sections=1)
SYSTEMS = {"combined", "mean_log_mel", "mean_std_log_mel"}


@pytest.fixture(scope="module")
def pump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "pump"
    synthesize(folder, ALONE, machines=("pump",))
    for clip in (folder / "pump" / "train").iterdir():  # attributes would be classes
        clip.rename(clip.with_name("_".join(clip.stem.split("_")[:6]) + ".wav"))
    return folder


@pytest.fixture(scope="module")
def evaluated(pump: Path) -> Path:
    workdir = pump.parent / "run"
    assert train_tiny(pump, workdir) == 0
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    return workdir


def read(workdir: Path) -> dict[str, Any]:
    return json.loads((workdir / "evaluation" / "dev" / "results.json").read_text())


def written(workdir: Path, system: str = "combined") -> dict[str, float]:
    file = workdir / "evaluation" / "dev" / "scores" / system / "anomaly_score_pump_section_00_source_test.csv"
    return {name: float(score) for name, score in csv.reader(file.read_text().splitlines())}


def samples_of(pump: Path, split: str) -> dict[str, np.ndarray]:
    files = sorted((pump / "pump" / split).glob("section_00_*.wav"))
    return {file.name: soundfile.read(file, dtype="int16")[0] for file in files}


def test_training_and_evaluation_say_that_there_are_no_models(
    pump: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    workdir = tmp_path / "run"
    assert main(["check", "--config", "dcase2021", *overrides(pump)]) == 0
    assert "1 warning" in " ".join(capsys.readouterr().out.split())
    assert train_tiny(pump, workdir) == 0
    said = capsys.readouterr().err
    assert "no models of pump, only the simple detectors" in said
    assert "only pump 00 has source training clips; for models add a second section" in said
    assert main(["status", "--workdir", str(workdir), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["state"] == "done"
    assert not list(workdir.glob("*/phase*"))
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    assert "single models and their ensembles: left out, as there are no models of pump" in capsys.readouterr().err
    content = read(workdir)
    assert content["systems"].keys() == SYSTEMS
    assert content["default_system"] == "combined"
    assert [warning["kind"] for warning in content["warnings"]] == ["no models"]
    assert content["systems"]["combined"]["official"] is not None


def test_the_scores_are_those_of_scikit_learn_and_numpy(pump: Path, evaluated: Path):
    """Each detector is a Mahalanobis distance; the combination's scale is that of cross-fitted training scores."""
    train, test = (
        np.array([compute_statistics(clip, 16_000) for clip in samples_of(pump, split).values()], np.float64)
        for split in ("train", "source_test")
    )
    detectors = {"mean_log_mel": (train[:, 0], test[:, 0])}
    detectors["mean_std_log_mel"] = (train.reshape(len(train), -1), test.reshape(len(test), -1))
    combined = np.zeros(len(test))
    for name, (own, others) in detectors.items():
        expected = np.sqrt(LedoitWolf().fit(own).mahalanobis(others))
        np.testing.assert_allclose(list(written(evaluated, name).values()), expected, rtol=1e-4)
        left_out = np.empty(len(own))
        for fold in range(10):
            rows = np.arange(fold, len(own), 10)
            fitted = LedoitWolf().fit(np.delete(own, rows, axis=0))
            left_out[rows] = np.sqrt(fitted.mahalanobis(own[rows]))
        low, median, high = np.percentile(left_out, [25, 50, 75])
        combined += (expected - median) / (high - low) / 2
    np.testing.assert_allclose(list(written(evaluated).values()), combined, rtol=1e-3, atol=1e-3)


def test_score_export_and_the_api_give_the_scores_of_the_evaluation(
    pump: Path, evaluated: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    expected = written(evaluated)
    clips = samples_of(pump, "source_test")
    detector = asdjax.load(evaluated, machine="pump", section="00")
    got = [detector.score(clip) for clip in clips.values()]
    np.testing.assert_allclose([one.score for one in got], list(expected.values()), rtol=1e-5)
    assert not detector.embed(next(iter(clips.values())))
    assert all(len(one.pieces) == 1 and one.pieces.end[0] == 2.0 for one in got)
    out = tmp_path / "exported"
    assert main(["export", "--workdir", str(evaluated), "--out", str(out)]) == 0
    folder = out / "pump"
    arrays = {**np.load(folder / "weights.npz"), **np.load(folder / "section_00.npz")}
    function = export.deserialize(bytearray((folder / "function.jaxexport").read_bytes()))
    called = jax.jit(function.call)(arrays, np.stack(list(clips.values())))
    np.testing.assert_allclose(called["score"], list(expected.values()), rtol=1e-4)
    names = [str(pump / "pump" / "source_test" / name) for name in clips]
    capsys.readouterr()
    assert main(["score", "--workdir", str(evaluated), "--machine", "pump", "--section", "00", "--json", *names]) == 0
    scored = [json.loads(line)["score"] for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose(scored, list(expected.values()), rtol=1e-5)


def test_faults_are_mixed_in_and_clips_explained_in_the_report(evaluated: Path, tmp_path: Path):
    shutil.copytree(evaluated, workdir := tmp_path / "run")
    words = ["--sensitivity", "--config.evaluate.sensitivity_clips=4"]
    assert main(["evaluate", "--workdir", str(workdir), *words]) == 0
    assert read(workdir)["sensitivity"].keys() == SYSTEMS
    assert main(["report", "--workdir", str(workdir), "--clips", "1"]) == 0
    page = (workdir / "evaluation" / "dev" / "report.html").read_text()
    assert "combined, the detector by mean_log_mel and mean_std_log_mel of each machine type," in page
    assert "The nearest normal training clip" not in page  # a picture
    assert page.count("Similarity to the normal clip") == 3


def test_recordings_may_be_added_and_a_second_section_makes_models(pump: Path, tmp_path: Path, shallow: None):
    shutil.copytree(pump, more := tmp_path / "pump")
    workdir = tmp_path / "run"
    assert train_tiny(more, workdir) == 0
    new = more / "pump" / "train" / "section_00_source_train_normal_0099.wav"
    soundfile.write(new, np.random.default_rng(5).integers(-9000, 9000, 32_000, np.int16), 16_000)
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    assert read(workdir)["systems"].keys() == SYSTEMS
    for clip in list(more.rglob("section_00_*")):
        shutil.copy(clip, clip.with_name(clip.name.replace("section_00", "section_01")))
        samples, rate_hz = soundfile.read(clip, dtype="int16")
        soundfile.write(clip, samples[::-1], rate_hz)
    assert train_tiny(more, workdir) == 0
    assert main(["evaluate", "--workdir", str(workdir)]) == 0
    assert "all_mean" in read(workdir)["systems"]


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the work directory of two seeds of a fan with models and a pump without."""
    folder = tmp_path_factory.mktemp("mixed")
    synthesize(folder / "data", replace(RECIPE, source_clips=12, test_clips=4), machines=("fan", "pump"))
    for clip in (folder / "data" / "pump").rglob("section_01_*"):
        clip.unlink()
    words = {"data__classes": "section", "seed": "0,1", "phase2__strategies": "full"}
    with shallow_networks():
        assert train_tiny(folder / "data", folder / "run", **words) == 0
        assert main(["evaluate", "--workdir", str(folder / "run")]) == 0
    return folder / "run"


def test_other_machine_types_keep_the_models_of_all_seeds(mixed: Path, shallow: None):
    assert {path.parent.name for path in mixed.glob("*/phase1")} == {"fan@0", "fan@1"}
    content = read(mixed)
    assert content["systems"].keys() == {*SYSTEMS, "combined_seeds"}
    assert content["default_system"] == "combined_seeds"
    assert content["config"]["evaluate"]["system"] == "all_mean"
    members = content["systems"]["combined_seeds"]["members"]
    assert members == {"fan": ["resnet50_512@0", "resnet50_512@1"], "pump": []}
    for machine in ("fan", "pump"):
        clip = min((mixed.parent / "data" / machine / "source_test").iterdir())
        words = ["--machine", machine, "--section", "00", "--system", "combined_seeds", str(clip)]
        assert main(["score", "--workdir", str(mixed), *words]) == 0


def test_the_report_explains_clips_of_both(mixed: Path, shallow: None):
    assert main(["report", "--workdir", str(mixed), "--clips", "12"]) == 0
    page = (mixed / "evaluation" / "dev" / "report.html").read_text()
    assert "fan \u00b7 section 00" in page
    assert "pump \u00b7 section 00" in page
    assert "together with mean_log_mel and mean_std_log_mel (without models: these alone) of each" in page


def test_while_models_train_nothing_is_selected_for_the_machine_alone(mixed: Path):
    config = loading.read(mixed)
    runs = list_runs(config, mixed, make_tasks(open_corpus(config), config.data.classes))
    assert set(select_newest(config, runs)) == {run.name for run in runs}
    moved = [run._replace(folder=mixed / "elsewhere" / run.name) for run in runs]
    assert select_newest(config, moved) == {}
    alone = [run for run in moved if not run.task.has_models]
    assert select_newest(config, alone) == {"pump@0": [], "pump@1": []}
    with pytest.raises(InputError, match="step 9: expected no step, as there are no models"):
        select_trained(config, alone, step=9)


def test_a_clip_that_a_model_of_another_machine_type_did_not_score_is_named():
    clips = [Clip(Path(f"{machine}.wav"), machine, "00", "test", "source", "normal") for machine in ("fan", "pump")]
    models = {"fan": {"resnet50_512": ClipScores({}, {}, ())}, "pump": {}}
    with pytest.raises(InputError, match=r"fan\.wav: expected a score"):
        systems.build_systems(default_config(), 2021, models, clips, {})


def test_three_clips_are_too_few_even_for_the_simple_detectors(pump: Path, tmp_path: Path):
    shutil.copytree(pump, few := tmp_path / "pump")
    for clip in sorted((few / "pump" / "train").iterdir())[FEWEST_WITHOUT_MODELS - 1 :]:
        clip.unlink()
    assert FEWEST_WITHOUT_MODELS == FEWEST_SCALED
    assert main(["check", "--config", "dcase2021", *overrides(few)]) == 2
    assert train_tiny(few, tmp_path / "run") == 2
    assert not (tmp_path / "run").exists()


def test_who_asks_for_models_learns_that_there_are_none(evaluated: Path):
    with pytest.raises(InputError, match="system all_mean: expected one of combined, mean_log_mel, mean_std_log_mel"):
        asdjax.load(evaluated, machine="pump", section="00", system="all_mean")
    with pytest.raises(InputError, match="so no models are trained and there is nothing to plan"):
        make_work(loading.read(evaluated))


def test_clips_are_accepted(evaluated: Path, pump: Path, tmp_path: Path):
    workdir = shutil.copytree(evaluated, tmp_path / "run")
    clips = sorted(pump.glob("pump/source_test/*normal*.wav"))[:2]
    detector = asdjax.load(workdir, machine="pump")
    earlier = detector.score(clips[0])
    acceptance = detector.accept(clips)
    assert acceptance.before.scores[0] == earlier.score
    statistics = [compute_statistics(soundfile.read(clip, dtype="int16")[0], 16_000)[0] for clip in clips]
    training = sorted(pump.glob("pump/train/*.wav"))
    known = [compute_statistics(soundfile.read(clip, dtype="int16")[0], 16_000)[0] for clip in training]
    fitted = LedoitWolf().fit(np.array([*known, *statistics], np.float64))
    system = asdjax.load(workdir, machine="pump", system="mean_log_mel")
    expected = np.sqrt(fitted.mahalanobis(np.array(statistics[:1], np.float64)))[0]
    assert system.score(clips[0]).score == pytest.approx(expected, rel=1e-3)
    assert detector.score(clips[0]).score < earlier.score
    asdjax.undo_accept(workdir)
    assert asdjax.load(workdir, machine="pump").score(clips[0]) == earlier
