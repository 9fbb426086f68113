"""An evaluation's embeddings and raw scores on disk: what `score`, `report` and `export` go on from.

`<evaluation>/embeddings/<run>/<line>/` is of one checkpoint. `clips.json` lists the clips of its two parts: `bank/`,
the training clips, and `test/`, with the SHA-256 of each one's samples; that of every file in these, and that of the
list. Each part has for every variant `<variant>.npy`, the embeddings of all pieces (p, 128) float32, and
`<variant>_scores.npy`, the score of each clip (n,) float64, NaN where it has none; and `clip.npy` (p,), the number of
each piece's clip.
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
from asdjax.runtime.files import add_checksum, replace_text, sha256_of, verify_checksum

FOLDER = "embeddings"
_PARTS = ("bank", "test")


class Embedded(NamedTuple):
    """Clips, the SHA-256 of each one's samples, the pieces of each as a checkpoint's models embed them, and by variant
    each clip's score (n,)."""

    clips: list[Clip]
    digests: list[str]
    pieces: Embeddings
    scores: dict[str, np.ndarray]


class Checkpointed(NamedTuple):
    """Of one checkpoint: the training clips, and the test clips."""

    bank: Embedded
    test: Embedded

    def scores_of(self, variant: str, machine: str) -> ClipScores:
        """What one model said of a machine type's clips."""
        train, test = (
            {clip: float(s) for clip, s in zip(part.clips, part.scores[variant], strict=True) if np.isfinite(s)}
            for part in self
        )
        unscored = tuple(clip for clip in self.bank.clips if clip not in train)
        return ClipScores(train, test, unscored).of_machine(machine)


def save(
    folder: Path,
    run: str,
    line: str,
    recorded: Mapping[str, RecordedClips],
    pieces: Mapping[str, Embeddings],
    scores: Mapping[str, ClipScores],
) -> None:
    """Write what a checkpoint's models made of clips: `recorded` and `pieces` by part, `scores` by variant."""
    home = folder / run / line
    for part in _PARTS:
        (home / part).mkdir(parents=True)
        np.save(home / part / "clip.npy", pieces[part].clip)
        for variant, vectors in pieces[part].vectors.items():
            of_clips = scores[variant].train if part == "bank" else scores[variant].test
            np.save(home / part / f"{variant}.npy", vectors)
            np.save(
                home / part / f"{variant}_scores.npy", [of_clips.get(clip, np.nan) for clip in recorded[part].clips]
            )
    listed: dict[str, Any] = {
        part: [
            {**asdict(clip), "path": str(clip.path), "sha256": recording.sha256}
            for clip, recording in zip(*recorded[part], strict=True)
        ]
        for part in _PARTS
    }
    listed["files"] = {str(file.relative_to(home)): sha256_of(file) for file in sorted(home.glob("*/*.npy"))}
    replace_text(home / "clips.json", json.dumps(add_checksum(listed), indent=0) + "\n")


def load(evaluation: Path, run: str, line: str, variants: Sequence[str]) -> Checkpointed:
    """What an evaluation has kept of a checkpoint, its embeddings mapped from disk.

    Raises InputError where it is missing or damaged.
    """
    home = evaluation / FOLDER / run / line
    try:
        listed = _listed(home / "clips.json")
        _require_same(home, listed["files"], variants)
        return Checkpointed(*(_part(home / part, listed[part], variants) for part in _PARTS))
    except (FileNotFoundError, ValueError, KeyError) as error:
        reason = f"{error.filename}: {error.strerror}" if isinstance(error, FileNotFoundError) else error
        raise InputError(
            f"{home}: expected an evaluation's embeddings ({reason}); run asdjax evaluate again"
        ) from error


def _listed(file: Path) -> dict[str, Any]:
    try:
        return verify_checksum(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _require_same(home: Path, digests: Mapping[str, str], variants: Sequence[str]) -> None:
    """See that the files that are about to be read are as they were written."""
    names = ["clip.npy", *(f"{variant}{kind}.npy" for variant in variants for kind in ("", "_scores"))]
    for file in (f"{part}/{name}" for part in _PARTS for name in names):
        if sha256_of(home / file) != digests[file]:
            raise ValueError(f"{file} is not what was written")


def _part(folder: Path, rows: Sequence[dict], variants: Sequence[str]) -> Embedded:
    digests = [row["sha256"] for row in rows]
    clips = [_clip({name: value for name, value in row.items() if name != "sha256"}) for row in rows]
    pieces = Embeddings(
        {variant: np.load(folder / f"{variant}.npy", mmap_mode="r") for variant in variants},
        np.load(folder / "clip.npy"),
    )
    scores = {variant: np.load(folder / f"{variant}_scores.npy") for variant in variants}
    return Embedded(clips, digests, pieces, scores)


def _clip(row: dict) -> Clip:
    attributes = tuple((key, value) for key, value in row["attributes"])
    return Clip(**{**row, "path": Path(row["path"]), "attributes": attributes})
