"""A system's clips as a table for people: it reads back as it was, and a spreadsheet runs nothing of it."""

import csv
from pathlib import Path

import pytest

from asdjax.corpus.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation import clip_table
from asdjax.evaluation.metrics import Judgement, ScoredClip
from asdjax.evaluation.systems import System
from asdjax.evaluation.thresholds import Threshold

NAMES = ("=cmd()|x.wav", "'=1.wav", "''.wav", "+1.wav", "@a,b.wav", "-.wav", 'a"b.wav', "plain.wav", "<script>.wav")
LIMITS = {("fan", None, None): Threshold(0.25, "gamma", 9, 0.1)}


def system() -> System:
    clips = [
        ScoredClip(
            name, "fan", "=00", None if i % 2 else "source", None if i % 3 else "anomaly", 0.1 * i, 0.1 * i > 0.25
        )
        for i, name in enumerate(NAMES)
    ]
    training = {Clip(Path("somewhere") / name, "fan", "=00", "train", "target", "normal"): 0.2 for name in NAMES}
    return System("none", tuple(clips), Judgement(2021, (), None, 0), LIMITS, training, {}, {})


def test_a_table_reads_back_as_it_was(tmp_path: Path):
    written = system()
    clip_table.write(tmp_path / "all.csv", written, "machine")
    rows = clip_table.read(tmp_path / "all.csv")
    assert [row.clip for row in rows if row.split == "test"] == list(written.clips)
    training = [(row.clip.name, row.clip.score, row.threshold) for row in rows if row.split == "train"]
    assert training == [(name, 0.2, 0.25) for name in NAMES]


def test_no_cell_begins_as_a_formula(tmp_path: Path):
    clip_table.write(tmp_path / "all.csv", system(), "machine")
    with (tmp_path / "all.csv").open(newline="") as file:
        for line in csv.reader(file):
            assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("text", ["", "{}", "a,b\n", "\0", ",".join(clip_table.HEADER) + "\ntest,fan\n"])
def test_what_is_no_table_is_refused(text: str, tmp_path: Path):
    (tmp_path / "all.csv").write_text(text)
    with pytest.raises(InputError, match="expected a table of clips"):
        clip_table.read(tmp_path / "all.csv")
