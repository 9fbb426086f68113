"""Components of a machine's sound: tones, impacts, flow and strokes, and the hall around the machine.

Each sound is a float array (s,) at 16 kHz. The sound of a part has an RMS of 1; the mixer applies its level. `turns`
(s,) counts the revolutions of the shaft, or the cycles of a valve or slider, up to each sample. A drift of the speed
therefore changes all parts on the shaft together.
"""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import lfilter

type Signal = NDArray[np.floating]

SAMPLE_RATE_HZ = 16_000
TOP_HZ = 7600.0  # tones end below Nyquist: an aliased harmonic would fall when the speed rises
WANDER_SAMPLES = 4000  # the speed drifts over a quarter of a second, not from sample to sample
MAINS_HZ = 50.0
PLACE_BELLS = 12
NEIGHBOURS = 3
NEIGHBOUR_DB = (-8.0, 4.0)


def to_amplitude(level_db: float) -> float:
    """Convert a level in decibels to a factor."""
    return float(10.0 ** (level_db / 20.0))


def normalize_rms(wave: Signal) -> Signal:
    """Scale a sound to an RMS of 1. Silence stays silent."""
    return wave / max(float(np.sqrt(np.mean(np.square(wave)))), 1e-12)


def turn_shaft(speed_hz: float, wander: float, samples: int, rng: np.random.Generator) -> Signal:
    """Return the turns (s,) of a shaft whose speed drifts by `wander`, one standard deviation as a fraction."""
    knots = rng.standard_normal(2 + samples // WANDER_SAMPLES)
    drift = np.interp(np.arange(samples) / WANDER_SAMPLES, np.arange(len(knots)), knots)
    # A random number of turns at the start gives parts with a fraction of a strike per turn their own phase.
    return rng.uniform(0.0, 1000.0) + np.cumsum(speed_hz / SAMPLE_RATE_HZ * (1.0 + wander * drift))


def to_phasor(turns: Signal) -> NDArray[np.complex64]:
    """Return exp(2 pi i turns), shape (s,).

    Whole turns are removed before the cast to float32, which would lose the phase in a long clip.
    """
    angle = np.float32(2.0 * np.pi) * (turns - np.floor(turns)).astype(np.float32)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).view(np.complex64)[:, 0]


def sum_harmonics(turns: Signal, levels_db: Signal, rng: np.random.Generator) -> Signal:
    """Sum harmonics 1, 2, ... of `turns` (s,) at levels_db (k,) with random phases, by Horner's scheme."""
    phases = rng.uniform(0.0, 2.0 * np.pi, len(levels_db))
    weights = (10.0 ** (levels_db / 20.0) * np.exp(1j * phases)).astype(np.complex64)
    wheel = to_phasor(turns)
    total = np.zeros_like(wheel)
    for weight in weights[::-1]:
        total += weight
        total *= wheel
    return total.real


def choose_fft_length(samples: int) -> int:
    """Return the next length without large prime factors, which would slow the transform down many times."""
    return int(fft.next_fast_len(samples, real=True) or samples)


def to_waveform(spectrum: NDArray[np.inexact], samples: int) -> Signal:
    """Return the waveform (s,) of a spectrum (f,). SciPy's transform is faster than NumPy's in single precision."""
    return np.asarray(fft.irfft(spectrum, choose_fft_length(samples)))[:samples]


def compute_bins_hz(samples: int) -> Signal:
    """Return the frequencies (f,) of a clip's spectrum. The lowest one is 1 Hz instead of 0, so that it has a log."""
    frequency_hz = np.fft.rfftfreq(choose_fft_length(samples), 1 / SAMPLE_RATE_HZ)
    return np.maximum(frequency_hz, 1.0).astype(np.float32)


def make_bell(frequency_hz: Signal, center_hz: float, octaves: float) -> Signal:
    """Return a Gaussian (f,) over log-frequency: 1 at `center_hz`, with a standard deviation of `octaves`."""
    return np.exp(-0.5 * (np.log2(frequency_hz / center_hz) / octaves) ** 2)


def make_noise(samples: int, response: Signal, rng: np.random.Generator) -> Signal:
    """Return Gaussian noise (s,), RMS 1, whose amplitude spectrum follows `response` (f,) at `compute_bins_hz`."""
    white = rng.standard_normal((len(response), 2), np.float32).view(np.complex64)[:, 0]
    return normalize_rms(to_waveform(white * response, samples))


def resonate(train: Signal, resonance_hz: float, decay_s: float) -> Signal:
    """Filter impulses (s,) by a two-pole resonator. Each rings from about its height down to 1/e in `decay_s`."""
    radius = np.exp(-1.0 / (decay_s * SAMPLE_RATE_HZ))
    angle = 2.0 * np.pi * resonance_hz / SAMPLE_RATE_HZ
    poles = [1.0, -2.0 * radius * np.cos(angle), radius**2]
    return np.asarray(lfilter([np.sin(angle)], poles, train), np.float32)


@dataclass(frozen=True)
class Part(ABC):
    """Source of sound in a machine.

    `load_db` is added to the level at full load and subtracted at no load. `spread_db` is the standard deviation over
    clips.
    """

    name: str
    _: KW_ONLY
    level_db: float
    load_db: float = 0.0
    spread_db: float = 3.0

    @abstractmethod
    def make_sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        """Return the part's sound (s,), RMS 1, driven by `turns` (s,)."""


@dataclass(frozen=True, kw_only=True)
class Tones(Part):
    """Harmonics of `order` times the speed: blades, teeth, magnets. `wobble` (0 to 1) adds sidebands of the shaft."""

    order: float
    count: int
    tilt_db: float
    wobble: float = 0.0

    def make_sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        lowest_hz = self.order * float(turns[-1] - turns[0]) / len(turns) * SAMPLE_RATE_HZ
        count = max(1, min(self.count, int(TOP_HZ / lowest_hz)))
        levels_db = self.tilt_db * np.arange(count) + rng.normal(0.0, 1.0, count)
        wave = sum_harmonics(self.order * turns, levels_db, rng)
        return normalize_rms(wave * (1.0 + self.wobble * to_phasor(turns).real) if self.wobble else wave)


@dataclass(frozen=True, kw_only=True)
class Impacts(Part):
    """Knocks on a resonance, `per_turn` in each turn.

    `phase` (0 to 1) shifts them within their interval. `jitter` is the standard deviation of their time, as a fraction
    of the interval.
    """

    per_turn: float
    resonance_hz: float
    decay_s: float
    phase: float = 0.0
    jitter: float = 0.02

    def make_sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        interval = len(turns) / (self.per_turn * float(turns[-1] - turns[0]))
        strikes = np.flatnonzero(np.diff(np.floor(self.per_turn * turns - self.phase)))
        delay = rng.normal(0.0, self.jitter * interval, len(strikes))
        strength = np.maximum(rng.normal(1.0, 0.25, len(strikes)), 0.1)
        position = np.clip(np.rint(strikes + delay).astype(np.int64), 0, len(turns) - 1)
        train = np.bincount(position, strength, minlength=len(turns))
        return normalize_rms(resonate(train, self.resonance_hz, self.decay_s))


@dataclass(frozen=True, kw_only=True)
class Flow(Part):
    """Band-limited noise of air, liquid or rolling. It swells by `depth` (0 to 1), `beats` times a turn."""

    center_hz: float
    octaves: float
    beats: float = 1.0
    depth: float = 0.0

    def make_sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        wave = make_noise(len(turns), make_bell(compute_bins_hz(len(turns)), self.center_hz, self.octaves), rng)
        return normalize_rms(wave * (1.0 + self.depth * to_phasor(self.beats * turns).real)) if self.depth else wave


@dataclass(frozen=True, kw_only=True)
class Stroke(Part):
    """Band-limited noise during a part of each cycle, from `start` to `stop` (0 to 1). It rises and falls."""

    center_hz: float
    octaves: float
    start: float
    stop: float

    def make_sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        wave = make_noise(len(turns), make_bell(compute_bins_hz(len(turns)), self.center_hz, self.octaves), rng)
        since = (turns - self.start - np.floor(turns - self.start)).astype(np.float32)
        within = np.minimum(since / (self.stop - self.start), 1.0)
        return normalize_rms(wave * np.sin(np.float32(np.pi) * within))


@dataclass(frozen=True, kw_only=True)
class Sweep(Part):
    """Tone of `balls` passing bearing balls while a carriage runs to the end and back once a cycle."""

    balls: float

    def make_sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        crank = to_phasor(turns)
        position = 0.5 * (1.0 - crank.real.astype(np.float64))
        wave = sum_harmonics(self.balls * position, np.array([0.0, -8.0]), rng)
        return normalize_rms(wave * np.abs(crank.imag))


def make_knocks(samples: int, per_second: float, rng: np.random.Generator) -> Signal:
    """Return rare distant knocks (s,) in a hall, each with its own resonance, loudness and decay."""
    total = np.zeros(samples, np.float32)
    for _ in range(rng.poisson(per_second * samples / SAMPLE_RATE_HZ)):
        train = np.zeros(samples)
        train[rng.integers(samples)] = to_amplitude(rng.uniform(-6.0, 12.0))
        total += resonate(train, rng.uniform(250.0, 2500.0), rng.uniform(0.03, 0.2))
    return total


def make_background(samples: int, slope: float, rng: np.random.Generator) -> Signal:
    """Return the sound (s,) of a factory hall, RMS about 1.

    It has noise whose power falls as f**-slope, mains hum, distant knocks and up to NEIGHBOURS other machines.
    """
    frequency_hz = compute_bins_hz(samples)
    colour = np.maximum(frequency_hz, 60.0) ** (-0.5 * (slope + rng.normal(0.0, 0.08)))
    hum_turns = rng.uniform() + np.arange(samples) * (MAINS_HZ / SAMPLE_RATE_HZ)
    hum = normalize_rms(sum_harmonics(hum_turns, rng.uniform(-18.0, 0.0, 6), rng))
    hall = make_noise(samples, colour, rng) + to_amplitude(rng.uniform(-12.0, -4.0)) * hum
    for _ in range(rng.integers(NEIGHBOURS + 1)):
        hall += to_amplitude(rng.uniform(*NEIGHBOUR_DB)) * make_neighbour(samples, rng)
    return hall + make_knocks(samples, per_second=0.15, rng=rng)


def make_neighbour(samples: int, rng: np.random.Generator) -> Signal:
    """Return another machine's sound (s,), RMS 1: a whine of random pitch and a band of noise."""
    turns = turn_shaft(2.0 ** rng.uniform(5.5, 10.0), 0.003, samples, rng)
    whine = normalize_rms(sum_harmonics(turns, rng.uniform(-12.0, 0.0, 8), rng))
    bell = make_bell(compute_bins_hz(samples), 2.0 ** rng.uniform(8.0, 12.5), rng.uniform(0.1, 0.5))
    band = make_noise(samples, bell, rng)
    return normalize_rms(whine + to_amplitude(rng.uniform(-6.0, 6.0)) * band)


def apply_place(wave: Signal, spread_db: float, rng: np.random.Generator) -> Signal:
    """Filter a sound (s,) by the response at a place of the microphone: bells of random centre, width and gain."""
    frequency_hz = compute_bins_hz(len(wave))
    gains_db = np.zeros_like(frequency_hz)
    for _ in range(PLACE_BELLS):
        bell = make_bell(frequency_hz, 2.0 ** rng.uniform(7.0, 13.0), rng.uniform(0.1, 0.7))
        gains_db += np.float32(rng.normal(0.0, spread_db)) * bell
    spectrum = np.asarray(fft.rfft(wave, choose_fft_length(len(wave))))
    return to_waveform(spectrum * 10.0 ** (gains_db / 20.0), len(wave))


def apply_housing(wave: Signal, resonances_hz: tuple[float, ...], gain_db: float) -> Signal:
    """Filter a sound (s,) by a machine's housing, which raises each resonance by `gain_db`."""
    frequency_hz = compute_bins_hz(len(wave))
    lift = sum((make_bell(frequency_hz, hz, 0.15) for hz in resonances_hz), start=np.zeros_like(frequency_hz))
    spectrum = np.asarray(fft.rfft(wave, choose_fft_length(len(wave))))
    return to_waveform(spectrum * to_amplitude(gain_db) ** lift, len(wave))
