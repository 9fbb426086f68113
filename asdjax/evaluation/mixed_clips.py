"""Normal recordings of a machine with faults of known sizes mixed in, and the choice of the recordings.

The draws depend on the names of machine, section, clip and kind alone.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from asdjax.config.fields import Config
from asdjax.data.access import read_recordings, verify_recordings
from asdjax.data.clips import Clip
from asdjax.data.synthetic.graded_faults import KINDS, mix_faults
from asdjax.data.tasks import Task, hold_out
from asdjax.evaluation.subject import Subject
from asdjax.runtime.threads import map_in_threads

#: Sizes of the faults, in dB of the recording's power.
SIZES_DB = (-30.0, -24.0, -18.0, -12.0, -6.0, 0.0)


class MixedClip(NamedTuple):
    """A recording with a fault: the clip as which it is scored, the clip that it was made from, kind, size, samples."""

    clip: Clip
    original: Clip
    kind: str
    size_db: float
    samples: np.ndarray


def mix_machine(config: Config, subject: Subject, task: Task, machine: str) -> list[MixedClip]:
    """Mix faults of all kinds and sizes into recordings of a machine type.

    Not more than `config.evaluate.sensitivity_clips` recordings are taken, evenly from sections and domains.
    """
    _, held_out = hold_out(task, config.train.holdout_fraction)
    known = [[clip for clip in part.clips if clip.machine == machine] for part in (held_out, task)]
    chosen = _choose_evenly(known[0] or known[1], config.evaluate.sensitivity_clips)
    verify_recordings(subject.stores, chosen)
    recordings = zip(chosen, read_recordings(subject.stores, chosen), strict=True)
    mixed = map_in_threads(_Mixer(clip, recording.samples, kind) for clip, recording in recordings for kind in KINDS)
    return [one for several in mixed for one in several]


def _choose_evenly(clips: Sequence[Clip], number: int) -> list[Clip]:
    """Choose clips in turns from each section and domain, in the order of a digest of their names."""
    cells: dict[tuple[str, str | None], list[Clip]] = {}
    for clip in clips:
        cells.setdefault((clip.section, clip.domain), []).append(clip)
    turns = [
        (turn, key, clip)
        for key, members in sorted(cells.items(), key=repr)
        for turn, clip in enumerate(sorted(members, key=lambda clip: _hash(clip.machine, clip.section, clip.name)))
    ]
    return [clip for _, _, clip in sorted(turns, key=lambda turn: (turn[0], repr(turn[1])))[:number]]


def _hash(*names: str) -> int:
    """Return a number that is a function of names alone."""
    return int.from_bytes(hashlib.sha256("/".join(names).encode()).digest())


class _Mixer(NamedTuple):
    """The faults of one kind for one recording; a call mixes them, all of the same random draws."""

    clip: Clip
    samples: np.ndarray
    kind: str

    def __call__(self) -> list[MixedClip]:
        rng = np.random.default_rng(_hash(self.clip.machine, self.clip.section, self.clip.name, self.kind))
        return [
            MixedClip(self._name(size_db), self.clip, self.kind, size_db, samples)
            for size_db, samples in zip(SIZES_DB, mix_faults(self.samples, self.kind, SIZES_DB, rng), strict=True)
        ]

    def _name(self, size_db: float) -> Clip:
        path = self.clip.path.with_name(f"{self.clip.name}.{self.kind}.{size_db:g}dB")
        return replace(self.clip, path=path, split="test", label="anomaly")
