"""What makes a machine's sound: tones, impacts, flow, strokes, and the room around them.

Every sound is a float array (s,) at 16 kHz. A part's sound has an RMS of 1; the mixer applies its level.
`turns` (s,) counts the revolutions of the shaft (or the cycles of a valve or slider) up to each sample, so a
wandering speed moves everything that hangs on the shaft together.
"""

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.signal import lfilter

type Signal = NDArray[np.floating]

SAMPLE_RATE_HZ = 16_000
TOP_HZ = 7600.0  # tones end below Nyquist: a folded harmonic would fall when the speed rises
WANDER_SAMPLES = 4000  # a speed drifts over a quarter of a second, not from sample to sample
MAINS_HZ = 50.0
PLACE_BELLS = 12
NEIGHBOURS = 3
NEIGHBOUR_DB = (-8.0, 4.0)


def amplitude(level_db: float) -> float:
    """The factor that a level in decibels stands for."""
    return float(10.0 ** (level_db / 20.0))


def unit(wave: Signal) -> Signal:
    """Scaled to an RMS of 1; silence stays silent."""
    return wave / max(float(np.sqrt(np.mean(np.square(wave)))), 1e-12)


def shaft(speed_hz: float, wander: float, samples: int, rng: np.random.Generator) -> Signal:
    """Turns (s,) of a shaft whose speed drifts by `wander` (a fraction, one standard deviation)."""
    knots = rng.standard_normal(2 + samples // WANDER_SAMPLES)
    drift = np.interp(np.arange(samples) / WANDER_SAMPLES, np.arange(len(knots)), knots)
    # Starting many turns in gives parts with a fraction of a strike per turn a phase of their own.
    return rng.uniform(0.0, 1000.0) + np.cumsum(speed_hz / SAMPLE_RATE_HZ * (1.0 + wander * drift))


def phasor(turns: Signal) -> NDArray[np.complex64]:
    """exp(2 pi i turns), (s,). Whole turns go before the cast: float32 would lose the phase of a long clip."""
    angle = np.float32(2.0 * np.pi) * (turns - np.floor(turns)).astype(np.float32)
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1).view(np.complex64)[:, 0]


def harmonics(turns: Signal, levels_db: Signal, rng: np.random.Generator) -> Signal:
    """Sum over k of harmonic k = 1, 2, ... of `turns` at levels_db (k,), phases random; Horner's scheme."""
    phases = rng.uniform(0.0, 2.0 * np.pi, len(levels_db))
    weights = (10.0 ** (levels_db / 20.0) * np.exp(1j * phases)).astype(np.complex64)
    wheel = phasor(turns)
    total = np.zeros_like(wheel)
    for weight in weights[::-1]:
        total += weight
        total *= wheel
    return total.real


def fft_length(samples: int) -> int:
    """The next length without large prime factors, which would make the transform many times slower."""
    return int(fft.next_fast_len(samples, real=True) or samples)


def waveform(spectrum: NDArray[np.inexact], samples: int) -> Signal:
    """(s,) of a spectrum (f,). SciPy's transform: NumPy's takes a multiple of the time in single precision."""
    return np.asarray(fft.irfft(spectrum, fft_length(samples)))[:samples]


def bins_hz(samples: int) -> Signal:
    """Frequencies (f,) of the spectrum of a clip; the lowest is lifted so that a log exists."""
    frequency_hz = np.fft.rfftfreq(fft_length(samples), 1 / SAMPLE_RATE_HZ)
    return np.maximum(frequency_hz, 1.0).astype(np.float32)


def bump(frequency_hz: Signal, center_hz: float, octaves: float) -> Signal:
    """A bell over log-frequency, (f,), 1 at `center_hz`, `octaves` one standard deviation."""
    return np.exp(-0.5 * (np.log2(frequency_hz / center_hz) / octaves) ** 2)


def noise(samples: int, response: Signal, rng: np.random.Generator) -> Signal:
    """Gaussian noise (s,) whose amplitude spectrum follows `response` (f,), f as in `bins_hz`."""
    white = rng.standard_normal((len(response), 2), np.float32).view(np.complex64)[:, 0]
    return unit(waveform(white * response, samples))


def ringing(train: Signal, resonance_hz: float, decay_s: float) -> Signal:
    """Impulses (s,) through a two-pole resonator: each rings from about its own height down to 1/e in `decay_s`."""
    radius = np.exp(-1.0 / (decay_s * SAMPLE_RATE_HZ))
    angle = 2.0 * np.pi * resonance_hz / SAMPLE_RATE_HZ
    poles = [1.0, -2.0 * radius * np.cos(angle), radius**2]
    return np.asarray(lfilter([np.sin(angle)], poles, train), np.float32)


@dataclass(frozen=True)
class Part(ABC):
    """One source of sound; `load_db` is added at full load and taken off at none, `spread_db` varies by clip."""

    name: str
    _: KW_ONLY
    level_db: float
    load_db: float = 0.0
    spread_db: float = 3.0

    @abstractmethod
    def sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        """The part's sound (s,) with an RMS of 1, driven by `turns` (s,)."""


@dataclass(frozen=True, kw_only=True)
class Tones(Part):
    """Harmonics of `order` x the speed: blades, teeth, magnets. `wobble` (0..1) gives the shaft's sidebands."""

    order: float
    count: int
    tilt_db: float
    wobble: float = 0.0

    def sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        lowest_hz = self.order * float(turns[-1] - turns[0]) / len(turns) * SAMPLE_RATE_HZ
        count = max(1, min(self.count, int(TOP_HZ / lowest_hz)))
        levels_db = self.tilt_db * np.arange(count) + rng.normal(0.0, 1.0, count)
        wave = harmonics(self.order * turns, levels_db, rng)
        return unit(wave * (1.0 + self.wobble * phasor(turns).real) if self.wobble else wave)


@dataclass(frozen=True, kw_only=True)
class Impacts(Part):
    """`per_turn` knocks on a resonance, `phase` (0..1) into the interval, off by `jitter` (of the interval)."""

    per_turn: float
    resonance_hz: float
    decay_s: float
    phase: float = 0.0
    jitter: float = 0.02

    def sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        interval = len(turns) / (self.per_turn * float(turns[-1] - turns[0]))
        strikes = np.flatnonzero(np.diff(np.floor(self.per_turn * turns - self.phase)))
        late = rng.normal(0.0, self.jitter * interval, len(strikes))
        strength = np.maximum(rng.normal(1.0, 0.25, len(strikes)), 0.1)
        where = np.clip(np.rint(strikes + late).astype(np.int64), 0, len(turns) - 1)
        train = np.bincount(where, strength, minlength=len(turns))
        return unit(ringing(train, self.resonance_hz, self.decay_s))


@dataclass(frozen=True, kw_only=True)
class Flow(Part):
    """Band-limited noise of air, liquid or rolling, that swells by `depth` (0..1) `beats` times a turn."""

    center_hz: float
    octaves: float
    beats: float = 1.0
    depth: float = 0.0

    def sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        wave = noise(len(turns), bump(bins_hz(len(turns)), self.center_hz, self.octaves), rng)
        return unit(wave * (1.0 + self.depth * phasor(self.beats * turns).real)) if self.depth else wave


@dataclass(frozen=True, kw_only=True)
class Stroke(Part):
    """Band-limited noise during one part of each cycle, from `start` to `stop` (0..1), rising and falling."""

    center_hz: float
    octaves: float
    start: float
    stop: float

    def sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        wave = noise(len(turns), bump(bins_hz(len(turns)), self.center_hz, self.octaves), rng)
        since = (turns - self.start - np.floor(turns - self.start)).astype(np.float32)
        within = np.minimum(since / (self.stop - self.start), 1.0)
        return unit(wave * np.sin(np.float32(np.pi) * within))


@dataclass(frozen=True, kw_only=True)
class Sweep(Part):
    """The tone of `balls` bearing balls passing while a carriage runs there and back once a cycle."""

    balls: float

    def sound(self, turns: Signal, rng: np.random.Generator) -> Signal:
        crank = phasor(turns)
        position = 0.5 * (1.0 - crank.real.astype(np.float64))
        return unit(harmonics(self.balls * position, np.array([0.0, -8.0]), rng) * np.abs(crank.imag))


def clangs(samples: int, per_second: float, rng: np.random.Generator) -> Signal:
    """Rare distant knocks in a hall, (s,), each with a resonance, loudness and reverberation of its own."""
    total = np.zeros(samples, np.float32)
    for _ in range(rng.poisson(per_second * samples / SAMPLE_RATE_HZ)):
        train = np.zeros(samples)
        train[rng.integers(samples)] = amplitude(rng.uniform(-6.0, 12.0))
        total += ringing(train, rng.uniform(250.0, 2500.0), rng.uniform(0.03, 0.2))
    return total


def background(samples: int, slope: float, rng: np.random.Generator) -> Signal:
    """Return the sound (s,) of a factory hall, RMS about 1.

    It has noise whose power falls as f**-slope, mains hum, distant knocks and up to NEIGHBOURS other machines.
    """
    frequency_hz = bins_hz(samples)
    colour = np.maximum(frequency_hz, 60.0) ** (-0.5 * (slope + rng.normal(0.0, 0.08)))
    hum_turns = rng.uniform() + np.arange(samples) * (MAINS_HZ / SAMPLE_RATE_HZ)
    hum = unit(harmonics(hum_turns, rng.uniform(-18.0, 0.0, 6), rng))
    hall = noise(samples, colour, rng) + amplitude(rng.uniform(-12.0, -4.0)) * hum
    for _ in range(rng.integers(NEIGHBOURS + 1)):
        hall += amplitude(rng.uniform(*NEIGHBOUR_DB)) * neighbour(samples, rng)
    return hall + clangs(samples, per_second=0.15, rng=rng)


def neighbour(samples: int, rng: np.random.Generator) -> Signal:
    """Return another machine's sound (s,), RMS 1: a whine of random pitch and a band of noise."""
    turns = shaft(2.0 ** rng.uniform(5.5, 10.0), 0.003, samples, rng)
    whine = unit(harmonics(turns, rng.uniform(-12.0, 0.0, 8), rng))
    band = noise(samples, bump(bins_hz(samples), 2.0 ** rng.uniform(8.0, 12.5), rng.uniform(0.1, 0.5)), rng)
    return unit(whine + amplitude(rng.uniform(-6.0, 6.0)) * band)


def placed(wave: Signal, spread_db: float, rng: np.random.Generator) -> Signal:
    """Return a sound (s,) as one place of the microphone lets it through: bells of random centre, width and gain."""
    frequency_hz = bins_hz(len(wave))
    gains_db = np.zeros_like(frequency_hz)
    for _ in range(PLACE_BELLS):
        bell = bump(frequency_hz, 2.0 ** rng.uniform(7.0, 13.0), rng.uniform(0.1, 0.7))
        gains_db += np.float32(rng.normal(0.0, spread_db)) * bell
    spectrum = np.asarray(fft.rfft(wave, fft_length(len(wave))))
    return waveform(spectrum * 10.0 ** (gains_db / 20.0), len(wave))


def housed(wave: Signal, resonances_hz: tuple[float, ...], gain_db: float) -> Signal:
    """A sound (s,) as its housing lets it out: each resonance lifted by `gain_db`."""
    frequency_hz = bins_hz(len(wave))
    lift = sum((bump(frequency_hz, hz, 0.15) for hz in resonances_hz), start=np.zeros_like(frequency_hz))
    spectrum = np.asarray(fft.rfft(wave, fft_length(len(wave))))
    return waveform(spectrum * amplitude(gain_db) ** lift, len(wave))
