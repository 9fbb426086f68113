"""Clip tables, `clips/<system>.csv`: scores of a system's test clips and of the training clips of its thresholds."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from asdjax.data.clips import Clip, Domain, Label
from asdjax.errors import InputError
from asdjax.evaluation.systems import System
from asdjax.inference.scored_clip import ScoredClip
from asdjax.inference.thresholds import find_threshold
from asdjax.runtime.files import compute_sha256, replace_text

HEADER = ("split", "machine", "section", "domain", "label", "clip", "score", "threshold", "decision")
# First characters of text that a spreadsheet takes for a formula.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")
_APOSTROPHE = "'"


class ClipRow(NamedTuple):
    """A row: the split, the clip with its score and decision, and the threshold for it."""

    split: str
    clip: ScoredClip
    threshold: float


def write(path: Path, system: System, per: str) -> None:
    """Write the score, threshold and decision (1: anomaly) of every clip of a system.

    `per` is `config.evaluate.threshold_per`. Text that a spreadsheet would take for a formula gets an apostrophe.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    rows.writerows(_format_rows(system, per))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text.getvalue())


def _format_rows(system: System, per: str) -> Iterator[list[str]]:
    for clip in system.clips:
        yield _format_row("test", clip, clip.score, system, per)
    for clip, score in system.training.items():
        yield _format_row("train", clip, score, system, per)


def _format_row(split: str, clip: Clip | ScoredClip, score: float, system: System, per: str) -> list[str]:
    threshold = find_threshold(clip, system.thresholds, per).value
    texts = map(escape, (clip.machine, clip.section, clip.domain or "", clip.label or "", clip.name))
    return [split, *texts, repr(score), repr(threshold), str(int(score > threshold))]


def escape(text: str) -> str:
    """Prefix an apostrophe if a spreadsheet would take the text for a formula, or if it begins with an apostrophe."""
    return f"{_APOSTROPHE}{text}" if text.startswith((*_FORMULA, _APOSTROPHE)) else text


def read(path: Path, sha256: str) -> list[ClipRow]:
    """Read the rows of a table, with names as they were before `escape`.

    Raises InputError if the file is missing or its SHA-256 is another.
    """
    try:
        if compute_sha256(path) != sha256:
            raise ValueError("not what was written")
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        if tuple(header) != HEADER:
            raise ValueError(f"expected the header {','.join(HEADER)}, got {','.join(header)}")
        return [_parse_row(line) for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: expected a table of clips ({reason}); run asdjax evaluate again") from error


def _parse_row(line: Sequence[str]) -> ClipRow:
    split, *texts, score, threshold, decision = line
    machine, section, domain, label, name = (text.removeprefix(_APOSTROPHE) for text in texts)
    clip = ScoredClip(
        name,
        machine,
        section,
        cast("Domain | None", domain or None),
        cast("Label | None", label or None),
        float(score),
        decision == "1",
    )
    return ClipRow(split, clip, float(threshold))
