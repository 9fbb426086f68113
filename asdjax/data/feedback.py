"""Recordings that a person judged while the machine was in service: normal ones, and faults with a name.

W/feedback/journal.jsonl has a line for each judgement, and W/feedback/<number>/ its recordings, as WAV at the models'
rate. Nothing is removed from either: a judgement that was undone is followed by a line that says so.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import soundfile

from asdjax.data.access import RecordedClips, Recording
from asdjax.data.clips import Clip, Domain
from asdjax.errors import InputError
from asdjax.runtime.files import add_checksum, locked_folder, replace_text, verify_checksum

FOLDER = "feedback"
_JOURNAL = "journal.jsonl"

#: "accept": the recordings are normal. "label": they are of a fault that has a name.
Action = Literal["accept", "label"]


class JudgedClip(NamedTuple):
    """A recording in the folder of its judgement, and the SHA-256 of its samples."""

    name: str
    sha256: str


class Judgement(NamedTuple):
    """What a person said of recordings of a section; `fault` names the fault that was heard, if any."""

    number: int
    time: str
    action: Action
    machine: str
    section: str
    domain: Domain | None
    fault: str
    clips: tuple[JudgedClip, ...]


def read_judgements(
    workdir: Path, action: Action, machine: str | None = None, *, undone: bool = False
) -> list[Judgement]:
    """Return the judgements of a kind that are in force, of one machine type or all, in their order.

    With `undone` those that were undone are returned, too. Raises InputError if the journal is damaged.
    """
    rows = _read_rows(workdir)
    known = _parse(rows) if undone else _select_in_force(rows)
    return [one for one in known if one.action == action and machine in (None, one.machine)]


def read_clips(workdir: Path, judgements: Sequence[Judgement]) -> RecordedClips:
    """Return the recordings of judgements as training clips. Raises InputError if one is missing or damaged."""
    pairs = [
        (_make_clip(workdir, judgement, clip), Recording(_read_samples(workdir, judgement, clip), clip.sha256))
        for judgement in judgements
        for clip in judgement.clips
    ]
    return RecordedClips([clip for clip, _ in pairs], [recording for _, recording in pairs])


def add_judgement(
    workdir: Path, judgement: Judgement, samples: Mapping[str, np.ndarray], sample_rate_hz: int
) -> Judgement:
    """Add a judgement, of recordings int16 (s,) by name, and return it with its number, time and clips.

    Raises InputError if the disk is full or cannot be written.
    """
    with locked_folder(workdir / FOLDER) as folder:
        rows = _read_rows(workdir)
        _require_unknown(rows, judgement, samples)
        number = _find_next_number(folder, rows)
        partial = folder / f"{number}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # left from a kill
        partial.mkdir()
        clips = []
        for name, of_clip in samples.items():
            soundfile.write(partial / name, of_clip, sample_rate_hz, subtype="PCM_16", format="WAV")
            clips.append(JudgedClip(name, compute_digest(of_clip)))
        partial.rename(folder / str(number))
        added = judgement._replace(number=number, time=_now(), clips=tuple(clips))
        _write_rows(folder, [*rows, added._asdict()])
    return added


def undo(workdir: Path, action: Action) -> Judgement:
    """Undo the newest judgement of a kind that is in force, and return it. Raises InputError if there is none."""
    if not (workdir / FOLDER / _JOURNAL).exists():
        raise _nothing_error(workdir, action)
    with locked_folder(workdir / FOLDER) as folder:
        rows = _read_rows(workdir)
        known = [one for one in _select_in_force(rows) if one.action == action]
        if not known:
            raise _nothing_error(workdir, action)
        undone = {
            "number": _find_next_number(folder, rows),
            "time": _now(),
            "action": "undo",
            "undone": known[-1].number,
        }
        _write_rows(folder, [*rows, undone])
    return known[-1]


def _find_next_number(folder: Path, rows: Sequence[Mapping[str, Any]]) -> int:
    """Return a number above all in the journal, and above all folders, of which a kill may leave one without a line."""
    folders = [int(path.name) for path in folder.iterdir() if path.name.isdigit()]
    return 1 + max([0, *folders, *(row["number"] for row in rows)])


def _require_unknown(
    rows: Sequence[Mapping[str, Any]], judgement: Judgement, samples: Mapping[str, np.ndarray]
) -> None:
    """Raise InputError for a clip that another process has added since the caller looked."""
    digests = {
        clip.sha256
        for one in _select_in_force(rows)
        if (one.action, one.machine) == (judgement.action, judgement.machine)
        for clip in one.clips
    }
    for name, of_clip in samples.items():
        if compute_digest(of_clip) in digests:
            raise InputError(
                f"{name}: expected a clip that is in no bank yet, got one that was just added; leave it out"
            )


def compute_digest(samples: np.ndarray) -> str:
    """Return the SHA-256 of samples int16 (s,), as the store has it."""
    return hashlib.sha256(np.ascontiguousarray(samples)).hexdigest()


def name_files(paths: Sequence[str]) -> list[str]:
    """Return a name ending in .wav for each recording, of which no two are equal."""
    names: list[str] = []
    for path in paths:
        stem = Path(path).stem.encode("utf-8", "replace").decode() or "clip"
        name, further = f"{stem}.wav", 2
        while name in names:
            name, further = f"{stem}-{further}.wav", further + 1
        names.append(name)
    return names


def _nothing_error(workdir: Path, action: Action) -> InputError:
    return InputError(f"{workdir / FOLDER}: expected something to undo, got no {action} that is in force; leave it out")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _make_clip(workdir: Path, judgement: Judgement, clip: JudgedClip) -> Clip:
    path = workdir / FOLDER / str(judgement.number) / clip.name
    return Clip(path, judgement.machine, judgement.section, "train", judgement.domain, "normal")


def _read_samples(workdir: Path, judgement: Judgement, clip: JudgedClip) -> np.ndarray:
    path = workdir / FOLDER / str(judgement.number) / clip.name
    try:
        samples, _ = soundfile.read(path, dtype="int16")
    except (OSError, soundfile.SoundFileError) as error:
        raise InputError(
            f"{path}: expected a recording of judgement {judgement.number}, got none ({error}); undo it"
        ) from error
    if compute_digest(samples) != clip.sha256:
        raise InputError(f"{path}: expected the samples of judgement {judgement.number}, got others; undo it")
    return samples


def _read_rows(workdir: Path) -> list[dict[str, Any]]:
    file = workdir / FOLDER / _JOURNAL
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(verify_checksum(line))
        except ValueError as error:
            raise InputError(
                f"{file} line {number}: expected a judgement, got one that is {error}; restore the file, or remove "
                f"{file.parent} to forget all that was accepted and labelled"
            ) from error
    return rows


def _write_rows(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the whole journal, so that a kill leaves the old one or the new one."""
    text = "".join(json.dumps(add_checksum(row)) + "\n" for row in rows)
    replace_text(folder / _JOURNAL, text)


def _select_in_force(rows: Sequence[Mapping[str, Any]]) -> list[Judgement]:
    undone = {row["undone"] for row in rows if row["action"] == "undo"}
    return [one for one in _parse(rows) if one.number not in undone]


def _parse(rows: Sequence[Mapping[str, Any]]) -> list[Judgement]:
    return [
        Judgement(**{**row, "clips": tuple(JudgedClip(*clip) for clip in row["clips"])})
        for row in rows
        if row["action"] != "undo"
    ]
