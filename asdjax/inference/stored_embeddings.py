"""Embeddings and raw scores that an evaluation stores on disk, for `score`, `report` and `export`.

`<evaluation>/embeddings/<run>/<line>/` belongs to one checkpoint, and `<evaluation>/statistics/<machine type>/` to the
detectors by log-mel statistics, which stand in the place of variants. Each has two parts: `bank/` for the training
clips and `test/` for the test clips. `clips.json` lists the clips of both parts with the SHA-256 of their samples, the
SHA-256 of every file in the parts, and its own. Each part holds these files:

- `<variant>.npy`: the embeddings of all pieces, (p, 128) float32, or the statistics of each clip;
- `<variant>_scores.npy`: the score of each clip, (n,) float64, NaN without a score;
- `clip.npy`: the number of each piece's clip, (p,).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from asdjax.data.access import RecordedClips
from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.fleet.embed import Embeddings
from asdjax.inference.clip_scores import ClipScores
from asdjax.runtime.files import add_checksum, compute_sha256, replace_text, verify_checksum

FOLDER, STATISTICS = STORED = ("embeddings", "statistics")
_PARTS = ("bank", "test")


class Embedded(NamedTuple):
    """Clips, the SHA-256 of their samples, the embeddings of their pieces, and their scores (n,) by variant."""

    clips: list[Clip]
    digests: list[str]
    pieces: Embeddings
    scores: dict[str, np.ndarray]


class Checkpointed(NamedTuple):
    """The stored data of one checkpoint: training clips and test clips."""

    bank: Embedded
    test: Embedded

    def scores_of(self, variant: str, machine: str) -> ClipScores:
        """Return one model's scores of a machine type's clips."""
        scores = [part.scores[variant] for part in self]
        return _collect_scores(self.bank.clips, self.test.clips, *scores).select_machine(machine)


def save(
    checkpoint: Path,
    recorded: Mapping[str, RecordedClips],
    pieces: Mapping[str, Embeddings],
    scores: Mapping[str, ClipScores],
) -> None:
    """Write embeddings and scores of a checkpoint into a new folder.

    `recorded` and `pieces` are given by part, "bank" and "test", and `scores` by variant.
    """
    for part in _PARTS:
        (checkpoint / part).mkdir(parents=True)
        np.save(checkpoint / part / "clip.npy", pieces[part].clip)
        for variant, vectors in pieces[part].vectors.items():
            known = scores[variant].train if part == "bank" else scores[variant].test
            np.save(checkpoint / part / f"{variant}.npy", vectors)
            clip_scores = [known.get(clip, np.nan) for clip in recorded[part].clips]
            np.save(checkpoint / part / f"{variant}_scores.npy", clip_scores)
    content: dict[str, Any] = {
        part: [
            {**asdict(clip), "path": str(clip.path), "sha256": recording.sha256}
            for clip, recording in zip(*recorded[part], strict=True)
        ]
        for part in _PARTS
    }
    files = sorted(checkpoint.glob("*/*.npy"))
    content["files"] = {str(file.relative_to(checkpoint)): compute_sha256(file) for file in files}
    replace_text(checkpoint / "clips.json", json.dumps(add_checksum(content), indent=0) + "\n")


def load(checkpoint: Path, variants: Sequence[str]) -> Checkpointed:
    """Load the stored data of a checkpoint; its embeddings are memory-mapped.

    Raises InputError if it is missing or damaged.
    """
    try:
        content = _read_content(checkpoint / "clips.json")
        names = [f"{variant}{kind}.npy" for variant in variants for kind in ("", "_scores")]
        _require_unchanged(checkpoint, content["files"], ["clip.npy", *names])
        return Checkpointed(*(_read_part(checkpoint / part, content[part], variants) for part in _PARTS))
    except (FileNotFoundError, ValueError, KeyError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, FileNotFoundError) else error
        raise InputError(
            f"{checkpoint}: expected an evaluation's embeddings ({reason}); run asdjax evaluate again"
        ) from error


def load_scores(checkpoint: Path, variants: Sequence[str]) -> dict[str, ClipScores]:
    """Load the scores of a checkpoint by variant, without the embeddings; raise InputError if they are damaged."""
    try:
        content = _read_content(checkpoint / "clips.json")
        _require_unchanged(checkpoint, content["files"], [f"{variant}_scores.npy" for variant in variants])
        bank, test = ([clip for clip, _ in map(_parse_row, content[part])] for part in _PARTS)
        return {
            variant: _collect_scores(bank, test, *(np.load(checkpoint / p / f"{variant}_scores.npy") for p in _PARTS))
            for variant in variants
        }
    except (FileNotFoundError, ValueError, KeyError) as error:
        raise InputError(f"{checkpoint}: expected scores ({error}); run asdjax evaluate again") from error


def _collect_scores(
    bank: Sequence[Clip], test_clips: Sequence[Clip], bank_scores: np.ndarray, test_scores: np.ndarray
) -> ClipScores:
    train, test = (
        {clip: float(score) for clip, score in zip(clips, scores, strict=True) if np.isfinite(score)}
        for clips, scores in ((bank, bank_scores), (test_clips, test_scores))
    )
    return ClipScores(train, test, tuple(clip for clip in bank if clip not in train))


def _read_content(file: Path) -> dict[str, Any]:
    try:
        return verify_checksum(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _require_unchanged(checkpoint: Path, digests: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise ValueError if one of the named files in a part differs from the one that was written."""
    for file in (f"{part}/{name}" for part in _PARTS for name in names):
        if compute_sha256(checkpoint / file) != digests[file]:
            raise ValueError(f"{file} is not what was written")


def _read_part(folder: Path, rows: Sequence[dict], variants: Sequence[str]) -> Embedded:
    clips, digests = ([*column] for column in zip(*map(_parse_row, rows), strict=True)) if rows else ([], [])
    pieces = Embeddings(
        {variant: np.load(folder / f"{variant}.npy", mmap_mode="r") for variant in variants},
        np.load(folder / "clip.npy"),
    )
    scores = {variant: np.load(folder / f"{variant}_scores.npy") for variant in variants}
    return Embedded(clips, digests, pieces, scores)


def _parse_row(row: dict) -> tuple[Clip, str]:
    """Return the clip in a row, and the SHA-256 of its samples."""
    fields = {name: value for name, value in row.items() if name != "sha256"}
    attributes = tuple((key, value) for key, value in row["attributes"])
    return Clip(**{**fields, "path": Path(row["path"]), "attributes": attributes}), row["sha256"]
