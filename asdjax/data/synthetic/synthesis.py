"""Synthetic recordings of machines in the DCASE 2021 layout, for tests and demos without real data.

The random stream of each clip is named after the clip. Its bytes therefore depend on nothing else: not on the number of
threads, the other clips, or an earlier killed run. Another processor or NumPy version may round a sample differently.
"""

import hashlib
import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from asdjax.data.clips import Domain, Label, Split
from asdjax.data.synthetic.components import (
    SAMPLE_RATE_HZ,
    Signal,
    apply_housing,
    apply_place,
    make_background,
    normalize_rms,
    to_amplitude,
    turn_shaft,
)
from asdjax.data.synthetic.construction import GOLDEN, SyntheticMachine
from asdjax.data.synthetic.machines import MACHINES, break_machine, build_machine
from asdjax.errors import InputError
from asdjax.runtime.files import LOCK, locked_folder, replace_text
from asdjax.runtime.progress import track
from asdjax.runtime.threads import map_in_threads

LEAST_SAMPLES = 31 * 512  # frames 0 to 31 of a piece with the default signal settings
MOST_SECTIONS = 100  # file names have two digits
MARKER = "synthesis.json"
RECORDING_DB = -44.0  # RMS of a clip relative to full scale: leaves headroom for a valve's clicks, 38 dB louder
HOUSING_DB = 9.0
PEAK = 0.95


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Contents of a synthetic corpus, per machine type.

    `source_clips` and `target_clips` are training clips per section. `test_clips` is the number of normal clips, and of
    anomalous clips, per section and domain.
    """

    source_clips: int
    test_clips: int
    target_clips: int = 3
    sections: int = 3
    seed: int = 0
    seconds: float = 10.0

    @property
    def samples(self) -> int:
        """Return the number of samples in a clip."""
        return round(self.seconds * SAMPLE_RATE_HZ)

    def validate(self) -> None:
        """Raise InputError if the recipe is impossible, or if its clips are too short to score."""
        if not 1 <= self.sections <= MOST_SECTIONS:
            raise InputError(f"sections: expected 1 to {MOST_SECTIONS}, got {self.sections}; correct it")
        if not (math.isfinite(self.seconds) and self.samples >= LEAST_SAMPLES):
            raise InputError(
                f"seconds: expected at least {LEAST_SAMPLES / SAMPLE_RATE_HZ:.3f} s ({LEAST_SAMPLES} samples), got "
                f"{self.seconds:g} s, too short for a spectrogram piece; give more"
            )
        for name, least in {"source_clips": 1, "target_clips": 0, "test_clips": 0}.items():
            if (got := getattr(self, name)) < least:
                raise InputError(f"{name}: expected at least {least}, got {got}; give more")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Operation and recording in a domain.

    `speeds` is a range relative to the nominal speed, `loads` a range within 0 to 1. `snr_db` changes a machine's
    signal-to-noise ratio, and `slope` is the spectral slope of the hall's noise.
    """

    speeds: tuple[float, float]
    loads: tuple[float, float]
    snr_db: float
    slope: float


CONDITIONS: dict[Domain, Conditions] = {
    "source": Conditions(speeds=(0.92, 1.08), loads=(0.3, 0.7), snr_db=0.0, slope=1.0),
    "target": Conditions(speeds=(1.1, 1.2), loads=(0.7, 0.9), snr_db=-1.0, slope=1.15),
}
SNR_SPREAD_DB = 2.0
LEVEL_RANGE_DB = 10.0
PLACE_SPREAD_DB = 2.0


@dataclass(frozen=True)
class ClipJob:
    """One clip to make. Its fields name its random stream."""

    machine: str
    section: int
    domain: Domain
    split: Split
    label: Label
    number: int

    def make_generator(self, seed: int) -> np.random.Generator:
        """Return the clip's own random generator, which depends only on the seed and the clip's fields."""
        names = "/".join(str(name) for name in (seed, *asdict(self).values()))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(names.encode()).digest()))

    @property
    def level_db(self) -> float:
        """Return the clip's RMS relative to full scale. It depends on the number only, so that it reveals no fault."""
        return RECORDING_DB + LEVEL_RANGE_DB * ((GOLDEN * self.number) % 1.0 - 0.5)

    def path(self, speed_hz: float, load: float) -> Path:
        """Return the clip's path in the corpus. A training clip's name has its turns per minute and load in percent."""
        stem = f"section_{self.section:02d}_{self.domain}_{self.split}_{self.label}_{self.number:04d}"
        if self.split == "test":
            return Path(self.machine, f"{self.domain}_test", f"{stem}.wav")
        return Path(self.machine, "train", f"{stem}_rpm_{60 * speed_hz:.0f}_load_{100 * load:.0f}.wav")


def synthesize(out: Path, recipe: Recipe, *, machines: Sequence[str] = tuple(MACHINES)) -> int:
    """Write synthetic clips of machine types (16-bit mono, 16 kHz) to a folder. Return their number.

    Run it again after a kill to complete the folder with the same bytes. Machine types may be added to a folder later.
    A clip gets its final name when it is complete.

    Raises InputError for an unknown machine type, an impossible recipe, or a folder with other contents. Nothing is
    written then.
    """
    recipe.validate()
    _check_machines(machines)
    jobs = list(_list_jobs(tuple(dict.fromkeys(machines)), recipe))
    with locked_folder(out):
        _require_same_recipe(out, recipe)
        replace_text(out / MARKER, _format_marker(recipe))
        for folder in {out / job.path(0.0, 0.0).parent for job in jobs}:
            folder.mkdir(parents=True, exist_ok=True)
        clips = map_in_threads(partial(_write_clip, job, out, recipe) for job in jobs)
        for _ in track(clips, "synthesize", len(jobs), "clip"):
            pass
    return len(jobs)


def _check_machines(machines: Sequence[str]) -> None:
    unknown = sorted(set(machines) - MACHINES.keys())
    if unknown or not machines:
        got = ", ".join(unknown) or "none"
        raise InputError(f"machines: expected some of {', '.join(MACHINES)}; got {got}")


def _format_marker(recipe: Recipe) -> str:
    return json.dumps(asdict(recipe), indent=1) + "\n"


def _require_same_recipe(out: Path, recipe: Recipe) -> None:
    """Raise InputError unless the folder is empty or has clips of the same recipe."""
    marker = out / MARKER
    if marker.is_file():
        if marker.read_text() != _format_marker(recipe):
            raise InputError(f"{out}: holds clips of another recipe (see {MARKER}); choose another folder")
    elif any(entry.name not in (f"{MARKER}.partial", LOCK) for entry in out.iterdir()):
        raise InputError(f"{out}: is not empty and was not made by asdjax synthesize; choose another folder")


def _list_jobs(machines: Sequence[str], recipe: Recipe) -> Iterator[ClipJob]:
    train_clips: dict[Domain, int] = {"source": recipe.source_clips, "target": recipe.target_clips}
    labels: tuple[Label, ...] = ("normal", "anomaly")
    for machine in machines:
        for section in range(recipe.sections):
            for domain, clips in train_clips.items():
                yield from (ClipJob(machine, section, domain, "train", "normal", i) for i in range(clips))
                for label in labels:
                    yield from (ClipJob(machine, section, domain, "test", label, i) for i in range(recipe.test_clips))


def _write_clip(job: ClipJob, out: Path, recipe: Recipe) -> None:
    rng, conditions = job.make_generator(recipe.seed), CONDITIONS[job.domain]
    specimen = int(rng.integers(2**62))
    machine = build_machine(job.machine, job.section, specimen)
    if job.label == "anomaly":
        fault = machine.faults[rng.integers(len(machine.faults))]
        machine = break_machine(job.machine, job.section, specimen, fault, severity=rng.uniform())
    speed, load = float(rng.uniform(*conditions.speeds)), float(rng.uniform(*conditions.loads))
    final = out / job.path(machine.speed_hz * speed, load)
    if final.exists():  # complete, and made by the same recipe: it has the same bytes
        return
    partial_file = final.with_suffix(".part")
    wave = to_amplitude(job.level_db) * _make_recording(machine, speed, load, conditions, recipe.samples, rng)
    soundfile.write(partial_file, _to_int16(wave), SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")
    os.replace(partial_file, final)


def _make_recording(
    machine: SyntheticMachine, speed: float, load: float, conditions: Conditions, samples: int, rng: np.random.Generator
) -> Signal:
    """Return the sound (s,) of a machine in its hall, RMS 1. `speed` is relative to nominal, `load` is 0 to 1."""
    turns = turn_shaft(machine.speed_hz * speed, machine.wander, samples, rng)
    mix = np.zeros(samples, np.float32)
    for part in machine.parts:
        level_db = part.level_db + part.load_db * (2.0 * load - 1.0) + rng.normal(0.0, part.spread_db)
        mix += to_amplitude(level_db) * part.make_sound(turns, rng)
    snr_db = machine.snr_db + rng.normal(conditions.snr_db, SNR_SPREAD_DB)
    hall = to_amplitude(-snr_db) * make_background(samples, conditions.slope, rng)
    emitted = normalize_rms(apply_place(apply_housing(mix, machine.housing_hz, HOUSING_DB), PLACE_SPREAD_DB, rng))
    return normalize_rms(emitted + hall)


def _to_int16(wave: Signal) -> NDArray[np.int16]:
    """Convert to 16 bits, shape (s,). A clip that would overflow is attenuated as a whole instead of clipped."""
    gain = min(1.0, PEAK / max(float(np.max(np.abs(wave))), PEAK))
    return np.rint(wave * (gain * 32767.0)).astype(np.int16)
