"""Access to the corpus and the decoded audio of a configuration."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from asdjax import features
from asdjax.config.fields import Config
from asdjax.data import store
from asdjax.data.audio import Decoding
from asdjax.data.check import check_corpus
from asdjax.data.clips import Clip, Corpus
from asdjax.data.findings import CheckResult, Finding
from asdjax.data.layouts import Scan, read_corpus, scan
from asdjax.data.store import WaveStore, open_store, require_usable
from asdjax.errors import InputError
from asdjax.runtime.progress import track
from asdjax.runtime.threads import map_in_threads

#: Store of each machine type, with all its clips, training and test.
Stores = Mapping[str, WaveStore]


class Recording(NamedTuple):
    """Samples of a clip, int16 (s,), as a view of a mapped store, and their SHA-256."""

    samples: np.ndarray
    sha256: str


class RecordedClips(NamedTuple):
    """Clips with their recordings, in the same order."""

    clips: Sequence[Clip]
    recordings: Sequence[Recording]

    @property
    def samples(self) -> list[np.ndarray]:
        """Return the samples of each clip, int16 (s,)."""
        return [recording.samples for recording in self.recordings]

    def of_machine(self, machine: str) -> "RecordedClips":
        """Return the clips and recordings of one machine type."""
        return self.select(lambda clip: clip.machine == machine)

    def select(self, condition: Callable[[Clip], bool]) -> "RecordedClips":
        """Return the clips that meet a condition, and their recordings."""
        rows = [i for i, clip in enumerate(self.clips) if condition(clip)]
        return RecordedClips([self.clips[i] for i in rows], [self.recordings[i] for i in rows])


def open_corpus(config: Config) -> Corpus:
    """Read the clips under `config.data.root`, or those of `config.data.machines` if any are named."""
    data = config.data
    return read_corpus(data.root, data.layout, data.machines, data.truth, data.exclude)


def scan_corpus(config: Config, layout: str = "", machines: Sequence[str] = ()) -> Scan:
    """Scan `config.data.root` for the configured layout and machine types, unless others are given.

    Raises InputError only if there is no corpus: for a missing root, layout or machine type, or a table with the wrong
    columns.
    """
    data = config.data
    return scan(data.root, layout or data.layout, machines or data.machines, data.truth, data.exclude)


def check(config: Config) -> CheckResult:
    """Check every clip under `config.data.root` for use with this configuration; raises InputError as `scan_corpus`."""
    return _check(config, scan_corpus(config), config.data.classes)


def _check(config: Config, found: Scan, classes: str) -> CheckResult:
    least_samples = features.make_spectrogram(config).least_samples
    return check_corpus(
        found,
        make_decoding(config),
        classes=classes,
        least_samples=least_samples,
        threshold_per=config.evaluate.threshold_per,
    )


def find_errors(config: Config, found: Scan, classes: str) -> dict[str, InputError]:
    """Check the clips of a scan; return the first error of each machine type that has one.

    Raises InputError for an error of the whole corpus.
    """
    by_machine: dict[str, list[Finding]] = {}
    for finding in _check(config, found, classes).errors:
        by_machine.setdefault(finding.machine, []).append(finding)
    errors = {}
    for machine, findings in by_machine.items():
        first = findings[0]
        others = f" (and {len(findings) - 1} more errors: see asdjax check)" if len(findings) > 1 else ""
        errors[machine] = InputError(f"{first.where}: {first.what}; {first.remedy}{others}")
    if "" in errors:
        raise errors[""]
    return errors


def store_folder(config: Config, workdir: Path) -> Path:
    """Return the folder of the stores, which has a folder for each machine type."""
    return Path(config.data.store) if config.data.store else workdir / "store"


def open_stores(config: Config, workdir: Path, corpus: Corpus, machines: Sequence[str]) -> Stores:
    """Open the stores of machine types in `store_folder`. Build those that are missing.

    Raises InputError like `open_store`. No store is built if the contents of another one are refused.
    """
    folder, decoding, shared = store_folder(config, workdir), make_decoding(config), bool(config.data.store)
    clips: dict[str, list[Clip]] = {machine: [] for machine in machines}
    for clip in corpus:
        if clip.machine in clips:
            clips[clip.machine].append(clip)
    for machine in machines:
        require_usable(folder, machine, clips[machine], decoding, shared=shared)
    return {machine: open_store(folder, machine, clips[machine], decoding, shared=shared) for machine in machines}


def compute_digests(config: Config, workdir: Path, clips: Sequence[Clip]) -> dict[Path, str]:
    """Return the SHA-256 of each clip's samples, keyed by path, as in `open_stores`. Build no store."""
    folder, digests = store_folder(config, workdir), {}
    for machine in dict.fromkeys(clip.machine for clip in clips):
        machine_clips = [clip for clip in clips if clip.machine == machine]
        digests |= store.read_digests(
            folder, machine, machine_clips, make_decoding(config), shared=bool(config.data.store)
        )
    return digests


def make_decoding(config: Config) -> Decoding:
    """Return the decoder's settings."""
    return Decoding(config.signal.sample_rate_hz, config.data.on_mismatch, config.data.channel)


def read_recordings(stores: Stores, clips: Sequence[Clip]) -> list[Recording]:
    """Return the recording of each clip, not verified, whose samples are read when they are used."""
    return [Recording(store.samples(i), store.digests[i]) for store, i in _find_stored(stores, clips)]


def verify_recordings(stores: Stores, clips: Sequence[Clip]) -> None:
    """Raise InputError if the samples of a clip are damaged."""
    places = _find_stored(stores, clips)
    machines = sorted({clip.machine for clip in clips})
    verified = map_in_threads(partial(store.verify, i) for store, i in places)
    for _ in track(verified, f"verify {', '.join(machines)}", len(clips), "clip", quiet=True):
        pass


def _find_stored(stores: Stores, clips: Sequence[Clip]) -> list[tuple[WaveStore, int]]:
    """Return the store of each clip and its number there."""
    machines = {clip.machine for clip in clips}
    places = {clip.path: (stores[machine], i) for machine in machines for i, clip in enumerate(stores[machine].clips)}
    return [places[clip.path] for clip in clips]
