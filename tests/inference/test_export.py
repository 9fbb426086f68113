"""`asdjax export`: functions that need no asdjax and reproduce the scores of the evaluation."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import soundfile
from jax import export

from asdjax.cli.main import main
from asdjax.inference.export import PARTIAL
from asdjax.runtime.files import locked_folder

pytestmark = pytest.mark.usefixtures("shallow")


def table(workdir: Path, section: str, system: str = "all_mean") -> dict[str, float]:
    file = f"anomaly_score_fan_section_{section}_source_test.csv"
    path = workdir / "evaluation" / "dev" / "scores" / system / file
    return {name: float(value) for name, value in csv.reader(path.read_text().splitlines())}


def exported(workdir: Path, out: Path, *words: str) -> int:
    return main(["export", "--workdir", str(workdir), "--out", str(out), *words])


def called(out: Path, section: str, clips: np.ndarray) -> dict[str, np.ndarray]:
    folder = out / "fan"
    arrays = {**np.load(folder / "weights.npz"), **np.load(folder / f"section_{section}.npz")}
    function = export.deserialize(bytearray((folder / "function.jaxexport").read_bytes()))
    assert function.platforms == ("cpu", "cuda", "tpu")
    return jax.jit(function.call)(arrays, clips)


def samples_of(corpus: Path, names: list[str]) -> np.ndarray:
    return np.stack([soundfile.read(corpus / "fan" / "source_test" / name, dtype="int16")[0] for name in names])


def assert_same_scores(workdir: Path, corpus: Path, out: Path, rtol: float = 1e-5) -> None:
    for section in ("00", "01"):
        expected = table(workdir, section)
        got = called(out, section, samples_of(corpus, list(expected)))
        np.testing.assert_allclose(got["score"], list(expected.values()), rtol=rtol, atol=1e-5)


def test_the_function_gives_the_scores_of_the_evaluation(
    trained_once: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """It takes clips of the usual length of the training clips."""
    out = tmp_path / "exported"
    capsys.readouterr()
    assert exported(trained_once, out) == 0
    assert f"{out / 'fan' / 'function.jaxexport'}: for clips of 2 s\n" in capsys.readouterr().out
    assert_same_scores(trained_once, corpus, out)
    clips = samples_of(corpus, list(table(trained_once, "00")))
    got, one = called(out, "00", clips), called(out, "00", clips[:1])
    np.testing.assert_allclose(one["score"], got["score"][:1], atol=1e-6)
    assert got["pieces"].shape == (6, 1)
    (embedding,) = got["embeddings"].values()
    assert embedding.shape == (6, 1, 128)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=-1), 1, rtol=1e-5)
    results = json.loads((trained_once / "evaluation" / "dev" / "results.json").read_text())
    (limit,) = results["systems"]["all_mean"]["thresholds"]
    assert json.loads((out / "fan" / "section_01.json").read_text())["threshold"] == limit["value"]


def test_the_example_needs_no_asdjax(trained_once: Path, corpus: Path, tmp_path: Path):
    out = tmp_path / "exported"
    assert exported(trained_once, out) == 0
    expected = table(trained_once, "01")
    clips = [str(corpus / "fan" / "source_test" / name) for name in expected]
    code = "import runpy, sys; sys.modules['asdjax'] = None; del sys.argv[0]; runpy.run_path(sys.argv[0])"
    command = [sys.executable, "-c", code, str(out / "example.py"), "fan", "01", *clips]
    output = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    rows = [line.split() for line in output.splitlines()]
    assert [row[0] for row in rows] == clips
    assert [float(row[1]) for row in rows] == pytest.approx(list(expected.values()), abs=1e-5)
    assert {row[2] for row in rows} <= {"anomaly", "normal"}
    samples, rate = soundfile.read(clips[0])
    soundfile.write(tmp_path / "same.flac", samples, rate, subtype="PCM_16")
    ran = subprocess.run([*command[: -len(clips)], str(tmp_path / "same.flac")], capture_output=True, text=True)
    assert ran.stdout.split()[1:] == rows[0][1:]
    (tmp_path / "cut.flac").write_bytes((tmp_path / "same.flac").read_bytes()[:-100])
    ran = subprocess.run([*command[: -len(clips)], str(tmp_path / "cut.flac")], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert f"{tmp_path / 'cut.flac'}: expected a recording, got" in ran.stderr
    soundfile.write(tmp_path / "float.wav", samples, rate, subtype="FLOAT")
    ran = subprocess.run([*command[: -len(clips)], str(tmp_path / "float.wav")], capture_output=True, text=True)
    assert ran.returncode == 1
    assert "float.wav: expected 32000 samples of one channel at 16000 Hz in 16 bit" in ran.stderr
    command[-len(clips) - 1] = "07"
    ran = subprocess.run(command, capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (1, "fan 07: expected one of fan 00, fan 01\n")


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "knn_density", "bank": "either_domain", "pooling": "top"},
        pytest.param({"backend": "mahalanobis"}, marks=pytest.mark.slow),
        pytest.param({"backend": "kmeans", "prototypes": "2", "pooling": "max"}, marks=pytest.mark.slow),
        pytest.param({"smote_ratio": "1.0", "stride_frames": "8"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_however_clips_are_scored(settings: dict[str, str], trained: Path, corpus: Path, tmp_path: Path):
    words = [f"--config.evaluate.{field}={value}" for field, value in settings.items()]
    assert main(["evaluate", "--workdir", str(trained), *words]) == 0
    out = tmp_path / "exported"
    assert exported(trained, out) == 0
    # Embeddings of this tiny fleet differ by 1e-4, of which float32 cosines keep three digits; ratios show it.
    assert_same_scores(trained, corpus, out, rtol=1e-2)


@pytest.mark.parametrize("system", ["combined", "mean_log_mel"])
def test_simple_detectors_are_exported_alone_and_combined(system: str, trained: Path, corpus: Path, tmp_path: Path):
    assert main(["evaluate", "--workdir", str(trained), "--config.evaluate.system=combined"]) == 0
    out = tmp_path / "exported"
    assert exported(trained, out, *([] if system == "combined" else ["--system", system])) == 0
    for section in ("00", "01"):
        expected = table(trained, section, system)
        got = called(out, section, samples_of(corpus, list(expected)))
        np.testing.assert_allclose(got["score"], list(expected.values()), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(got["pieces"].mean(axis=1), got["score"], rtol=1e-4, atol=1e-4)
    assert set(got["embeddings"]) == ({"fan/phase2_full/resnet50_512"} if system == "combined" else set())


def test_refusals_leave_nothing_behind(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "exported"
    for words, expected in (
        (["--machines", "pump"], "machines pump: expected any of fan"),
        (["--system", "x"], "system x: expected one of"),
        (["--seconds", "0.5"], "seconds 0.5: expected 0.992 or more, the length of a piece"),
        (["--split", "eval"], "expected an evaluation, got none; run asdjax evaluate"),
    ):
        capsys.readouterr()
        assert exported(trained, out, *words) == 2
        assert expected in capsys.readouterr().err
        assert list(tmp_path.glob("exported*")) == []
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    assert exported(trained, out) == 2
    assert [path.name for path in out.iterdir()] == ["mine.txt"]
    assert exported(trained, out / "mine.txt" / "out") == 2
    assert "choose another folder" in capsys.readouterr().err
    assert exported(trained, tmp_path / ("x" * 300)) == 2
    assert "choose shorter names" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"exported", "run"}


@pytest.mark.parametrize("moved", [False, True])
def test_what_a_kill_left_is_no_obstacle(moved: bool, trained_once: Path, tmp_path: Path):
    out = tmp_path / "exported"
    (out / PARTIAL / "fan").mkdir(parents=True)
    (out / PARTIAL / "fan" / "weights.npz").write_text("half")
    if moved:
        (out / "pump").mkdir()
        (out / "pump" / "function.jaxexport").write_text("of another")
        (out / "example.py").write_text("")
    assert exported(trained_once, out) == 0
    assert {path.name for path in out.iterdir()} == {"example.py", "fan"}
    assert (out / "fan" / "function.jaxexport").is_file()


def test_two_exports_to_one_folder_do_not_mix(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "exported"
    capsys.readouterr()
    with locked_folder(out):
        assert exported(trained, out) == 75
    assert "another asdjax process is at work in it" in capsys.readouterr().err


def test_the_folder_that_the_user_is_in_is_taken(trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert exported(trained_once.absolute(), Path()) == 0
    assert Path("example.py").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
