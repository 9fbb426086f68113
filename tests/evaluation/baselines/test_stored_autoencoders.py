"""Stored auto-encoders: loaded bit-identically, and trained again if settings or clips differ."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from asdjax.evaluation.baselines import autoencoder, stored_autoencoders
from asdjax.evaluation.baselines.autoencoder import AutoencoderTraining, Learned
from asdjax.inference.log_mel import LogMels

TRAINING = AutoencoderTraining(
    epochs=1, batch_size=64, learning_rate=1e-3, seed=0, machine="fan", sample_rate_hz=16_000
)
FRAMES = np.random.default_rng(0).normal(size=(40, 128)).astype(np.float32)
CLIPS = LogMels(FRAMES, np.array([0, 20, 40]))
DIGESTS = ["a", "b"]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[AutoencoderTraining]:
    """Return a list that collects the settings of the trainings during a test."""
    done, fit = [], autoencoder.fit
    monkeypatch.setattr(autoencoder, "fit", lambda train, training: done.append(training) or fit(train, training))
    return done


def same(one: Learned, other: Learned) -> bool:
    return all(jax.tree.leaves(jax.tree.map(np.array_equal, one, other)))


def test_what_was_trained_before_is_taken_to_the_last_bit_and_it_is_said(
    tmp_path: Path, fits: list[AutoencoderTraining], capsys: pytest.CaptureFixture[str]
):
    first = stored_autoencoders.load_or_fit(tmp_path / "fan", CLIPS, TRAINING, DIGESTS)
    assert capsys.readouterr().err.count("\n") == 1  # the training's own line
    again = stored_autoencoders.load_or_fit(tmp_path / "fan", CLIPS, TRAINING, DIGESTS)
    assert fits == [TRAINING]
    assert same(first, again)
    np.testing.assert_array_equal(autoencoder.compute_errors(first, CLIPS), autoencoder.compute_errors(again, CLIPS))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fan autoencoder: already trained on these clips with these settings")


@pytest.mark.parametrize(
    ("changes", "digests"),
    [
        ({"epochs": 2}, DIGESTS),
        ({"batch_size": 32}, DIGESTS),
        ({"learning_rate": 2e-3}, DIGESTS),
        ({"seed": 1}, DIGESTS),
        ({}, ["a", "c"]),
        ({}, ["b", "a"]),
        ({}, ["a", "b", "c"]),
    ],
    ids=str,
)
def test_other_settings_or_clips_are_trained_anew(
    changes: dict[str, Any], digests: list[str], tmp_path: Path, fits: list[AutoencoderTraining]
):
    other = replace(TRAINING, **changes)
    stored_autoencoders.load_or_fit(tmp_path, CLIPS, TRAINING, DIGESTS)
    trained = stored_autoencoders.load_or_fit(tmp_path, CLIPS, other, digests)
    assert fits == [TRAINING, other]
    assert same(trained, stored_autoencoders.load_or_fit(tmp_path, CLIPS, other, digests))
    assert len(fits) == 2


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a bit": (stored_autoencoders.ARRAYS, flipped),
    "cut off": (stored_autoencoders.ARRAYS, lambda path: path.write_bytes(path.read_bytes()[:-1])),
    "gone": (stored_autoencoders.ARRAYS, Path.unlink),
    "no record": (stored_autoencoders.RECORD, lambda path: path.write_text("")),
    "another record": (stored_autoencoders.RECORD, lambda path: path.write_text("[]")),
    "an empty record": (stored_autoencoders.RECORD, lambda path: path.write_text("{}")),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_said_and_trained_anew(
    damage: str, tmp_path: Path, fits: list[AutoencoderTraining], capsys: pytest.CaptureFixture[str]
):
    file, spoil = DAMAGES[damage]
    first = stored_autoencoders.load_or_fit(tmp_path, CLIPS, TRAINING, DIGESTS)
    spoil(tmp_path / file)
    capsys.readouterr()
    assert same(stored_autoencoders.load_or_fit(tmp_path, CLIPS, TRAINING, DIGESTS), first)
    assert len(fits) == 2
    assert f"{tmp_path}: the stored auto-encoder is damaged" in capsys.readouterr().err
    assert same(stored_autoencoders.load_or_fit(tmp_path, CLIPS, TRAINING, DIGESTS), first)
    assert len(fits) == 2


def test_one_that_was_cut_off_while_it_was_written_is_none(tmp_path: Path, fits: list[AutoencoderTraining]):
    stored_autoencoders.load_or_fit(tmp_path, CLIPS, TRAINING, DIGESTS)
    (tmp_path / stored_autoencoders.RECORD).unlink()
    stored_autoencoders.load_or_fit(tmp_path, CLIPS, TRAINING, DIGESTS)
    assert len(fits) == 2
