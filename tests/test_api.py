"""The Python API: the functions of the README on a small run."""

import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import PROJECT, shallow_networks

import asdjax
from asdjax.config.overrides import as_texts
from asdjax.evaluation.evaluation_results import EvaluationResults

VARIANT = "resnet50_512"

pytestmark = pytest.mark.usefixtures("shallow")


def test_importing_asdjax_imports_no_jax():
    code = "import sys, asdjax; sys.exit(any(name in sys.modules for name in ('jax', 'numpy', 'flax')))"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT, check=False).returncode == 0


def test_an_unknown_name_is_no_attribute():
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = asdjax.trian  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def evaluated(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluationResults:
    """The evaluation of a copy of the trained work directory."""
    with shallow_networks():
        return asdjax.evaluate(shutil.copytree(trained_once, tmp_path_factory.mktemp("api") / "run"))


@pytest.fixture
def workdir(evaluated: EvaluationResults) -> Path:
    return evaluated.folder.parents[1]


def test_the_table_and_the_systems_are_those_of_the_files(evaluated):
    assert evaluated.table == (evaluated.folder / "table.md").read_text()
    official = asdjax.official_metrics(2021, evaluated.folder / "scores" / "all_mean").official
    assert evaluated.systems["all_mean"].official == pytest.approx(official, abs=1e-9)
    assert list(evaluated.content["systems"]) == list(evaluated.systems)
    assert evaluated.systems["all_mean"].selection == "none"
    with pytest.raises(KeyError, match="no system 'fleet' in this evaluation, which has "):
        _ = evaluated.systems["fleet"]


def test_files_and_arrays_of_the_same_samples_score_alike(evaluated, workdir: Path, corpus: Path):
    detector = asdjax.load(workdir, machine="fan", section="00")
    clip = min(corpus.rglob("fan/source_test/*.wav"))
    result = detector.score(clip)
    samples, rate = soundfile.read(clip, dtype="float32")
    for array in (samples, np.stack([samples, samples], axis=1), soundfile.read(clip, dtype="int16")[0]):
        assert detector.score(array, sample_rate_hz=rate).score == pytest.approx(result.score, abs=1e-6)
    assert result.is_anomaly is (result.score > detector.threshold)
    assert result.threshold == detector.threshold
    assert all(0 <= begin < end <= len(samples) / rate for begin, end in result.anomalous_seconds)
    embedded = detector.embed(clip)[VARIANT]
    assert embedded.shape == (len(result.pieces), 128)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        (np.zeros(100, np.int16), "expected .* s or more"),
        (np.zeros(0, np.int16), "expected samples, got an array of shape"),
        (np.zeros((64_000, 0), np.int16), "expected samples, got an array of shape"),
        (np.zeros((4, 4, 4), np.float32), "expected samples of shape"),
        (np.full(64_000, np.nan, np.float32), "finite"),
        (np.zeros(64_000, bool), "expected int16 or float"),
        (np.zeros((2, 64_000), np.int16), r"expected .* \(s, channels\), got \(2, 64000\); transpose them"),
        (np.full(64_000, 770.0), "expected float samples with full scale 1, got values up to 770; divide them"),
        (Path("missing.wav"), "missing.wav"),
    ],
)
def test_wrong_clips_are_refused(evaluated, workdir: Path, clip, words: str):
    detector = asdjax.load(workdir, machine="fan", section="00")
    with pytest.raises(asdjax.InputError, match=words):
        detector.score(clip)


def test_samples_that_are_clipped_are_scored_with_a_warning(
    evaluated, workdir: Path, capsys: pytest.CaptureFixture[str]
):
    detector = asdjax.load(workdir, machine="fan", section="00")
    loud = np.random.default_rng(0).uniform(-2.02, 2.02, 64_000)
    capsys.readouterr()
    assert detector.score(loud).score == pytest.approx(detector.score(loud.clip(-1, 1)).score, abs=1e-6)
    first, second = capsys.readouterr().err.splitlines()
    assert first == second
    assert first.startswith("samples: warning: 50.")
    assert "% of its samples are at full scale; record at a lower level" in first


def test_a_channel_that_samples_lack_is_refused(workdir: Path):
    overrides = {"data.channel": "3", "data.on_mismatch": "convert"}
    detector = asdjax.load(workdir, machine="fan", section="00", overrides=overrides)
    with pytest.raises(asdjax.InputError, match="expected a channel 3, has 2"):
        detector.score(np.zeros((64_000, 2), np.int16))


def test_words_that_commands_would_refuse_are_refused(workdir: Path):
    with pytest.raises(asdjax.InputError, match="split: expected one of dev, eval, got 'Dev'"):
        asdjax.evaluate(workdir, split="Dev")
    with pytest.raises(asdjax.InputError, match=r"baselines\.epochs: expected an evaluation with baselines"):
        asdjax.evaluate(workdir, overrides={"baselines.epochs": 5})
    with pytest.raises(asdjax.InputError, match="domain Target: expected source or target"):
        asdjax.load(workdir, machine="fan", section="00", domain="Target")  # pyright: ignore[reportArgumentType]


def test_overrides_are_values_paths_and_numpy_s_numbers(tmp_path: Path):
    overrides = {"data.root": [tmp_path / "dev", tmp_path / "eval"], "width": np.float64(0.5), "seed": (1, 2)}
    assert as_texts(overrides) == {
        "data.root": repr((str(tmp_path / "dev"), str(tmp_path / "eval"))),
        "width": "0.5",
        "seed": "(1, 2)",
    }


def test_the_home_folder_is_expanded(monkeypatch: pytest.MonkeyPatch, workdir: Path):
    monkeypatch.setenv("HOME", str(workdir.parent))
    assert asdjax.load(f"~/{workdir.name}", machine="fan", section="00").threshold > 0


def test_metrics_do_not_import_jax(shared_data: Path):
    code = (
        "import sys, asdjax; print(asdjax.official_metrics(2021, sys.argv[1]).official); sys.exit('jax' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(shared_data / "official/2021/dev_scores")]
    ran = subprocess.run(words, cwd=PROJECT, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_names_are_compared_composed(evaluated, workdir: Path, monkeypatch: pytest.MonkeyPatch):
    """A machine type called Lüfter is found by either of Unicode's spellings."""
    asked = []
    monkeypatch.setattr(
        "asdjax.inference.loaded_system.open_detector",
        lambda source: asked.append((source.machine, source.section)) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        asdjax.load(workdir, machine=unicodedata.normalize("NFD", "Lüfter"), section=unicodedata.normalize("NFD", "ä"))
    assert asked == [("Lüfter", "ä")]
