"""`asdjax score`: scores as in the evaluation, clips of any kind, and anomalous seconds."""

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import soundfile
from conftest import train_tiny

from asdjax.api_detector import Detector
from asdjax.cli.main import main
from asdjax.cli.score_output import score_all
from asdjax.config import loading
from asdjax.config.fields import Config, default_config
from asdjax.data import audio
from asdjax.data.clips import Clip
from asdjax.inference.anomalous_seconds import time_pieces
from asdjax.inference.clip_reader import ClipReader
from asdjax.inference.detector import ClipResult, SectionDetector
from asdjax.inference.loaded_evaluation import open_evaluation
from asdjax.inference.loaded_system import DetectorSource, LoadedSystem, open_detector
from asdjax.inference.stored_embeddings import Checkpointed, Embedded
from asdjax.inference.thresholds import ThresholdRule, Thresholds, fit_all

pytestmark = pytest.mark.usefixtures("shallow")

RATE = 16000


def score(workdir: Path, *words: str, section: str = "00") -> int:
    return main(["score", "--workdir", str(workdir), "--machine", "fan", "--section", section, *words])


def output_rows(capsys: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def table(path: Path) -> dict[str, float]:
    return {name: float(value) for name, value in csv.reader(path.read_text().splitlines())}


def noise(seconds: float, seed: int = 0, scale: float = 0.1, shape: tuple[int, ...] = ()) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(round(seconds * RATE), *shape))


@pytest.fixture(scope="module")
def detector(trained_once: Path) -> SectionDetector:
    return open_detector(DetectorSource(open_evaluation(trained_once, "dev"), None, "fan", "00", None))


def scorer(config: Config, detector: SectionDetector) -> Callable[[Path], ClipResult]:
    """Return the function that `asdjax score` calls for each clip."""
    return Detector(detector, ClipReader.for_detector(config, detector), cast(DetectorSource, None)).score


@pytest.mark.parametrize("system", ["all_mean", "resnet50_512", "best_single"])
@pytest.mark.parametrize("section", ["00", "01"])
def test_test_clips_get_the_scores_and_decisions_of_the_evaluation(
    system: str, section: str, trained_once: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    files = trained_once / "evaluation" / "dev" / "scores" / system
    place = f"fan_section_{section}_target_test.csv"
    scores, decisions = (table(files / f"{kind}_{place}") for kind in ("anomaly_score", "decision_result"))
    clips = sorted((corpus / "fan" / "target_test").glob(f"section_{section}_*"))
    capsys.readouterr()
    assert score(trained_once, "--json", "--system", system, *map(str, clips), section=section) == 0
    rows = output_rows(capsys)
    assert [Path(row["clip"]).name for row in rows] == [clip.name for clip in clips] == list(scores)
    for row, clip in zip(rows, clips, strict=True):
        assert row["score"] == pytest.approx(scores[clip.name], abs=1e-5)
        assert (row["decision"] == "anomaly") == bool(decisions[clip.name])


@pytest.mark.parametrize("how", ["zscore", "rank"])
def test_ensembles_of_scaled_scores_are_those_of_the_evaluation(
    how: str, trained: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    lines = "phase1,phase2_full"
    assert train_tiny(corpus, trained, evaluate__lines=lines) == 0
    assert main(["evaluate", "--workdir", str(trained), f"--config.evaluate.ensemble={how}"]) == 0
    place = "anomaly_score_fan_section_00_source_test.csv"
    expected = table(trained / "evaluation" / "dev" / "scores" / "all_mean" / place)
    clips = [str(corpus / "fan" / "source_test" / name) for name in expected]
    capsys.readouterr()
    assert score(trained, "--json", *clips) == 0
    # Training scores of this tiny fleet differ by 1e-4, so the scales magnify rounding: to one or two ranks of 36.
    assert [row["score"] for row in output_rows(capsys)] == pytest.approx(list(expected.values()), rel=0.02, abs=0.06)


def test_the_training_recordings_need_not_be_there(trained: Path, corpus: Path, tmp_path: Path):
    clip = Path(shutil.copy(next((corpus / "fan" / "source_test").iterdir()), tmp_path / "new.wav"))
    shutil.rmtree(trained / "store")
    assert score(trained, str(clip)) == 0


def test_anomalous_seconds_are_where_pieces_lie_above_the_threshold(detector: SectionDetector):
    samples = (32768 * noise(5.3)).astype(np.int16)
    result = detector.score_clip(samples)
    assert len(result.pieces.score) == 5
    for above, expected in (
        ([0, 0, 0, 0, 0], []),
        ([1, 1, 0, 0, 1], [(0, 2.048), (4.096, 5.12)]),
        ([1, 1, 1, 1, 1], [(0, 5.12)]),
    ):
        ranges = time_pieces(len(samples), np.array(above), detector.spectrogram, 32).above(0.5)
        np.testing.assert_allclose(np.reshape(ranges, (-1, 2)), np.reshape(expected, (-1, 2)))
    for begin, end in result.anomalous_seconds:
        assert result.pieces.score[round(begin * RATE / 512 / 32)] > result.threshold
        assert end <= 5.3
    assert result.score == pytest.approx(result.pieces.score.mean(), abs=1e-6)


@pytest.mark.parametrize("seconds", [1.1, 10.0, 61.0])
def test_clips_of_any_length(seconds: float, trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    soundfile.write(tmp_path / "a.wav", noise(seconds), RATE, subtype="PCM_16")
    capsys.readouterr()
    assert score(trained_once, "--json", str(tmp_path / "a.wav")) == 0
    (row,) = output_rows(capsys)
    assert np.isfinite(row["score"])
    assert all(0 <= begin < end <= seconds for begin, end in row["anomalous_seconds"])


def test_a_clip_that_is_scored_in_part_is_named(trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    for seconds, warnings in ((1.97, 1), (2.1, 0)):
        soundfile.write(tmp_path / "a.wav", noise(seconds), RATE, subtype="PCM_16")
        capsys.readouterr()
        assert score(trained_once, "--domain", "source", str(tmp_path / "a.wav")) == 0
        said = capsys.readouterr().err
        assert said.count("warning: only 0.99 of 1.97 s are scored, whole pieces of 0.99 s") == warnings


def test_standard_input_without_a_path_is_named(
    trained_once: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    capsys.readouterr()
    assert score(trained_once, "-") == 0
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "standard input: no path in it, so no clip is scored" in shown.err


def test_silence_has_a_score(trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    soundfile.write(tmp_path / "a.wav", np.zeros(3 * RATE), RATE, subtype="PCM_16")
    capsys.readouterr()
    assert score(trained_once, "--json", str(tmp_path / "a.wav")) == 0
    shown = capsys.readouterr()
    assert np.isfinite(json.loads(shown.out)["score"])
    assert f"{tmp_path / 'a.wav'}: warning: silent; check the microphone" in shown.err


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_score_that_is_not_finite_is_no_decision(
    value: float, detector: SectionDetector, trained_once: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    (part,) = detector.parts
    members = [member._replace(normaliser=lambda scores: np.full_like(scores, value)) for member in part.members]
    spoilt = detector._replace(parts=[part._replace(members=members)])
    clip, shown = str(next(corpus.rglob("*.wav"))), []
    assert score_all(scorer(loading.read(trained_once), spoilt), [clip], True, lambda line: not shown.append(line)) == 1
    assert shown == []
    assert f"asdjax score: {clip}: expected a finite score, got {value}" in capsys.readouterr().err


def test_what_cannot_be_scored_is_said_and_passed_over(
    trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    soundfile.write(tmp_path / "good.wav", noise(2), RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "short.wav", noise(0.5), RATE, subtype="PCM_16")
    soundfile.write(tmp_path / "stereo.wav", noise(6, shape=(2,)), 44100, subtype="PCM_16")
    (tmp_path / "page.wav").write_text("<html></html>")
    clips = [str(tmp_path / f"{name}.wav") for name in ("short", "stereo", "page", "none", "good")]
    capsys.readouterr()
    assert score(trained_once, "--json", *clips) == 2
    captured = capsys.readouterr()
    assert [Path(json.loads(line)["clip"]).stem for line in captured.out.splitlines()] == ["good"]
    errors = [line for line in captured.err.splitlines() if line.startswith("asdjax score: ")]
    assert len(errors) == 4
    for line, clip, expected in zip(
        errors, clips, ("expected 0.99 s or more", "convert", "HTML", "got nothing there"), strict=False
    ):
        assert clip in line
        assert expected in line
    assert score(trained_once, "--config.data.on_mismatch=convert", clips[1]) == 0


def test_a_stream_of_paths_is_answered_as_it_comes(
    trained_once: Path, corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    clips = sorted(map(str, (corpus / "fan" / "source_test").iterdir()))[:3]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join([clips[0], "", clips[1]]) + "\n"))
    capsys.readouterr()
    assert score(trained_once, "--json", "-", clips[2]) == 0
    assert [row["clip"] for row in output_rows(capsys)] == clips


def test_paths_may_end_as_windows_ends_them(
    trained_once: Path, corpus: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    clip = str(next((corpus / "fan" / "source_test").iterdir()))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{clip}\r\n"))
    capsys.readouterr()
    assert score(trained_once, "--json", "-") == 0
    assert [row["clip"] for row in output_rows(capsys)] == [clip]


def standard_input(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content), encoding="utf-8", errors="strict"))


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\0"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_path_of_standard_input_that_can_be_read_is_scored(
    end: bytes,
    mark: bytes,
    trained_once: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    """Score names in Latin-1 and composed or decomposed UTF-8, and log one that does not exist."""
    folder = os.fsencode(tmp_path)
    names = [b"a.wav", b"caf\xe9.wav", "u\u0308ber.wav".encode(), b"z.wav"]
    soundfile.write(tmp_path / "a.wav", noise(2), RATE, subtype="PCM_16")
    for name in names[1:]:
        shutil.copy(tmp_path / "a.wav", os.fsdecode(folder + b"/" + name))
    paths = [*names[:2], b"gone\xff.wav", "\u00fcber.wav".encode(), names[3]]
    standard_input(mark + end.join(folder + b"/" + name for name in paths) + end, monkeypatch)
    capsys.readouterr()
    assert score(trained_once, "--json", "-") == 2
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [os.fsencode(Path(row["clip"]).name) for row in rows] == [paths[i] for i in (0, 1, 3, 4)]
    errors = [line for line in captured.err.splitlines() if line.startswith("asdjax score: ")]
    assert len(errors) == 1
    assert "gone" in errors[0]


def test_paths_in_utf_16_are_refused(
    trained_once: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    standard_input("a.wav\n".encode("utf-16"), monkeypatch)
    assert score(trained_once, "-") == 2
    assert "standard input: expected paths in UTF-8, got UTF-16" in capsys.readouterr().err


def test_a_clip_in_the_home_folder(
    trained_once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    soundfile.write(tmp_path / "a.wav", noise(2), RATE, subtype="PCM_16")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert score(trained_once, "--json", "~/a.wav") == 0


@pytest.mark.parametrize("as_json", [True, False])
def test_nothing_is_scored_for_a_reader_that_has_had_enough(
    as_json: bool, detector: SectionDetector, trained_once: Path, corpus: Path
):
    clips, shown = iter([str(next(corpus.rglob("*.wav")))] * 3), []
    config = loading.read(trained_once)
    assert score_all(scorer(config, detector), clips, as_json, lambda line: bool(shown.append(line))) == 0
    assert (len(shown), len(list(clips))) == (1, 2)


def test_where_no_clip_can_be_scored_there_is_no_table(trained_once: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert score(trained_once, "nowhere.wav") == 2
    assert capsys.readouterr().out == ""


def test_a_domain_that_nothing_goes_by_is_told_to_be_of_no_effect(
    trained_once: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    clip = str(next((corpus / "fan" / "source_test").iterdir()))
    capsys.readouterr()
    assert score(trained_once, "--domain", "target", clip) == 0
    assert capsys.readouterr().err.startswith(
        "domain target: no effect, because neither config.evaluate.bank nor .threshold_per uses domains\n"
    )


def test_a_table_for_people(trained_once: Path, corpus: Path, capsys: pytest.CaptureFixture[str]):
    clip = next((corpus / "fan" / "source_test").iterdir())
    capsys.readouterr()
    assert score(trained_once, str(clip)) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert "score" in head
    assert "seconds above threshold" in head
    assert line.split()[0] in ("normal", "anomaly")
    assert line.endswith(str(clip))


def test_a_clip_with_many_spans_keeps_its_columns_and_lists_all_of_them_as_json():
    spans = [(2.0 * i, 2.0 * i + 1.5) for i in range(6)]
    result = SimpleNamespace(score=0.25, threshold=0.5, is_anomaly=False, anomalous_seconds=spans)
    shown: list[str] = []
    for as_json in (False, True):
        score_all(lambda path: cast("ClipResult", result), ["a.wav"], as_json, lambda line: not shown.append(line))
    head, line, row = shown
    assert line == "normal     0.250000  0.0-1.5, 2.0-3.5, …      a.wav"
    assert line.index("a.wav") == head.index("clip (")
    assert json.loads(row)["anomalous_seconds"] == [list(span) for span in spans]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--machine", "pump"], "machine pump: expected one of fan"),
        (["--section", "07"], "section 07: expected one of 00, 01 of fan"),
        (["--system", "best"], "system best: expected one of resnet50_512, best_single"),
        (["--split", "eval"], "expected an evaluation, got none; run asdjax evaluate"),
        (["--config.evaluate.k=3"], "config.evaluate.k: expected a field that may change here"),
    ],
)
def test_refusals(words: list[str], expected: str, trained_once: Path, capsys: pytest.CaptureFixture[str]):
    capsys.readouterr()
    assert score(trained_once, "clip.wav", *words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert expected in line


def test_without_a_domain_the_section_s_threshold_decides_where_thresholds_go_by_domains(
    trained: Path, corpus: Path, capsys: pytest.CaptureFixture[str]
):
    by_domain = ["--config.evaluate.threshold_per=section_domain", "--config.evaluate.threshold_few_clips=2"]
    assert main(["evaluate", "--workdir", str(trained), *by_domain]) == 0
    content = json.loads((trained / "evaluation" / "dev" / "results.json").read_text())
    limits = {(row["section"], row["domain"]): row["value"] for row in content["systems"]["all_mean"]["thresholds"]}
    clip = str(next((corpus / "fan" / "target_test").iterdir()))
    for words, domain in (((), None), (("--domain", "target"), "target")):
        capsys.readouterr()
        assert score(trained, "--json", *words, clip) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["threshold"] == limits["00", domain]
        assert ("no domain given: using the threshold of the section" in err) == (domain is None)


def make_clip(section: str, domain: Any) -> Clip:
    return Clip(Path("a.wav"), "fan", section, "train", domain, "normal")


def load_system(clips: list[Clip], config: Config, thresholds: Thresholds = MappingProxyType({})) -> LoadedSystem:
    """Return a system of one checkpoint with these training clips, as far as its places need it."""
    one: Any = None
    return LoadedSystem(
        config=config,
        machine="fan",
        normaliser="score",
        thresholds=thresholds,
        checkpoints=[(one, one)],
        simple=(),
        statistics=Checkpointed(Embedded(clips, [], one, {}), one),
        clip_seconds=10.0,
        mixed={},
    )


@pytest.mark.parametrize(
    ("scores", "logged"),
    [({"source": [1.0, 2.0, 3.0], "target": [4.0, 6.0]}, True), ({"source": [1.0, 2.0]}, False)],
    ids=["two domains", "one domain"],
)
@pytest.mark.parametrize("few", ["predicted", "section"])
def test_a_missing_domain_is_mentioned_only_where_it_changes_the_threshold(
    scores: dict[str, list[float]], logged: bool, few: str, capsys: pytest.CaptureFixture[str]
):
    """Where few clips of a domain get the section's threshold, it does not."""
    config = default_config()
    config.evaluate.threshold_per, config.evaluate.threshold_few = "section_domain", few
    config.evaluate.threshold_few_clips = 3 if few == "predicted" else 9
    sections = {"00": scores, "01": {"source": [1.0, 2.0, 3.0], "target": [7.0, 9.0]}}
    training = {
        Clip(Path(f"{section}{domain}{i}.wav"), "fan", section, "train", domain, "normal"): score  # pyright: ignore
        for section, by_domain in sections.items()
        for domain, of_domain in by_domain.items()
        for i, score in enumerate(of_domain)
    }
    limits = fit_all(training, ThresholdRule.from_config(config))
    load_system(list(training), config, limits).warn_without_domain("00")
    logged = logged and few == "predicted"
    assert ("no domain given" in capsys.readouterr().err) == logged


@pytest.mark.parametrize("evaluate", [{}, {"threshold_per": "section_domain"}, {"bank": "same_domain"}], ids=str)
def test_a_section_of_one_domain_has_one_detector_and_is_exported_once(evaluate: dict[str, str]):
    config = default_config()
    config.evaluate.update(evaluate)
    cells = [*(("00", domain) for domain in ("source", "target", "source")), ("01", "source")]
    system = load_system([make_clip(section, domain) for section, domain in cells], config)
    domains = [("00", "source"), ("00", "target")]
    expected = {
        "": [("00", None), ("01", None)],
        "threshold_per": [("00", None), *domains, ("01", None)],
        "bank": [*domains, ("01", "source")],
    }
    assert sorted(system.places, key=str) == sorted(expected["".join(evaluate)], key=str)


def test_the_header_of_a_clip_is_read_once(
    detector: SectionDetector, trained_once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Reading it takes time for MP3 and Ogg, whose length is found by decoding."""
    soundfile.write(tmp_path / "a.ogg", noise(2), RATE, format="OGG", subtype="VORBIS")
    reads, read = [], audio._READERS["OGG"]
    monkeypatch.setitem(audio._READERS, "OGG", lambda source: reads.append(source.path) or read(source))
    config = loading.read(trained_once, {"data.on_mismatch": "convert"}, ("data",))
    assert score_all(scorer(config, detector), [str(tmp_path / "a.ogg")], True, lambda line: True) == 0
    assert len(reads) == 1


def test_a_domain_is_asked_for_where_banks_go_by_it(trained: Path, corpus: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["evaluate", "--workdir", str(trained), "--config.evaluate.bank=same_domain"]) == 0
    place = "anomaly_score_fan_section_00_target_test.csv"
    expected = table(trained / "evaluation" / "dev" / "scores" / "all_mean" / place)
    clip = str(corpus / "fan" / "target_test" / next(iter(expected)))
    assert score(trained, clip) == 2
    assert "domain: expected source or target" in capsys.readouterr().err
    assert score(trained, "--json", "--domain", "target", clip) == 0
    assert output_rows(capsys)[0]["score"] == pytest.approx(next(iter(expected.values())), abs=1e-5)


def test_a_checkpoint_that_is_gone_is_named(trained: Path, corpus: Path, capsys: pytest.CaptureFixture[str]):
    shutil.rmtree(trained / "fan" / "phase2_full")
    assert score(trained, str(next((corpus / "fan" / "source_test").iterdir()))) == 2
    assert "run asdjax train again, and then asdjax evaluate" in capsys.readouterr().err
