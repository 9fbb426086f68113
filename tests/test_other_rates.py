"""Other sampling rates, end to end: the same samples at another rate have the same pieces, so the same model scores.

Only times and frequencies differ, and the mel bands of the simple detectors.
"""

import html
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import shallow_networks, untrained

import asdjax
from asdjax.cli.main import main
from asdjax.errors import InputError
from asdjax.evaluation.evaluation_results import EvaluationResults

pytestmark = pytest.mark.usefixtures("shallow")


def retime(corpus: Path, folder: Path, rate_hz: int) -> Path:
    """Copy a corpus, with another rate in its headers."""
    for path in corpus.rglob("*.wav"):
        content = bytearray(path.read_bytes())
        struct.pack_into("<II", content, 24, rate_hz, 2 * rate_hz)
        copy = folder / path.relative_to(corpus)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(content)
    return folder


def evaluate(corpus: Path, workdir: Path, rate_hz: int) -> EvaluationResults:
    changes = {"signal__sample_rate_hz": str(rate_hz), "evaluate__system": "combined"}
    return asdjax.evaluate(untrained(corpus, workdir, **changes), sensitivity=rate_hz == 25_600)


@pytest.fixture(scope="module")
def usual(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> EvaluationResults:
    with shallow_networks():
        return evaluate(corpus, tmp_path_factory.mktemp("usual") / "run", 16_000)


@pytest.fixture(scope="module", params=[25_600, 96_000])
def other(
    request: pytest.FixtureRequest, corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[int, Path, EvaluationResults]]:
    """A rate, its corpus and its evaluation."""
    rate_hz, folder = request.param, tmp_path_factory.mktemp("rate")
    clips = retime(corpus, folder / "data", rate_hz)
    with shallow_networks():
        yield rate_hz, clips, evaluate(clips, folder / "run", rate_hz)


def test_models_score_the_same_samples_alike_at_any_rate(
    usual: EvaluationResults, other: tuple[int, Path, EvaluationResults]
):
    _, _, results = other
    for system in ("all_mean", "resnet50_512"):
        assert results.systems[system].official == usual.systems[system].official
    for name in ("mean_log_mel", "combined"):
        official = results.systems[name].official
        assert official is not None
        assert 0.3 < official <= 1


def test_times_are_in_seconds_of_the_rate(usual: EvaluationResults, other: tuple[int, Path, EvaluationResults]):
    rate_hz, clips, results = other
    clip = min(clips.rglob("fan/source_test/*anomaly*.wav"))
    samples, read_hz = soundfile.read(clip, dtype="int16")
    assert read_hz == rate_hz
    detector = asdjax.load(results.folder.parents[1], machine="fan", section="00", system="all_mean")
    result = detector.score(clip)
    same = asdjax.load(usual.folder.parents[1], machine="fan", section="00", system="all_mean").score(samples)
    assert result.score == same.score
    np.testing.assert_allclose(result.pieces.end * rate_hz, same.pieces.end * 16_000)
    moments = list(detector.listen([np.tile(samples, 3)]))
    assert moments[0].seconds == pytest.approx(32 * 512 / rate_hz)
    soundfile.write(wrong := clips.parent / "wrong.wav", samples, 44_100)
    with pytest.raises(InputError, match=f"expected mono 16-bit PCM at {rate_hz} Hz, got 44100 Hz"):
        detector.score(wrong)


def test_the_report_s_axes_reach_half_the_rate(
    other: tuple[int, Path, EvaluationResults], capsys: pytest.CaptureFixture[str]
):
    rate_hz, _, results = other
    assert main(["report", "--workdir", str(results.folder.parents[1])]) == 0
    text = html.unescape((results.folder / "report.html").read_text())
    bands = [float(number) for number in re.findall(r"([\d.]+) kHz", text)]
    assert bands
    assert rate_hz / 4000 < max(bands) <= rate_hz / 2000
    assert "warning" not in capsys.readouterr().err.lower()
