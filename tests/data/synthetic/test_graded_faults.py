"""Faults mixed into recordings: their size is the ratio of powers, and only the names of a clip decide the draws."""

import numpy as np
import pytest

from asdjax.data.synthetic.graded_faults import KINDS, mix_faults

SIZES_DB = (-30.0, -12.0, 0.0)
OWN = (2000 * np.random.default_rng(0).normal(size=32_000)).astype(np.int16)


def mixed(kind: str, seed: int = 1, own: np.ndarray = OWN) -> list[np.ndarray]:
    return mix_faults(own, kind, SIZES_DB, np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_has_the_power_that_its_size_says(kind: str):
    for size_db, samples in zip(SIZES_DB, mixed(kind), strict=True):
        assert samples.dtype == np.int16
        added = samples.astype(float) - OWN
        ratio = np.mean(added**2) / np.mean(OWN.astype(float) ** 2)
        assert 10 * np.log10(ratio) == pytest.approx(size_db, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_all_sizes_are_of_one_fault_and_another_draw_is_another(kind: str):
    small, _, large = (samples.astype(float) - OWN for samples in mixed(kind))
    assert np.corrcoef(small, large)[0, 1] > 0.98  # but for the rounding to 16 bits
    other = mixed(kind, seed=2)[-1].astype(float) - OWN
    assert abs(np.corrcoef(other, large)[0, 1]) < 0.9
    assert all(np.array_equal(*pair) for pair in zip(mixed(kind), mixed(kind), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_silence_stays_silent_and_what_is_too_loud_is_clipped(kind: str):
    silent, loud = np.zeros(16_000, np.int16), np.full(16_000, 32_767, np.int16)
    assert not any(samples.any() for samples in mixed(kind, own=silent))
    assert mixed(kind, own=loud)[-1].max() == 32_767


def test_a_louder_part_is_the_machine_s_own_sound():
    """A pure tone has one frequency, and so has the part of it that grows."""
    own = (8000 * np.sin(2 * np.pi * 1000 / 16_000 * np.arange(16_000))).astype(np.int16)
    added = mixed("louder part", own=own)[-1].astype(float) - own
    spectrum = np.abs(np.fft.rfft(added * np.hanning(len(added))))
    assert np.argmax(spectrum) == 1000
