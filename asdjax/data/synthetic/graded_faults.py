"""Faults of a known size, mixed into recordings of a machine, to measure which sizes a detector finds.

A fault of size 0 dB has the power of the recording that it is mixed into, one of -20 dB a hundredth of it. Frequencies
are given for 16 kHz; at another sample rate they are the same shares of it.

Letters: s samples.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import fft

from asdjax.data.synthetic.components import (
    Flow,
    Impacts,
    Signal,
    Tones,
    choose_fft_length,
    compute_bins_hz,
    make_bell,
    normalize_rms,
    to_amplitude,
    to_waveform,
    turn_shaft,
)

FULL_SCALE = 32768.0


def _draw(low: float, high: float, rng: np.random.Generator) -> float:
    """Return a number between two positive ones, uniform in its logarithm."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _make_impacts(own: Signal, rng: np.random.Generator) -> Signal:
    """Return knocks on a resonance, as of a bearing or a tooth: 4 to 60 a second."""
    part = Impacts(
        "impacts",
        level_db=0,
        per_turn=1,
        resonance_hz=_draw(1200, 6800, rng),
        decay_s=_draw(0.001, 0.006, rng),
        jitter=0.03,
    )
    return part.make_sound(turn_shaft(_draw(4, 60, rng), 0.01, len(own), rng), rng)


def _make_tones(own: Signal, rng: np.random.Generator) -> Signal:
    """Return a tone of 200 to 2,000 Hz with harmonics and sidebands, as of an electrical fault or a worn gear."""
    speed_hz = _draw(8, 40, rng)
    order = _draw(200, 2000, rng) / speed_hz
    part = Tones("tones", level_db=0, order=order, count=5, tilt_db=-4, wobble=0.6)
    return part.make_sound(turn_shaft(speed_hz, 0.003, len(own), rng), rng)


def _make_noise(own: Signal, rng: np.random.Generator) -> Signal:
    """Return a swelling band of noise, as of a leak, cavitation or rubbing."""
    part = Flow("noise", level_db=0, center_hz=_draw(500, 6000, rng), octaves=_draw(0.1, 0.4, rng), depth=0.5)
    return part.make_sound(turn_shaft(_draw(1, 10, rng), 0.02, len(own), rng), rng)


def _make_part(own: Signal, rng: np.random.Generator) -> Signal:
    """Return a band of the machine's own sound: mixed in, it makes a part of the machine louder."""
    bell = make_bell(compute_bins_hz(len(own)), _draw(300, 6000, rng), _draw(0.15, 0.4, rng))
    return normalize_rms(to_waveform(np.asarray(fft.rfft(own, choose_fft_length(len(own)))) * bell, len(own)))


#: Functions that return the sound of a fault (s,), RMS 1, for a recording (s,), by the kind of fault.
KINDS: Mapping[str, Callable[[Signal, np.random.Generator], Signal]] = {
    "impacts": _make_impacts,
    "tones": _make_tones,
    "noise": _make_noise,
    "louder part": _make_part,
}


def mix_faults(samples: np.ndarray, kind: str, sizes_db: Sequence[float], rng: np.random.Generator) -> list[np.ndarray]:
    """Mix one fault at each size into a recording: int16 (s,) -> int16 (s,) each.

    `kind` is a key of KINDS. What exceeds full scale is clipped, as by a recorder.
    """
    own = samples / FULL_SCALE
    fault = KINDS[kind](own, rng) * float(np.sqrt(np.mean(np.square(own))))
    mixed = [own + to_amplitude(size_db) * fault for size_db in sizes_db]
    return [np.clip(np.rint(one * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16) for one in mixed]
