"""A machine that is off is quieter than its training clips ever are, and in no band louder."""

import numpy as np
import pytest

from asdjax.inference.log_mel_statistics import compute_statistics
from asdjax.inference.off_rule import OffRule

RATE_HZ = 16_000
RNG = np.random.default_rng(0)


def noise(level: float, seconds: float = 1.0) -> np.ndarray:
    return (level * RNG.normal(size=round(seconds * RATE_HZ))).astype(np.int16)


def tone(level: float, hz: float) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ)).astype(np.int16)


def fit(*clips: np.ndarray) -> OffRule:
    return OffRule.fit(np.stack([compute_statistics(clip, RATE_HZ) for clip in clips]))


STEADY = [noise(level, 4.0) for level in (900, 1000, 1100)]


@pytest.mark.parametrize(
    ("samples", "is_off"),
    [
        (noise(1000), False),
        (noise(700), False),
        (noise(100), True),
        (noise(3), True),
        (np.zeros(RATE_HZ, np.int16), True),
        (noise(50) + tone(8000, 1000), False),  # quiet, but for a tone that the machine does not have
        (noise(5000), False),
    ],
)
def test_it_is_off_where_it_is_quieter_than_ever_and_nowhere_louder(samples: np.ndarray, is_off: bool):
    assert fit(*STEADY).examine(samples, RATE_HZ)[0] == is_off


def test_a_machine_that_pauses_is_not_off_in_a_pause():
    pausing = np.concatenate([noise(2000, 0.5), noise(20, 0.5)] * 4)
    assert not fit(pausing, pausing).examine(noise(20), RATE_HZ)[0]


def test_a_silent_training_clip_among_many_changes_little():
    clips = [noise(1000) for _ in range(60)]
    rule = fit(*clips, np.zeros(RATE_HZ, np.int16))
    assert rule.least_db == pytest.approx(fit(*clips).least_db, abs=3)
    assert rule.examine(noise(30), RATE_HZ)[0]


def test_the_level_is_the_mean_over_bands_and_may_be_the_limit():
    samples = noise(1000)
    expected = compute_statistics(samples, RATE_HZ)[0].mean()
    for limit, is_off in ((expected - 1, False), (expected + 1, True)):
        found, level = OffRule.below(float(limit)).examine(samples, RATE_HZ)
        assert found == is_off
        assert level == pytest.approx(expected, abs=1e-3)
