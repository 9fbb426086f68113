"""Recordings in other formats than WAV, from the corpus to the score files: equal scores and the challenge's names."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import untrained

from asdjax.cli.main import main
from asdjax.data.layouts import read_corpus

pytestmark = pytest.mark.usefixtures("shallow")

FORMATS = (("flac", "FLAC"), ("aiff", "AIFF"), ("w64", "W64"), ("caf", "CAF"))


@pytest.fixture(scope="module")
def other_formats(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the corpus with its clips in the lossless formats in turn."""
    root = tmp_path_factory.mktemp("formats")
    for i, path in enumerate(sorted(corpus.rglob("*.wav"))):
        ending, form = FORMATS[i % len(FORMATS)]
        new = root / path.relative_to(corpus).with_suffix(f".{ending}")
        new.parent.mkdir(parents=True, exist_ok=True)
        samples, rate_hz = soundfile.read(path, dtype="int16")
        soundfile.write(new, samples, rate_hz, format=form, subtype="PCM_16")
    return root


def scores(workdir: Path) -> dict[str, dict[str, str]]:
    folder = workdir / "evaluation" / "dev" / "scores" / "all_mean"
    return {file.name: dict(csv.reader(file.read_text().splitlines())) for file in folder.glob("*.csv")}


def test_a_corpus_in_other_formats_gives_the_score_files_of_one_in_wav(
    corpus: Path, other_formats: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    for root, name in ((corpus, "wav"), (other_formats, "other")):
        untrained(root, tmp_path / name)
        assert main(["evaluate", "--workdir", str(tmp_path / name)]) == 0
    assert scores(tmp_path / "other") == scores(tmp_path / "wav")
    assert all(clip.endswith(".wav") for rows in scores(tmp_path / "other").values() for clip in rows)
    folder = tmp_path / "other" / "evaluation" / "dev" / "scores" / "all_mean"
    assert main(["metrics", "--year", "2021", "--scores", str(folder)]) == 0
    capsys.readouterr()
    score = ["score", "--workdir", str(tmp_path / "other"), "--machine", "fan", "--section", "00", "--json"]
    clips = sorted((other_formats / "fan" / "source_test").glob("section_00_*"))
    assert main([*score, *map(str, clips)]) == 0
    captured = capsys.readouterr()
    rows = {Path(row["clip"]).stem: row["score"] for row in map(json.loads, captured.out.splitlines())}
    expected = scores(tmp_path / "other")["anomaly_score_fan_section_00_source_test.csv"]
    assert {Path(clip).stem: float(value) for clip, value in expected.items()} == pytest.approx(rows, abs=1e-5)
    assert captured.err.count("warning") == captured.err.count("warning: only 0.99 of 2.00 s are scored")


def test_score_says_what_is_odd_about_a_file(
    trained_once: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    clip = next((corpus / "fan" / "source_test").iterdir())
    samples, rate_hz = soundfile.read(clip, dtype="int16")
    soundfile.write(tmp_path / "inside.wav", samples, rate_hz, format="FLAC", subtype="PCM_16")
    soundfile.write(tmp_path / "lossy.ogg", samples, rate_hz, format="OGG", subtype="VORBIS")
    content = bytearray(clip.read_bytes())
    content[4:8] = content[40:44] = b"\xff" * 4
    (tmp_path / "open.wav").write_bytes(content)
    score = ["score", "--workdir", str(trained_once), "--machine", "fan", "--section", "00", "--json"]
    capsys.readouterr()
    assert main([*score, str(clip), str(tmp_path / "inside.wav"), str(tmp_path / "open.wav")]) == 0
    captured = capsys.readouterr()
    assert len({json.loads(line)["score"] for line in captured.out.splitlines()}) == 1
    assert f"{tmp_path / 'inside.wav'}: warning: named .wav, but FLAC by its content" in captured.err
    assert f"{tmp_path / 'open.wav'}: warning: its header leaves open how long it is" in captured.err
    assert main([*score, str(tmp_path / "lossy.ogg")]) == 2
    assert "Ogg Vorbis, lossy; pass --config.data.on_mismatch=convert" in capsys.readouterr().err
    assert main([*score, "--config.data.on_mismatch=convert", str(tmp_path / "lossy.ogg")]) == 0
    assert "warning: Ogg Vorbis is lossy" in capsys.readouterr().err


@pytest.mark.parametrize("listed", [".wav", ".flac"])
def test_the_truth_is_joined_to_clips_in_flac(tmp_path: Path, listed: str):
    name = "section_00_source_test_0000"
    for folder, file in (("train", "section_00_source_train_normal_0000_x.flac"), ("source_test", f"{name}.flac")):
        (tmp_path / "fan" / folder).mkdir(parents=True)
        soundfile.write(tmp_path / "fan" / folder / file, np.zeros(10), 16_000)
    truth = tmp_path / "truth"
    truth.mkdir()
    (truth / "ground_truth_fan_section_00_source_test.csv").write_text(f"{name}{listed},1\n")
    clips = read_corpus([tmp_path], truth=truth)
    assert [(clip.name, clip.label) for clip in clips.select(split="test")] == [(f"{name}.wav", "anomaly")]
