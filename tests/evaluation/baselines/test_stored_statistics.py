"""Stored log-mel statistics: computed once per clip, and again if the file is damaged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from asdjax.data.access import Recording
from asdjax.evaluation.baselines import stored_statistics as stored
from asdjax.inference.log_mel_statistics import compute_statistics

RATE = 16_000


def recording(seed: int) -> Recording:
    samples = (1000 * np.random.default_rng(seed).normal(size=8000)).astype(np.int16)
    return Recording(samples, f"digest of {seed}")


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that collects the lengths of the clips computed during a test."""
    done: list[int] = []
    monkeypatch.setattr(
        stored,
        "compute_statistics",
        lambda samples, rate: done.append(len(samples)) or compute_statistics(samples, rate),
    )
    return done


def frames(folder: Path, *seeds: int, rate: int = RATE) -> np.ndarray:
    return stored.load_statistics(folder, [recording(seed) for seed in seeds], rate, "fan")


def test_each_clip_is_computed_once_whatever_others_there_are(tmp_path: Path, computed: list[int]):
    first = frames(tmp_path, 1, 2, 1)
    assert len(computed) == 2
    assert np.array_equal(first[0], compute_statistics(recording(1).samples, RATE))
    assert np.array_equal(frames(tmp_path, 3, 2, 1)[1:], first[[1, 0]])
    assert len(computed) == 3
    assert [path.name for path in tmp_path.iterdir()] == [stored.FILE]


def test_none_of_no_clips(tmp_path: Path):
    assert frames(tmp_path).shape == (0, 2, 128)


def test_another_sample_rate_has_frames_of_its_own(tmp_path: Path, computed: list[int]):
    frames(tmp_path, 1)
    assert np.array_equal(frames(tmp_path, 1, rate=8000)[0], compute_statistics(recording(1).samples, 8000))
    assert len(computed) == 2


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a bit": flipped,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-30]),
    "empty": lambda path: path.write_bytes(b""),
    "another file": lambda path: path.write_text("frames"),
    "another archive": lambda path: np.savez(path, frames=np.zeros(3)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_named_and_computed_again(damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    expected = frames(tmp_path, 1, 2)
    DAMAGES[damage](tmp_path / stored.FILE)
    capsys.readouterr()
    assert np.array_equal(frames(tmp_path, 1, 2), expected)
    assert f"{tmp_path / stored.FILE}: damaged" in capsys.readouterr().err
    assert np.array_equal(frames(tmp_path, 1, 2), expected)
    assert capsys.readouterr().err == ""
