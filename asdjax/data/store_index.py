"""Index of a wave store: a JSON file that lists each clip's source file and its place in the file of samples."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asdjax.data.clips import Clip
from asdjax.data.formats.kinds import absent_error
from asdjax.errors import InputError
from asdjax.runtime.files import add_checksum, replace_text, verify_checksum

VERSION = 4
INDEX = "index.json"


@dataclass(frozen=True, slots=True)
class FileState:
    """State of a recording when it was decoded: path as given, size in bytes, time of change in nanoseconds."""

    path: str
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class SampleSpan:
    """Place of a clip in the file of samples: offset and length in samples, SHA-256 of the samples' bytes."""

    offset: int
    samples: int
    sha256: str


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """Contents of a store: the name of its file of samples, the mapped file (int16, (s,)) and the spans in it."""

    name: str
    flat: np.ndarray
    spans: dict[FileState, SampleSpan]

    def samples(self, span: SampleSpan) -> np.ndarray:
        """Return a view of the span's samples: int16, shape (span.samples,)."""
        return self.flat[span.offset : span.offset + span.samples]


def file_state(clip: Clip) -> FileState:
    """Return the present state of a clip's file. Raises InputError if the file cannot be found or read."""
    try:
        stat = clip.path.stat()
    except FileNotFoundError as error:
        raise absent_error(clip.path) from error
    except OSError as error:
        raise InputError(f"{clip.path}: expected a readable file, got {error.strerror}; check the path") from error
    return FileState(str(clip.path), stat.st_size, stat.st_mtime_ns)


def read_index(home: Path, settings: dict[str, Any]) -> StoreIndex:
    """Read the index in the folder `home` and map its samples. The result is empty if there is no index.

    Raises InputError if the store is damaged or if its index disagrees with one of the `settings`.
    """
    path = home / INDEX
    if not path.exists():
        return StoreIndex("", np.empty(0, np.int16), {})
    remedy = f"remove {home}, and run asdjax train or evaluate again to rebuild it"
    try:
        content = verify_checksum(path.read_text())
    except (ValueError, IsADirectoryError) as error:
        got = "a folder" if isinstance(error, OSError) else str(error)
        raise InputError(f"{path}: expected the index of a store, got {got}; {remedy}") from error
    for setting, expected in settings.items():
        if content[setting] != expected:
            raise InputError(
                f"{path}: expected {setting} {expected}, got a store built with {content[setting]}; {remedy}, "
                "or set another config.data.store"
            )
    name = content["samples"]
    spans = {FileState(**row["origin"]): SampleSpan(**row["place"]) for row in content["clips"]}
    expected_bytes = 2 * sum(span.samples for span in spans.values())
    size = (home / name).stat().st_size if (home / name).is_file() else 0
    if size != expected_bytes:
        raise InputError(f"{home / name}: expected {expected_bytes} bytes, got {size}; {remedy}")
    return StoreIndex(name, map_samples(home / name), spans)


def write_index(home: Path, settings: dict[str, Any], name: str, spans: dict[FileState, SampleSpan]) -> None:
    """Write the index in one step, with a checksum: a killed process leaves the old index or the new one."""
    rows = [{"origin": asdict(state), "place": asdict(span)} for state, span in spans.items()]
    replace_text(home / INDEX, json.dumps(add_checksum({**settings, "samples": name, "clips": rows}), indent=0))


def map_samples(path: Path) -> np.ndarray:
    """Map a file of little-endian int16 samples into memory, read-only: shape (s,)."""
    return np.asarray(np.memmap(path, "<i2", mode="r"))
