"""The corpus and the decoded audio that a configuration names."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asdjax import features
from asdjax.config.fields import Config
from asdjax.data import store
from asdjax.data.audio import Decoding
from asdjax.data.check import CheckResult, check_corpus
from asdjax.data.clips import Clip, Corpus
from asdjax.data.layouts import read_corpus
from asdjax.data.store import WaveStore, open_store, require_usable
from asdjax.errors import InputError
from asdjax.runtime.progress import track
from asdjax.runtime.threads import map_in_threads

Stores = Mapping[str, WaveStore]
"""By machine type; each holds all clips of its machine type, training and test."""


class Recording(NamedTuple):
    """A clip's samples, int16 (s,), as a view of a mapped store, and their SHA-256."""

    samples: np.ndarray
    sha256: str


class RecordedClips(NamedTuple):
    """Clips and what the stores hold of each."""

    clips: Sequence[Clip]
    recordings: Sequence[Recording]

    @property
    def samples(self) -> list[np.ndarray]:
        """Of each clip, int16 (s,)."""
        return [recording.samples for recording in self.recordings]

    def of_machine(self, machine: str) -> "RecordedClips":
        """The part that is one machine type's."""
        rows = [i for i, clip in enumerate(self.clips) if clip.machine == machine]
        return RecordedClips([self.clips[i] for i in rows], [self.recordings[i] for i in rows])


def open_corpus(config: Config) -> Corpus:
    """All clips under `config.data.root`, of `config.data.machines` only if any are named."""
    return read_corpus(config.data.root, config.data.layout, config.data.machines, config.data.truth)


def check(config: Config) -> CheckResult:
    """Look at every clip under `config.data.root`, as the run would use it."""
    return check_corpus(
        config.data.root,
        config.data.layout,
        config.data.machines,
        config.data.truth,
        how=make_decoding(config),
        classes=config.data.classes,
        least_samples=features.make_spectrogram(config).least_samples,
    )


def require_sound(config: Config) -> None:
    """Raise InputError for the first thing that `check` calls an error."""
    errors = check(config).errors
    if errors:
        first = errors[0]
        others = f" (and {len(errors) - 1} more errors: see asdjax check)" if len(errors) > 1 else ""
        raise InputError(f"{first.where}: {first.what}; {first.remedy}{others}")


def store_folder(config: Config, workdir: Path) -> Path:
    """Where the stores lie, a folder for each machine type."""
    return Path(config.data.store) if config.data.store else workdir / "store"


def open_stores(config: Config, workdir: Path, corpus: Corpus, machines: Sequence[str]) -> Stores:
    """The stores of machine types, built where missing, in `config.data.store` or W/store; none is built where that of
    another machine type is refused for what it holds."""
    folder, how, shared = store_folder(config, workdir), make_decoding(config), bool(config.data.store)
    clips = {machine: corpus.select(machine=machine) for machine in machines}
    for machine, of_machine in clips.items():
        require_usable(folder, machine, of_machine, how, shared=shared)
    return {
        machine: open_store(folder, machine, of_machine, how, shared=shared) for machine, of_machine in clips.items()
    }


def compute_digests(config: Config, workdir: Path, clips: Sequence[Clip]) -> dict[Path, str]:
    """The SHA-256 of each clip's samples by its path, as `open_stores` would have it; it builds none."""
    folder, digests = store_folder(config, workdir), {}
    for machine in dict.fromkeys(clip.machine for clip in clips):
        of_machine = [clip for clip in clips if clip.machine == machine]
        digests |= store.read_digests(
            folder, machine, of_machine, make_decoding(config), shared=bool(config.data.store)
        )
    return digests


def make_decoding(config: Config) -> Decoding:
    """How samples are made of recordings."""
    return Decoding(config.signal.sample_rate_hz, config.data.on_mismatch, config.data.channel)


def read_recordings(stores: Stores, clips: Sequence[Clip]) -> list[Recording]:
    """What the stores hold of each clip; raises InputError where that is not what was once decoded."""
    machines = sorted({clip.machine for clip in clips})
    held = {clip.path: (stores[machine], i) for machine in machines for i, clip in enumerate(stores[machine].clips)}
    verified = map_in_threads(partial(_recording, *held[clip.path]) for clip in clips)
    return list(track(verified, f"verify {', '.join(machines)}", len(clips), "clip", quiet=True))


def _recording(store: WaveStore, i: int) -> Recording:
    store.verify(i)
    return Recording(store.samples(i), store.digests[i])
