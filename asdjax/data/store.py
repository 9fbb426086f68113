"""Wave store: the decoded clips of a machine type in one int16 file, built once and then mapped into memory.

A store is a folder with two files. `samples-<digest>.int16` holds the samples of all clips one after another
(little-endian, no gaps). `index.json` lists where each clip begins and has a SHA-256 of its own content.

A build writes the new samples next to the old ones and replaces the index last. A killed build thus leaves the old
store intact, and the next build removes its leftovers. Both files depend only on the clips, their order and the
settings.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from asdjax.data.audio import Decoding, decode, read_header
from asdjax.data.clips import Clip
from asdjax.data.formats.header import Caution
from asdjax.data.store_index import (
    VERSION,
    FileState,
    SampleSpan,
    StoreIndex,
    file_state,
    map_samples,
    read_index,
    write_index,
)
from asdjax.errors import InputError
from asdjax.runtime.files import is_writable, locked_folder
from asdjax.runtime.progress import log, track
from asdjax.runtime.threads import map_in_threads

PARTIAL = "samples.partial"

#: A function that returns a clip's samples and their SHA-256.
_Job = Callable[[], tuple[np.ndarray, str]]


@dataclass(frozen=True, slots=True)
class WaveStore:
    """Decoded clips of one machine type, mapped from disk. Pages are read on first use.

    Attributes
    ----------
    home
        Folder of the store.
    clips
        The n clips, in the order in which `open_store` got them.
    flat
        All samples of the store: int16, shape (s,), read-only.
    offsets, lengths
        First sample and number of samples of each clip in `flat`: int64, shape (n,).
    digests
        SHA-256 of each clip's samples.
    """

    home: Path
    clips: tuple[Clip, ...]
    flat: np.ndarray
    offsets: np.ndarray
    lengths: np.ndarray
    digests: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.clips)

    def verify(self, i: int) -> None:
        """Raise InputError if the samples of `clips[i]` do not have their recorded SHA-256."""
        if hashlib.sha256(self.samples(i)).hexdigest() != self.digests[i]:
            raise _damaged(
                self.home,
                self.clips[i].path,
                f"remove {self.home}, and run asdjax train or evaluate again to rebuild it",
            )

    def samples(self, i: int) -> np.ndarray:
        """Return the samples of `clips[i]` as a view of `flat`: int16, shape (lengths[i],)."""
        start = int(self.offsets[i])
        return self.flat[start : start + int(self.lengths[i])]


def open_store(
    folder: Path,
    machine: str,
    clips: Sequence[Clip],
    decoding: Decoding,
    *,
    shared: bool = True,
) -> WaveStore:
    """Open the store of `machine` under `folder`. Build it first if it is missing or out of date.

    Pass all clips of the machine type. If a clip is new, or its file has another size or time, the store is rewritten
    with exactly `clips`, in their order. Unchanged clips are copied instead of decoded. A subset of the stored clips
    is served without a rewrite, even from a read-only folder. Processes that open one store at the same time wait
    for each other.

    A `shared` store is refused if it holds none of the clips, because another corpus may use it. Otherwise it is
    rebuilt.

    Raises InputError if `audio.decode` refuses a clip, or if the folder cannot be written. The same holds for a store
    that is damaged or was built with other settings. The files on disk are then unchanged.
    """
    if not clips:
        raise ValueError(f"a store needs at least one clip of {machine}")
    home = Path(folder) / machine
    states = [file_state(clip) for clip in clips]
    read_only = home.is_dir() and not is_writable(home)
    with nullcontext() if read_only else locked_folder(home):
        index = _read_usable_index(home, clips, decoding, shared=shared)
        missing = next((state.path for state in states if state not in index.spans), None)
        if missing and read_only:
            raise InputError(
                f"{home}: expected the samples of {missing} in its present state, got a read-only store without "
                "them; make the folder writable, or set another config.data.store"
            )
        if missing:
            index = _build(home, dict(zip(states, clips, strict=True)), index, decoding)
    spans = [index.spans[state] for state in states]
    offsets = np.array([span.offset for span in spans], np.int64)
    lengths = np.array([span.samples for span in spans], np.int64)
    return WaveStore(home, tuple(clips), index.flat, offsets, lengths, tuple(span.sha256 for span in spans))


def require_usable(
    folder: Path, machine: str, clips: Sequence[Clip], decoding: Decoding, *, shared: bool = True
) -> None:
    """Raise InputError if `open_store` would refuse the contents of the store of `machine`. Write nothing."""
    home = Path(folder) / machine
    with _locked_if_writable(home):
        _read_usable_index(home, clips, decoding, shared=shared)


def read_digests(
    folder: Path, machine: str, clips: Sequence[Clip], decoding: Decoding, *, shared: bool = True
) -> dict[Path, str]:
    """Return the SHA-256 of each clip's samples, keyed by path. Write nothing.

    The digests are those of the store that `open_store` would build. Clips that are not stored are decoded.

    Raises InputError like `open_store`, except for a folder that cannot be written.
    """
    home = Path(folder) / machine
    with _locked_if_writable(home):
        index = _read_usable_index(home, clips, decoding, shared=shared)
        jobs = (_make_job(clip, file_state(clip), index, decoding) for clip in clips)
        digests = [
            sha256 for _, sha256 in track(map_in_threads(jobs), f"hash {machine}", len(clips), "clip", quiet=True)
        ]
    return {clip.path: sha256 for clip, sha256 in zip(clips, digests, strict=True)}


def load_samples(folder: Path, machine: str, digests: Mapping[Path, str]) -> dict[Path, np.ndarray]:
    """Return stored samples by clip path: int16, shape (s,), views of the mapped file.

    `digests` maps each path to the SHA-256 of its samples. The clips themselves are not read; they may have moved or
    be deleted. Nothing is written.

    Raises InputError if the store is missing or damaged, or if it lacks the samples of a clip.
    """
    home = Path(folder) / machine
    index = read_index(home, {"version": VERSION})
    by_digest = {span.sha256: span for span in index.spans.values()}
    stored_paths = {state.path for state in index.spans}
    found = {}
    for path, sha256 in digests.items():
        if sha256 not in by_digest:
            got = "another recording under this path" if str(path) in stored_paths else "a store without it"
            raise InputError(f"{home}: expected the evaluated samples of {path}, got {got}; run asdjax evaluate again")
        found[path] = index.samples(by_digest[sha256])
        if hashlib.sha256(found[path]).hexdigest() != sha256:
            raise _damaged(home, path, f"remove {home} and run asdjax evaluate again")
    return found


def _locked_if_writable(home: Path) -> AbstractContextManager[Any]:
    return locked_folder(home) if home.is_dir() and is_writable(home) else nullcontext()


def _damaged(home: Path, path: Path, remedy: str) -> InputError:
    return InputError(f"{home}: expected the decoded samples of {path}, got damaged ones; {remedy}")


def _settings(decoding: Decoding) -> dict[str, Any]:
    return {"version": VERSION, **decoding._asdict()}


def _read_usable_index(home: Path, clips: Sequence[Clip], decoding: Decoding, *, shared: bool) -> StoreIndex:
    index = read_index(home, _settings(decoding))
    stored = {state.path for state in index.spans}
    if shared and stored and stored.isdisjoint(str(clip.path) for clip in clips):
        raise InputError(
            f"{home}: holds other clips (such as {min(stored)}), expected those of this corpus (such as "
            f"{clips[0].path}); correct config.data.root, give another config.data.store, or remove {home}"
        )
    return index


def _build(home: Path, clips: dict[FileState, Clip], old: StoreIndex, decoding: Decoding) -> StoreIndex:
    """Write a new store. Copy the clips that `old` holds and decode the others."""
    keep = old.name
    jobs = (_make_job(clip, state, old, decoding) for state, clip in clips.items())
    try:
        with (home / PARTIAL).open("wb") as out:
            written = _write_samples(out, jobs, len(clips), f"store {home.name}")
            out.flush()
            os.fsync(out.fileno())
        digest = hashlib.sha256("".join(span.sha256 for span in written).encode()).hexdigest()
        name = f"samples-{digest[:16]}.int16"
        _log_cautions(home.name, [clip for state, clip in clips.items() if state not in old.spans])
        os.replace(home / PARTIAL, home / name)
        spans = dict(zip(clips, written, strict=True))
        write_index(home, _settings(decoding), name, spans)
        keep = name
    finally:
        _remove_leftovers(home, keep)
    return StoreIndex(name, map_samples(home / name), spans)


def _make_job(clip: Clip, state: FileState, old: StoreIndex, decoding: Decoding) -> _Job:
    if span := old.spans.get(state):
        return lambda: (old.samples(span), span.sha256)
    return lambda: _decode_with_digest(clip.path, decoding)


def _decode_with_digest(path: Path, decoding: Decoding) -> tuple[np.ndarray, str]:
    samples = np.ascontiguousarray(decode(path, decoding), "<i2")
    return samples, hashlib.sha256(samples).hexdigest()


def _write_samples(out: BinaryIO, jobs: Iterator[_Job], total: int, title: str) -> list[SampleSpan]:
    """Write the samples of each job in the order of the jobs, although threads may finish in another order."""
    spans, offset = [], 0
    for samples, sha256 in track(map_in_threads(jobs), title, total, "clip"):
        out.write(samples.data)
        spans.append(SampleSpan(offset, len(samples), sha256))
        offset += len(samples)
    return spans


def _log_cautions(machine: str, clips: Sequence[Clip]) -> None:
    """Log the cautions about newly decoded files. Cautions that differ only in numbers share a line."""
    found: dict[str, list[tuple[Path, Caution]]] = {}
    for clip in clips:
        for caution in read_header(clip.path).cautions:
            found.setdefault(re.sub(r"\d+", "", caution.what), []).append((clip.path, caution))
    for alike in found.values():
        path, caution = alike[0]
        others = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
        log(f"{machine}: warning: {path}{others}: {caution}")


def _remove_leftovers(home: Path, keep: str) -> None:
    """Remove partial files and every file of samples except `keep`."""
    for path in (*home.glob("*.partial"), *home.glob("samples-*.int16")):
        if path.name != keep:
            path.unlink()
