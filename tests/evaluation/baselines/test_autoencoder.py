"""The auto-encoder compared with numpy, and properties of its training."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from asdjax.data.clips import Clip
from asdjax.errors import Diverged
from asdjax.evaluation.baselines import autoencoder
from asdjax.evaluation.baselines.autoencoder import AutoencoderTraining, Learned
from asdjax.inference.log_mel import LogMels, compute_log_mels

HIDDEN = [128, 128, 128, 128, 8, 128, 128, 128, 128]
SHORT = AutoencoderTraining(epochs=2, batch_size=64, learning_rate=1e-3, seed=0, machine="fan", sample_rate_hz=16_000)
FASTER = replace(SHORT, learning_rate=1e-2)


def hum(number: int, *more_hz: float, samples: int = 16_000) -> np.ndarray:
    """Return a machine's hum in noise, int16, with further tones."""
    rng = np.random.default_rng(number)
    time = np.arange(samples) / 16_000
    tones = sum(np.sin(2 * np.pi * hz * time + rng.uniform(0, 6)) for hz in (120, 240, *more_hz))
    return (2000 * tones + 200 * rng.normal(size=samples)).astype(np.int16)


def log_mels(*clips: np.ndarray) -> LogMels:
    return compute_log_mels(clips, 16_000, "log-mel")


NORMAL = log_mels(*(hum(number) for number in range(8)), hum(8, samples=9_000))


def randomised(learned: Learned) -> Learned:
    """Replace every array by positive random values, so that nothing cancels."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda leaf: rng.uniform(0.05, 0.15, leaf.shape).astype(np.float32), learned)


def by_numpy(learned: Learned, x: np.ndarray, by_batch: bool) -> np.ndarray:
    """Apply the network in float64, normalised by the batch or by running averages."""
    parameters, statistics = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), learned)
    for i in range(10):
        layer = parameters["layers"][i]
        x = x @ layer["kernel"] + layer["bias"]
        if i < 9:
            norm, running = parameters["norms"][i], statistics["norms"][i]
            mean, var = (x.mean(axis=0), x.var(axis=0)) if by_batch else (running["mean"], running["var"])
            x = np.maximum((x - mean) / np.sqrt(var + 1e-3) * norm["scale"] + norm["bias"], 0)
    return x


def split(log_mels: LogMels) -> list[np.ndarray]:
    return np.split(log_mels.frames, log_mels.first[1:-1])


def one_by_one(frames: np.ndarray) -> np.ndarray:
    """Return vectors of five successive frames in the baseline's layout."""
    return np.array([np.concatenate([frames[i + j] for j in range(5)]) for i in range(len(frames) - 4)], np.float64)


def test_parameters_are_as_many_as_counted_by_hand():
    learned = autoencoder.make_initial_state(SHORT).learned
    sizes = [640, *HIDDEN, 640]
    dense = sum((c_in + 1) * c_out for c_in, c_out in pairwise(sizes))
    parameters, statistics = (sum(leaf.size for leaf in jax.tree.leaves(part)) for part in learned)
    assert parameters == dense + 2 * sum(HIDDEN) == 267_928
    assert parameters + statistics == 269_992  # what Keras sums up for the official model


def test_a_clip_s_score_is_the_mean_squared_error_over_its_vectors():
    learned = randomised(autoencoder.make_initial_state(SHORT).learned)
    got = autoencoder.compute_errors(learned, NORMAL)
    for frames, error in zip(split(NORMAL), got, strict=True):
        vectors = one_by_one(frames)
        assert error == pytest.approx(np.mean((by_numpy(learned, vectors, False) - vectors) ** 2), rel=1e-5)


def test_a_step_s_loss_and_statistics_are_the_batch_s():
    state = autoencoder.make_initial_state(SHORT)
    learned = jax.tree.map(np.array, state.learned)
    vectors = next(iter(autoencoder.make_batches(NORMAL, SHORT, 0)))
    after, loss = autoencoder.train_step(state, vectors, 1e-3)
    assert float(loss) == pytest.approx(np.mean((by_numpy(learned, vectors, True) - vectors) ** 2), rel=1e-5)
    first = learned.parameters["layers"][0]
    running = after.learned.statistics["norms"][0]
    hidden = vectors.astype(np.float64) @ first["kernel"] + first["bias"]
    np.testing.assert_allclose(running["mean"], 0.01 * hidden.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(running["var"], 0.99 + 0.01 * hidden.var(axis=0), rtol=1e-4)
    moved = jax.tree.map(lambda new, old: np.abs(new - old).max(), after.learned.parameters, learned.parameters)
    assert 0.9e-3 < max(jax.tree.leaves(moved)) < 1.1e-3  # Adam's first step is as long as the learning rate


def test_an_epoch_sees_every_vector_of_every_clip_and_no_other():
    expected = np.concatenate([one_by_one(frames) for frames in split(NORMAL)]).astype(np.float32)
    epochs = [np.concatenate(list(autoencoder.make_batches(NORMAL, SHORT, epoch))) for epoch in (0, 1, 0)]
    np.testing.assert_array_equal(epochs[0], epochs[2])
    assert np.any(epochs[0] != epochs[1])
    for seen in epochs:
        assert len(seen) % SHORT.batch_size == 0
        np.testing.assert_array_equal(np.unique(seen, axis=0), np.unique(expected, axis=0))
        np.testing.assert_array_equal(seen[len(expected) :], seen[: len(seen) - len(expected)])


def test_fewer_vectors_than_a_batch_are_trained_on_all_the_same():
    (batch,) = autoencoder.make_batches(log_mels(hum(0, samples=2_100)), SHORT, 0)
    assert batch.shape == (64, 640)


def test_the_same_training_gives_the_same_bits_and_another_seed_or_machine_others():
    first, second = (autoencoder.fit(NORMAL, SHORT) for _ in range(2))
    assert all(jax.tree.leaves(jax.tree.map(np.array_equal, first, second)))
    for other in (replace(SHORT, seed=1), replace(SHORT, machine="pump")):
        assert not any(jax.tree.leaves(jax.tree.map(np.array_equal, first, autoencoder.fit(NORMAL, other)))[:1])


def test_training_lowers_the_error_and_a_fault_stands_out():
    clips = {"normal": hum(20), "fault": hum(21, 1700, 2300)}
    test = [Clip(Path(f"{name}.wav"), "fan", "00", "test", "source", None) for name in clips]
    train = [Clip(Path(f"{i}.wav"), "fan", "00", "train", "source", "normal") for i in range(9)]
    parts = (train, NORMAL, test, log_mels(*clips.values()))
    fits = (autoencoder.fit(NORMAL, replace(FASTER, epochs=epochs)) for epochs in (2, 100))
    few, many = (autoencoder.score_clips(learned, *parts) for learned in fits)
    assert list(many.train) == train
    assert list(many.test) == test
    assert np.mean(list(many.train.values())) < 0.5 * np.mean(list(few.train.values()))
    assert many.test[test[1]] > 1.5 * many.test[test[0]]


def test_a_loss_that_is_no_number_is_told_with_the_field_to_change():
    changes: dict[str, Any] = {"learning_rate": 1e30, "epochs": 3}
    with pytest.raises(Diverged, match=r"fan autoencoder: .*lower config\.baselines\.learning_rate"):
        autoencoder.fit(NORMAL, replace(SHORT, **changes))
