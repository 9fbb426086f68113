"""A system's clips as a table for people, `clips/<system>.csv`: test clips, and the training clips that its thresholds
come from."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from asdjax.corpus.clips import Clip
from asdjax.evaluation.metrics import ScoredClip
from asdjax.evaluation.systems import System
from asdjax.evaluation.thresholds import GROUPS
from asdjax.files import replace_text

HEADER = ("split", "machine", "section", "domain", "label", "clip", "score", "threshold", "decision")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


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
    limit = system.thresholds[GROUPS[per](clip)].value
    told = map(harmless, (clip.machine, clip.section, clip.domain or "", clip.label or "", clip.name))
    return [split, *told, repr(score), repr(limit), str(int(score > limit))]


def harmless(text: str) -> str:
    """The text, with an apostrophe in front where a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text
