"""Synthetic machines, written out in the DCASE 2021 layout: something to train on where no recordings are.

Every clip's random stream is named after the clip, so its bytes depend on nothing else: not on the number of
workers, nor on what else is made, nor on a run that was killed before. (Bytes are those of one kind of machine:
another processor or NumPy may round a sample differently.)
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
from asdjax.data.synthetic.components import SAMPLE_RATE_HZ, Signal, amplitude, background, housed, placed, shaft, unit
from asdjax.data.synthetic.construction import GOLDEN, SyntheticMachine
from asdjax.data.synthetic.machines import MACHINES, break_machine, build
from asdjax.errors import InputError
from asdjax.runtime.files import LOCK, locked_folder, replace_text
from asdjax.runtime.progress import track
from asdjax.runtime.threads import map_in_threads

LEAST_SAMPLES = 31 * 512  # from frame 0 to frame 31 of a piece at the report's settings: a shorter clip has none
MOST_SECTIONS = 100  # file names have two digits
MARKER = "synthesis.json"
RECORDING_DB = -44.0  # RMS of a clip re full scale: leaves room for a valve's clicks 38 dB above it
HOUSING_DB = 9.0
PEAK = 0.95


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is made of each machine type; `test_clips` normal and as many anomalous ones per section and domain."""

    source_clips: int
    test_clips: int
    target_clips: int = 3
    sections: int = 3
    seed: int = 0
    seconds: float = 10.0

    @property
    def samples(self) -> int:
        """Samples of a clip."""
        return round(self.seconds * SAMPLE_RATE_HZ)

    def validate(self) -> None:
        """Raises InputError for what cannot be made or could not be scored."""
        if not 1 <= self.sections <= MOST_SECTIONS:
            raise InputError(f"sections: expected 1 to {MOST_SECTIONS}, got {self.sections}")
        if not (math.isfinite(self.seconds) and self.samples >= LEAST_SAMPLES):
            raise InputError(
                f"seconds: {self.seconds:g} s is too short for a spectrogram piece; "
                f"expected at least {LEAST_SAMPLES / SAMPLE_RATE_HZ:.3f} s ({LEAST_SAMPLES} samples)"
            )
        for name, least in {"source_clips": 1, "target_clips": 0, "test_clips": 0}.items():
            if (got := getattr(self, name)) < least:
                raise InputError(f"{name}: expected at least {least}, got {got}")


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How a domain is run and recorded: speeds re nominal, loads 0..1, the hall's loudness and colour."""

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
class Job:
    """One clip to be made; its fields name its random stream."""

    machine: str
    section: int
    domain: Domain
    split: Split
    label: Label
    number: int

    def stream(self, seed: int) -> np.random.Generator:
        """The clip's own random stream, a pure function of the seed and the clip's names."""
        names = "/".join(str(name) for name in (seed, *asdict(self).values()))
        return np.random.default_rng(int.from_bytes(hashlib.sha256(names.encode()).digest()))

    @property
    def level_db(self) -> float:
        """RMS of the clip re full scale. Normal and anomalous clips of one number share it: it reveals no fault."""
        return RECORDING_DB + LEVEL_RANGE_DB * ((GOLDEN * self.number) % 1.0 - 0.5)

    def path(self, speed_hz: float, load: float) -> Path:
        """Return the clip's path in the corpus; a training clip's has its turns a minute and its load in percent."""
        stem = f"section_{self.section:02d}_{self.domain}_{self.split}_{self.label}_{self.number:04d}"
        if self.split == "test":
            return Path(self.machine, f"{self.domain}_test", f"{stem}.wav")
        return Path(self.machine, "train", f"{stem}_rpm_{60 * speed_hz:.0f}_load_{100 * load:.0f}.wav")


def synthesize(out: Path, recipe: Recipe, *, machines: Sequence[str] = tuple(MACHINES)) -> int:
    """Write machine types out as 16-bit mono clips at 16 kHz; returns the number of clips.

    Run again after a kill, it completes the folder with the same bytes; more machine types may be added to a
    folder later. A clip under its final name is always whole.

    Raises
    ------
    InputError
        Unknown machine type, impossible recipe, or a folder that holds anything else than clips of this recipe.
        Nothing has been written then.
    """
    recipe.validate()
    check_machines(machines)
    todo = list(jobs(tuple(dict.fromkeys(machines)), recipe))
    with locked_folder(out):
        refuse_others(out, recipe)
        replace_text(out / MARKER, marker_text(recipe))
        for folder in {out / job.path(0.0, 0.0).parent for job in todo}:
            folder.mkdir(parents=True, exist_ok=True)
        clips = map_in_threads(partial(write_clip, job, out, recipe) for job in todo)
        for _ in track(clips, "synthesize", len(todo), "clip"):
            pass
    return len(todo)


def check_machines(machines: Sequence[str]) -> None:
    unknown = sorted(set(machines) - MACHINES.keys())
    if unknown or not machines:
        got = ", ".join(unknown) or "none"
        raise InputError(f"machines: expected some of {', '.join(MACHINES)}; got {got}")


def marker_text(recipe: Recipe) -> str:
    """What lies in a folder of synthetic clips and says how they were made."""
    return json.dumps(asdict(recipe), indent=1) + "\n"


def refuse_others(out: Path, recipe: Recipe) -> None:
    """See that the folder is empty or was made by the same recipe."""
    marker = out / MARKER
    if marker.is_file():
        if marker.read_text() != marker_text(recipe):
            raise InputError(f"{out}: holds clips of another recipe (see {MARKER}); choose another folder")
    elif any(entry.name not in (f"{MARKER}.partial", LOCK) for entry in out.iterdir()):
        raise InputError(f"{out}: is not empty and was not made by asdjax synthesize; choose another folder")


def jobs(machines: Sequence[str], recipe: Recipe) -> Iterator[Job]:
    """Every clip of the corpus."""
    train_clips: dict[Domain, int] = {"source": recipe.source_clips, "target": recipe.target_clips}
    labels: tuple[Label, ...] = ("normal", "anomaly")
    for machine in machines:
        for section in range(recipe.sections):
            for domain, clips in train_clips.items():
                yield from (Job(machine, section, domain, "train", "normal", i) for i in range(clips))
                for label in labels:
                    yield from (Job(machine, section, domain, "test", label, i) for i in range(recipe.test_clips))


def write_clip(job: Job, out: Path, recipe: Recipe) -> None:
    """Make one clip and put it under its final name when it is whole."""
    rng, conditions = job.stream(recipe.seed), CONDITIONS[job.domain]
    specimen = int(rng.integers(2**62))
    machine = build(job.machine, job.section, specimen)
    if job.label == "anomaly":
        fault = machine.faults[rng.integers(len(machine.faults))]
        machine = break_machine(job.machine, job.section, specimen, fault, severity=rng.uniform())
    speed, load = float(rng.uniform(*conditions.speeds)), float(rng.uniform(*conditions.loads))
    final = out / job.path(machine.speed_hz * speed, load)
    if final.exists():  # written whole, by the same recipe: the same bytes
        return
    half = final.with_suffix(".part")
    wave = amplitude(job.level_db) * recording(machine, speed, load, conditions, recipe.samples, rng)
    soundfile.write(half, to_int16(wave), SAMPLE_RATE_HZ, subtype="PCM_16", format="WAV")
    os.replace(half, final)


def recording(
    machine: SyntheticMachine, speed: float, load: float, conditions: Conditions, samples: int, rng: np.random.Generator
) -> Signal:
    """Return the sound (s,) of a machine at work in its hall, RMS 1; `speed` re nominal, `load` 0..1."""
    turns = shaft(machine.speed_hz * speed, machine.wander, samples, rng)
    heard = np.zeros(samples, np.float32)
    for part in machine.parts:
        level_db = part.level_db + part.load_db * (2.0 * load - 1.0) + rng.normal(0.0, part.spread_db)
        heard += amplitude(level_db) * part.sound(turns, rng)
    snr_db = machine.snr_db + rng.normal(conditions.snr_db, SNR_SPREAD_DB)
    hall = amplitude(-snr_db) * background(samples, conditions.slope, rng)
    let_out = unit(placed(housed(heard, machine.housing_hz, HOUSING_DB), PLACE_SPREAD_DB, rng))
    return unit(let_out + hall)


def to_int16(wave: Signal) -> NDArray[np.int16]:
    """(s,) in 16 bit; a clip that would overflow is turned down as a whole, never clipped."""
    turned_down = min(1.0, PEAK / max(float(np.max(np.abs(wave))), PEAK))
    return np.rint(wave * (turned_down * 32767.0)).astype(np.int16)
