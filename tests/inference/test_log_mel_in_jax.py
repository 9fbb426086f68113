"""Log-mel statistics in JAX compared with those in numpy, which are compared with librosa's."""

import jax
import numpy as np
import pytest

from asdjax.inference import log_mel, log_mel_in_jax, log_mel_statistics


@pytest.mark.parametrize("samples", [1500, 16_000, 20_001])
@pytest.mark.parametrize("sample_rate_hz", [8000, 16_000, 48_000])
def test_they_are_those_of_numpy(samples: int, sample_rate_hz: int):
    rng = np.random.default_rng(samples)
    loud = 3000 * rng.normal(size=(2, samples)) + 8000 * np.sin(0.3 * np.arange(samples))
    clips = np.concatenate([loud, np.zeros((1, samples))]).astype(np.int16)
    filters = log_mel.mel_filters(sample_rate_hz).astype(np.float32)
    got = jax.jit(log_mel_in_jax.compute_statistics, static_argnums=2)(clips, filters, sample_rate_hz)
    expected = np.stack([log_mel_statistics.compute_statistics(clip, sample_rate_hz) for clip in clips])
    wrapped = log_mel_statistics.wrap_statistics(expected)
    for name in log_mel_statistics.NAMES:
        np.testing.assert_allclose(got[name], wrapped.vectors[name], atol=1e-3)
