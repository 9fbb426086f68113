"""`asdjax listen`: what it prints from a pipe and from a folder, and what it refuses."""

import io
import json
import shutil
import sys
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import shallow_networks

import asdjax
from asdjax.cli import listen_output
from asdjax.cli.main import main
from asdjax.data import filled_folder
from asdjax.data.sound_stream import Gap

RATE_HZ = 16_000

pytestmark = pytest.mark.usefixtures("shallow")


@pytest.fixture(scope="module")
def workdir(trained_once: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with shallow_networks():
        folder = shutil.copytree(trained_once, tmp_path_factory.mktemp("listen") / "run")
        asdjax.evaluate(folder)
    return folder


@pytest.fixture
def sound(corpus: Path) -> np.ndarray:
    """The normal test clips of a fan, one after another."""
    clips = sorted(corpus.rglob("fan/source_test/section_00*normal*.wav"))
    return np.concatenate([soundfile.read(clip, dtype="int16")[0] for clip in clips])


def listen(
    workdir: Path, content: bytes | None, monkeypatch: pytest.MonkeyPatch, *words: str, system: str = "combined"
) -> int:
    if content is not None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    chosen = ["--machine", "fan", "--section", "00", "--system", system]
    return main(["listen", "--workdir", str(workdir), *chosen, *words])


def wav(samples: np.ndarray, rate_hz: int = RATE_HZ) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, subtype="PCM_16", format="WAV")
    return file.getvalue()


def test_json_has_a_line_for_every_second(
    workdir: Path, sound: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    assert listen(workdir, wav(sound), monkeypatch, "--json", "--alarm", "1/1", "--smooth", "1") == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["seconds"] for row in rows] == pytest.approx([1.024 * (i + 1) for i in range(len(rows))])
    assert set(rows[0]) == {"time", "seconds", "state", "score", "smoothed", "threshold", "level_db"}
    assert {row["state"] for row in rows} <= {"normal", "alarm"}
    for row in rows:
        assert (row["state"] == "alarm") == (row["score"] > row["threshold"])
    detector = asdjax.load(workdir, machine="fan", section="00", system="combined")
    moments = list(detector.listen([sound], alarm="1/1", smooth=1))
    assert [row["score"] for row in rows] == pytest.approx([moment.score for moment in moments])


def test_people_see_changes_and_a_line_a_minute(
    workdir: Path, sound: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    quiet = np.zeros(3 * RATE_HZ, np.int16)
    monkeypatch.setattr(listen_output, "_QUIET_S", 10_000)
    assert listen(workdir, np.concatenate([quiet, sound]).tobytes(), monkeypatch, "--rate", "16000") == 0
    lines = capsys.readouterr().out.splitlines()
    states = [line.split()[2] for line in lines]
    assert states[:2] == ["starting", "off"]
    assert all(before != after for before, after in pairwise(states))
    assert max(len(line) for line in lines) < 100
    monkeypatch.setattr(listen_output, "_QUIET_S", 2)
    assert listen(workdir, np.tile(quiet, 4).tobytes(), monkeypatch, "--rate", "16000") == 0
    assert len(capsys.readouterr().out.splitlines()) in (6, 7)  # of eleven seconds


def test_gaps_are_told(workdir: Path, sound: np.ndarray, capsys: pytest.CaptureFixture[str]):
    detector = asdjax.load(workdir, machine="fan", section="00", system="all_mean")
    blocks: list = [sound, Gap("waiting", 2.0), Gap("gap", 7.25), sound]
    rules = {"alarm": "3/5", "smooth": 3}
    listen_output.show_moments(detector, blocks, rules, as_json=True)
    events = [row for line in capsys.readouterr().out.splitlines() if "event" in (row := json.loads(line))]
    assert [(row["event"], row["seconds"]) for row in events] == [("waiting", 2.0), ("gap", 7.25)]
    listen_output.show_moments(detector, blocks, rules, as_json=False)
    assert "samples are missing; a new window begins (7.2 s)" in capsys.readouterr().out


def test_a_folder_s_new_recordings_are_scored_as_by_score(
    workdir: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    clips = sorted(corpus.rglob("fan/source_test/section_00*.wav"))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "broken.wav").write_bytes(b"RIFF")
    soundfile.write(folder / "silent.wav", np.zeros(2 * RATE_HZ), RATE_HZ)
    for clip in clips:
        shutil.copy(clip, folder)
    watch = filled_folder.watch_folder
    monkeypatch.setattr(
        filled_folder,
        "watch_folder",
        lambda *of, **options: islice(watch(*of, **options, poll_s=0.01), len(clips) + 2),
    )
    monkeypatch.setattr(filled_folder, "_STABLE_S", 0.02)
    assert listen(workdir, None, monkeypatch, "--folder", str(folder), "--existing", "--json", "--smooth", "1") == 0
    out = capsys.readouterr()
    rows = {Path(row["clip"]).name: row for line in out.out.splitlines() if (row := json.loads(line))}
    assert rows.pop("silent.wav")["state"] == "off"
    detector = asdjax.load(workdir, machine="fan", section="00", system="combined")
    assert {name: row["score"] for name, row in rows.items()} == {
        clip.name: pytest.approx(detector.score(clip).score) for clip in clips
    }
    assert f"asdjax listen: {folder / 'broken.wav'}: expected a recording" in out.err


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (b"no sound at all", (), "standard input: expected WAV, or raw samples of a given rate"),
        (b"", (), "standard input: expected sound, got 0 bytes"),
        (wav(np.ones(9000, np.int16), 8000), (), "got 8000 Hz; pass --config.data.on_mismatch=convert"),
        (b"", ("--alarm", "5/3"), "alarm: expected N/M"),
        (b"", ("--rate", "16000", "--format", "mp3"), "--format: expected one of s16le"),
        (b"", ("--rate", "1"), "--rate: expected 1000 to 768000 Hz, got 1"),
        (b"", ("--existing",), "--existing: expected with --folder only"),
        (b"", ("--channels", "2"), "--channels: expected with --rate only"),
        (b"", ("--format", "s24le"), "--format: expected with --rate only"),
        (b"", ("--folder", ".", "--rate", "16000"), "--rate: expected with sound on standard input only"),
        (b"", ("--folder", ".", "--off-below", "3"), "--off-below: expected with a stream only"),
        (b"", ("--off-below", "nan"), "--off-below: expected a level in dB, got nan"),
        (bytes(3000), ("--rate", "16000"), "expected 1.1 s of sound or more"),
        (wav(np.ones(40_000, np.int16))[:70_000], (), "expected 10044 more bytes of sound by its header"),
        (b"", ("--folder", "/nowhere"), "/nowhere: expected a folder that recordings are put into"),
        (b"", ("--section", "77"), "section 77: expected one of 00, 01"),
        (b"", ("--false-alarms-per-day", "1"), "false alarms"),
    ],
)
def test_what_cannot_be_listened_to_is_refused_in_one_line(
    workdir: Path,
    content: bytes,
    words: tuple[str, ...],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    assert listen(workdir, content, monkeypatch, *words) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert message in last
    assert last.startswith("asdjax listen: ")


def test_it_ends_when_nobody_reads_any_more(workdir: Path, sound: np.ndarray, monkeypatch: pytest.MonkeyPatch):
    detector = asdjax.load(workdir, machine="fan", section="00", system="all_mean")
    used: list[int] = []
    left = iter([True, False])  # the second line finds nobody
    monkeypatch.setattr(listen_output.console, "write", lambda _: next(left))

    def blocks():
        for number in range(20):
            used.append(number)
            yield Gap("waiting", 2.0) if number % 2 else sound[:16_384]

    listen_output.show_moments(detector, blocks(), {"alarm": "3/5", "smooth": 3}, as_json=True)
    assert used[-1] < 5


def test_a_terminal_is_no_sound(workdir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    assert listen(workdir, None, monkeypatch) == 2
    assert "expected sound, got a terminal" in capsys.readouterr().err
