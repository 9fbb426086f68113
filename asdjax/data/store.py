"""WaveStore: a machine type's decoded clips in one int16 file, built once and mapped into memory after.

On disk, per machine type: `samples-<digest>.int16`, the clips' samples one after another without gaps
(little-endian), and `index.json`, which says where each clip's lie, sealed with the SHA-256 of all that it says. A
build writes new samples beside the old ones and replaces the index last, so that a killed build leaves the store as
it was; what it left behind is overwritten by the next. Both files follow from the clips, their order and the settings
alone.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from asdjax.data.audio import Decoding, decode, read_header
from asdjax.data.clips import Clip
from asdjax.data.formats.header import Caution
from asdjax.data.formats.kinds import absent
from asdjax.errors import InputError
from asdjax.runtime.files import add_checksum, locked_folder, may_write, replace_text, verify_checksum
from asdjax.runtime.progress import log, track
from asdjax.runtime.threads import map_in_threads

VERSION = 3
INDEX = "index.json"
PARTIAL = "samples.partial"

_Job = Callable[[], tuple[np.ndarray, str]]
"""Yields a clip's samples and their digest."""


@dataclass(frozen=True, slots=True)
class WaveStore:
    """Samples of clips, mapped from disk; nothing is read before it is looked at.

    `home` is its folder. `flat` int16, shape (s,), all samples of the machine type's store, read-only. `offsets` and
    `lengths`, int64 (n,), say where in it each of `clips` lies, in samples; `digests` are the SHA-256 of each one's
    samples.
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
        """Raise InputError where the samples of `clips[i]` are not those that were decoded."""
        if hashlib.sha256(self.samples(i)).hexdigest() != self.digests[i]:
            raise InputError(
                f"{self.home}: damaged, what it holds of {self.clips[i].path} is not what was decoded; "
                f"remove {self.home} to have it built anew"
            )

    def samples(self, i: int) -> np.ndarray:
        """Samples of `clips[i]`, a view of `flat`: int16, shape (lengths[i],)."""
        start = int(self.offsets[i])
        return self.flat[start : start + int(self.lengths[i])]


def open_store(
    folder: Path,
    machine: str,
    clips: Sequence[Clip],
    how: Decoding,
    *,
    shared: bool = True,
) -> WaveStore:
    """The store of `machine` under `folder` for `clips`, built where it is missing or out of date.

    Give all clips of the machine type: if one of them is new, or its file's size or time has changed, the
    store is written anew and holds `clips` only, in that order; unchanged ones are copied, not decoded. A choice from
    what it already holds is served as it is, also from a folder that may only be read. Processes that open it at once
    wait for one. One that is not `shared` may hold none of these clips (they were moved, say) and is then built anew.

    Raises InputError for a clip that `audio.decode` refuses, for a store that was built with other
    settings, for none of these clips, or is damaged, and where the folder cannot be written. All that was
    there before is then there still.
    """
    if not clips:
        raise ValueError(f"a store needs at least one clip of {machine}")
    home = Path(folder) / machine
    origins = [_origin(clip) for clip in clips]
    read_only = home.is_dir() and not may_write(home)
    with nullcontext() if read_only else locked_folder(home):
        store = _fit_to_use(home, clips, how, shared=shared)
        missing = next((origin.path for origin in origins if origin not in store.places), None)
        if missing and read_only:
            raise InputError(
                f"{home}: expected the sound of {missing} as it is now, which it does not hold, and it may only be "
                "read; allow writing there, or give another config.data.store"
            )
        if missing:
            store = _build(home, dict(zip(origins, clips, strict=True)), store, how)
    places = [store.places[origin] for origin in origins]
    offsets = np.array([place.offset for place in places], np.int64)
    lengths = np.array([place.samples for place in places], np.int64)
    return WaveStore(home, tuple(clips), store.flat, offsets, lengths, tuple(place.sha256 for place in places))


def require_usable(folder: Path, machine: str, clips: Sequence[Clip], how: Decoding, *, shared: bool = True) -> None:
    """Raise InputError where `open_store` would refuse what the store of `machine` holds; nothing is written."""
    home = Path(folder) / machine
    with locked_folder(home) if home.is_dir() and may_write(home) else nullcontext():
        _fit_to_use(home, clips, how, shared=shared)


def read_digests(
    folder: Path, machine: str, clips: Sequence[Clip], how: Decoding, *, shared: bool = True
) -> dict[Path, str]:
    """The SHA-256 of each clip's samples by its path, as `open_store` would have it; what the store does not hold is
    decoded for that. Nothing is written. Raises InputError as `open_store`, where the folder cannot be written left
    out."""
    home = Path(folder) / machine
    with locked_folder(home) if home.is_dir() and may_write(home) else nullcontext():
        store = _fit_to_use(home, clips, how, shared=shared)
        jobs = (_job(clip, _origin(clip), store, how) for clip in clips)
        digests = [
            sha256 for _, sha256 in track(map_in_threads(jobs), f"look at {machine}", len(clips), "clip", quiet=True)
        ]
    return {clip.path: sha256 for clip, sha256 in zip(clips, digests, strict=True)}


def _settings(how: Decoding) -> dict[str, Any]:
    return {"version": VERSION, **how._asdict()}


def load_samples(folder: Path, machine: str, digests: Mapping[Path, str]) -> dict[Path, np.ndarray]:
    """What the store of `machine` under `folder` holds of clips, given by path with the SHA-256 of their samples:
    int16 (s,) each, views of the mapped file, wherever the clips lie now.

    Neither the clips, which may be gone, nor the store are touched. Raises InputError where the store is missing,
    damaged, or does not hold one of them, or not as it was.
    """
    home = Path(folder) / machine
    store = _load(home, {"version": VERSION})
    places = {place.sha256: place for place in store.places.values()}
    paths = {origin.path for origin in store.places}
    return {path: _held(home, store, places.get(sha256), paths, path) for path, sha256 in digests.items()}


def _held(home: Path, store: "_Index", place: "_Place | None", paths: set[str], path: Path) -> np.ndarray:
    if place is None and str(path) in paths:
        raise InputError(f"{path}: another recording than the one that was evaluated; run asdjax evaluate again")
    if place is None:
        raise InputError(f"{home}: expected the sound of {path}, which it does not hold; run asdjax evaluate again")
    samples = store.samples(place)
    if hashlib.sha256(samples).hexdigest() != place.sha256:
        raise InputError(f"{home}: damaged, what it holds of {path} is not what was decoded; remove {home}")
    return samples


@dataclass(frozen=True, slots=True)
class _Origin:
    """A file in the state in which it was decoded: path as given, bytes, nanoseconds."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a clip's samples lie and what they are: counts in samples, digest of their bytes."""

    offset: int
    samples: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Index:
    """A store as it lies on disk: the name of its file of samples, that file mapped, and what is in it."""

    name: str
    flat: np.ndarray
    places: dict[_Origin, _Place]

    def samples(self, place: _Place) -> np.ndarray:
        return self.flat[place.offset : place.offset + place.samples]


_EMPTY = _Index("", np.empty(0, np.int16), {})


def _origin(clip: Clip) -> _Origin:
    try:
        stat = clip.path.stat()
    except FileNotFoundError as error:
        raise absent(clip.path) from error
    except OSError as error:
        raise InputError(f"{clip.path}: cannot be read ({error.strerror}); check the path") from error
    return _Origin(str(clip.path), stat.st_size, stat.st_mtime_ns)


def _load(home: Path, settings: dict[str, Any]) -> _Index:
    """What the index in `home` describes, checked; an empty one where there is none."""
    path = home / INDEX
    if not path.exists():
        return _EMPTY
    remedy = f"remove {home} to have it built anew"
    try:
        content = verify_checksum(path.read_text())
    except (ValueError, IsADirectoryError) as error:
        came = "a folder" if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: expected the index of a store, came {came}; {remedy}") from error
    for setting, wanted in settings.items():
        if content[setting] != wanted:
            raise InputError(
                f"{path}: expected {setting} {wanted}, came a store built with {content[setting]}; {remedy}, "
                "or give another config.data.store"
            )
    name = content["samples"]
    places = {_Origin(**row["origin"]): _Place(**row["place"]) for row in content["clips"]}
    expected = 2 * sum(place.samples for place in places.values())
    size = (home / name).stat().st_size if (home / name).is_file() else 0
    if size != expected:
        raise InputError(f"{home / name}: expected {expected} bytes, came {size}; {remedy}")
    return _Index(name, _map(home / name), places)


def _map(path: Path) -> np.ndarray:
    return np.asarray(np.memmap(path, "<i2", mode="r"))


def _fit_to_use(home: Path, clips: Sequence[Clip], how: Decoding, *, shared: bool) -> _Index:
    """The store in `home`, empty where there is none.

    Raises InputError where it is damaged or was built with other settings, and where others may use it, too, and it
    holds none of these clips.
    """
    store = _load(home, _settings(how))
    stored = {origin.path for origin in store.places}
    if shared and stored and stored.isdisjoint(str(clip.path) for clip in clips):
        raise InputError(
            f"{home}: holds other clips (such as {min(stored)}) and none of those asked for (such as "
            f"{clips[0].path}); correct config.data.root, give another config.data.store, or remove {home}"
        )
    return store


def _build(home: Path, wanted: dict[_Origin, Clip], old: _Index, how: Decoding) -> _Index:
    """Write the store anew, with what `old` holds already copied from there."""
    keep = old.name
    jobs = (_job(clip, origin, old, how) for origin, clip in wanted.items())
    try:
        with (home / PARTIAL).open("wb") as out:
            written = _write(out, jobs, len(wanted), f"store {home.name}")
            out.flush()
            os.fsync(out.fileno())
        places = dict(zip(wanted, written, strict=True))
        name = f"samples-{_digest(written)[:16]}.int16"
        _say_cautions(home.name, [clip for origin, clip in wanted.items() if origin not in old.places])
        os.replace(home / PARTIAL, home / name)
        _write_index(home, _settings(how), name, places)
        keep = name
    finally:
        _sweep(home, keep)
    return _Index(name, _map(home / name), places)


def _say_cautions(machine: str, clips: Sequence[Clip]) -> None:
    """Say what is odd about the files of newly decoded clips, alike ones in one line."""
    found: dict[str, list[tuple[Path, Caution]]] = {}
    for clip in clips:
        for caution in read_header(clip.path).cautions:
            found.setdefault(re.sub(r"\d+", "", caution.what), []).append((clip.path, caution))
    for alike in found.values():
        path, caution = alike[0]
        others = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
        log(f"{machine}: warning: {path}{others}: {caution}")


def _job(clip: Clip, origin: _Origin, old: _Index, how: Decoding) -> _Job:
    if place := old.places.get(origin):
        return lambda: (old.samples(place), place.sha256)
    return lambda: _digested(decode(clip.path, how))


def _digested(samples: np.ndarray) -> tuple[np.ndarray, str]:
    samples = np.ascontiguousarray(samples, "<i2")
    return samples, hashlib.sha256(samples).hexdigest()


def _digest(places: list[_Place]) -> str:
    return hashlib.sha256("".join(place.sha256 for place in places).encode()).hexdigest()


def _write(out: BinaryIO, jobs: Iterator[_Job], total: int, title: str) -> list[_Place]:
    """Write each job's samples to `out`, in order whichever thread is first."""
    places, offset = [], 0
    for samples, sha256 in track(map_in_threads(jobs), title, total, "clip"):
        out.write(samples.data)
        places.append(_Place(offset, len(samples), sha256))
        offset += len(samples)
    return places


def _write_index(home: Path, settings: dict[str, Any], name: str, places: dict[_Origin, _Place]) -> None:
    rows = [{"origin": asdict(origin), "place": asdict(place)} for origin, place in places.items()]
    replace_text(home / INDEX, json.dumps(add_checksum({**settings, "samples": name, "clips": rows}), indent=0))


def _sweep(home: Path, keep: str) -> None:
    """Remove half-written files and samples that the index no longer names."""
    for path in (*home.glob("*.partial"), *home.glob("samples-*.int16")):
        if path.name != keep:
            path.unlink()
