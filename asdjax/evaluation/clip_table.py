"""A system's clips as a table for people, `clips/<system>.csv`: test clips, and the training clips that its thresholds
come from."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

from asdjax.data.clips import Clip, Domain, Label
from asdjax.errors import InputError
from asdjax.evaluation.metrics import ScoredClip
from asdjax.evaluation.systems import System
from asdjax.inference.thresholds import find_threshold
from asdjax.runtime.files import replace_text, sha256_of

HEADER = ("split", "machine", "section", "domain", "label", "clip", "score", "threshold", "decision")
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""
_APOSTROPHE = "'"


class ClipRow(NamedTuple):
    """A line: the clip with its score and decision, of which split it is, and the threshold that decided."""

    split: str
    clip: ScoredClip
    threshold: float


def write(path: Path, system: System, per: str) -> None:
    """Write every clip's score, the threshold that decides it, and the decision (1: anomalous).

    `per` is `config.evaluate.threshold_per`. Text that a spreadsheet would run gets an apostrophe in front.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(HEADER)
    rows.writerows(_rows(system, per))
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, text.getvalue())


def _rows(system: System, per: str) -> Iterator[list[str]]:
    for clip in system.clips:
        yield _row("test", clip, clip.score, system, per)
    for clip, score in system.training.items():
        yield _row("train", clip, score, system, per)


def _row(split: str, clip: Clip | ScoredClip, score: float, system: System, per: str) -> list[str]:
    limit = find_threshold(clip, system.thresholds, per).value
    told = map(harmless, (clip.machine, clip.section, clip.domain or "", clip.label or "", clip.name))
    return [split, *told, repr(score), repr(limit), str(int(score > limit))]


def harmless(text: str) -> str:
    """The text, with an apostrophe in front where a spreadsheet would take it for a formula, or where it has one."""
    return f"{_APOSTROPHE}{text}" if text.startswith((*_FORMULA, _APOSTROPHE)) else text


def read(path: Path, sha256: str) -> list[ClipRow]:
    """The lines of a table as they were before they were written, names and all.

    Raises InputError where it is missing or is not the one that was written.
    """
    try:
        if sha256_of(path) != sha256:
            raise ValueError("not what was written")
        with path.open(encoding="utf-8", newline="") as file:
            header, *lines = csv.reader(file)
        if tuple(header) != HEADER:
            raise ValueError(f"expected the header {','.join(HEADER)}")
        return [_parsed(line) for line in lines]
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(f"{path}: expected a table of clips ({reason}); run asdjax evaluate again") from error


def _parsed(line: Sequence[str]) -> ClipRow:
    split, *told, score, threshold, decision = line
    machine, section, domain, label, name = (text.removeprefix(_APOSTROPHE) for text in told)
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
