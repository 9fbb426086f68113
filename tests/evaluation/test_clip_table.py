"""Clip tables: rows by hand, decisions, thresholds, and text that a spreadsheet would take for a formula."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.evaluation import clip_table
from asdjax.evaluation.metrics import compute_metrics
from asdjax.evaluation.systems import System
from asdjax.inference.scored_clip import ScoredClip
from asdjax.inference.thresholds import Group, Threshold
from asdjax.runtime.files import compute_sha256

PLAIN = ScoredClip("section_00_source_test_normal_0000.wav", "fan", "00", "source", "normal", 0.5, False)


def limits(**values: float) -> dict[Group, Threshold]:
    """Make thresholds named `machine`, `machine_section` or `machine_section_domain`."""
    groups: dict[Group, Threshold] = {}
    for name, value in values.items():
        machine, section, domain = [*name.split("_"), None, None][:3]
        groups[(str(machine), section, domain)] = Threshold(value, "gamma", 7, 0.1)
    return groups


def system(clips: list[ScoredClip], thresholds: dict[Group, Threshold], training: dict[Clip, float]) -> System:
    return System(
        selection="none",
        clips=tuple(clips),
        metrics=compute_metrics(2021, [PLAIN]),
        thresholds=thresholds,
        training=training,
        unscored={},
        members={"fan": ("a",)},
        baselines=(),
    )


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file, strict=True))


def written(folder: Path, table: System, per: str = "machine") -> list[dict[str, str]]:
    path = folder / "clips" / "all_mean.csv"
    clip_table.write(path, table, per)
    return read(path)


def test_a_row_for_each_test_clip_then_each_training_clip(tmp_path: Path):
    unknown = ScoredClip("section_03_test_0001.wav", "fan", "03", None, None, 2.0, True)
    trained = Clip(Path("fan/train/section_00_source_train_normal_0007.wav"), "fan", "00", "train", "source", "normal")
    rows = written(tmp_path, system([PLAIN, unknown], limits(fan=1.25), {trained: 1.5}))
    columns = ["split", "machine", "section", "domain", "label", "clip", "score", "threshold", "decision"]
    assert [list(row) for row in rows] == [columns] * 3
    assert [list(row.values()) for row in rows] == [
        ["test", "fan", "00", "source", "normal", "section_00_source_test_normal_0000.wav", "0.5", "1.25", "0"],
        ["test", "fan", "03", "", "", "section_03_test_0001.wav", "2.0", "1.25", "1"],
        ["train", "fan", "00", "source", "normal", "section_00_source_train_normal_0007.wav", "1.5", "1.25", "1"],
    ]


@pytest.mark.parametrize(
    ("score", "limit", "decision"),
    [
        (0.3, 0.3, "0"),
        (np.nextafter(0.3, 1), 0.3, "1"),
        (np.nextafter(0.3, 0), 0.3, "0"),
        (-1.0, -2.0, "1"),
        (1e-300, 0.0, "1"),
    ],
)
def test_a_decision_is_strictly_greater_and_can_be_made_again_from_the_row(
    tmp_path: Path, score: float, limit: float, decision: str
):
    trained = Clip(Path("a.wav"), "fan", "00", "train", "source", "normal")
    clip = replace(PLAIN, score=float(score))
    for row in written(tmp_path, system([clip], limits(fan=limit), {trained: float(score)})):
        assert row["decision"] == decision
        assert (float(row["score"]), float(row["threshold"])) == (score, limit)  # no digit is lost
        assert int(float(row["score"]) > float(row["threshold"])) == int(decision)


@pytest.mark.parametrize(
    ("per", "thresholds", "expected"),
    [
        ("machine", limits(fan=1, pump=2), [1, 1, 1, 2, 1]),
        ("section", limits(fan_00=1, fan_01=2, pump_00=3), [1, 1, 2, 3, 2]),
        (
            "section_domain",
            limits(fan_00_source=1, fan_00_target=2, fan_01_source=3, fan_01_target=4, pump_00_source=5),
            [1, 2, 3, 5, 4],
        ),
    ],
)
def test_the_threshold_is_that_of_the_clips_group(
    tmp_path: Path, per: str, thresholds: dict[Group, Threshold], expected: list[float]
):
    clips = [
        PLAIN,
        replace(PLAIN, domain="target"),
        replace(PLAIN, section="01"),
        replace(PLAIN, machine="pump"),
    ]
    trained = Clip(Path("a.wav"), "fan", "01", "train", "target", "normal")
    rows = written(tmp_path, system(clips, thresholds, {trained: 0.0}), per)
    assert [float(row["threshold"]) for row in rows] == expected


DANGEROUS = ["=cmd()", "=1+1", "+1", "-x", "@y", "\tx", '=HYPERLINK("x","y")', "-2+3", "==", "="]


@pytest.mark.parametrize("text", DANGEROUS)
def test_text_that_a_spreadsheet_would_run_is_made_harmless(tmp_path: Path, text: str):
    assert clip_table.escape(text) == f"'{text}"
    clip = replace(PLAIN, name=text, machine=text, section=text)
    trained = Clip(Path(text), text, text, "train", "source", "normal")
    for row in written(tmp_path, system([clip], {(text, None, None): Threshold(1.0, "gamma", 1, 0.0)}, {trained: 0.0})):
        assert (row["clip"], row["machine"], row["section"]) == (f"'{text}",) * 3


def test_a_carriage_return_begins_a_formula_too():
    assert clip_table.escape("\rx") == "'\rx"
    for sign in "＝＋－＠":  # full-width signs, which some spreadsheets treat like ASCII ones
        assert clip_table.escape(f"{sign}cmd()") == f"'{sign}cmd()"


@pytest.mark.parametrize("text", ["a=b", "1-2", "section_00.wav", " =x", "ü", "", "x+1@y"])
def test_other_text_stays_as_it_is(text: str):
    assert clip_table.escape(text) == text


@pytest.mark.parametrize("name", ['a "b" c.wav', "a,b.wav", '"', "a;b.wav", "ü,\u200b.wav", "a\tb.wav", " a ", "a'b"])
def test_any_name_comes_back_from_the_csv(tmp_path: Path, name: str):
    clips = [replace(PLAIN, name=name), PLAIN]
    rows = written(tmp_path, system(clips, limits(fan=1.0), {}))
    assert [row["clip"] for row in rows] == [name, PLAIN.name]
    assert all(None not in row and None not in row.values() for row in rows)


def test_negative_numbers_stay_numbers(tmp_path: Path):
    row = written(tmp_path, system([replace(PLAIN, score=-1.5e-7)], limits(fan=-math.pi), {}))[0]
    assert (row["score"], row["threshold"]) == ("-1.5e-07", repr(-math.pi))


NAMES = ("=cmd()|x.wav", "'=1.wav", "''.wav", "+1.wav", "@a,b.wav", "-.wav", 'a"b.wav', "plain.wav", "<script>.wav")
LIMITS = {("fan", None, None): Threshold(0.25, "gamma", 9, 0.1)}


def hostile() -> System:
    clips = [
        ScoredClip(
            name, "fan", "=00", None if i % 2 else "source", None if i % 3 else "anomaly", 0.1 * i, 0.1 * i > 0.25
        )
        for i, name in enumerate(NAMES)
    ]
    training = {Clip(Path("somewhere") / name, "fan", "=00", "train", "target", "normal"): 0.2 for name in NAMES}
    return replace(system([], LIMITS, training), clips=tuple(clips))


def test_a_table_reads_back_as_it_was(tmp_path: Path):
    expected = hostile()
    clip_table.write(tmp_path / "all.csv", expected, "machine")
    rows = clip_table.read(tmp_path / "all.csv", compute_sha256(tmp_path / "all.csv"))
    assert [row.clip for row in rows if row.split == "test"] == list(expected.clips)
    training = [(row.clip.name, row.clip.score, row.threshold) for row in rows if row.split == "train"]
    assert training == [(name, 0.2, 0.25) for name in NAMES]


def test_no_cell_begins_as_a_formula(tmp_path: Path):
    clip_table.write(tmp_path / "all.csv", hostile(), "machine")
    with (tmp_path / "all.csv").open(newline="") as file:
        for line in csv.reader(file):
            assert not [cell for cell in line if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


@pytest.mark.parametrize("text", ["", "{}", "a,b\n", "\0", ",".join(clip_table.HEADER) + "\ntest,fan\n"])
def test_what_is_no_table_is_refused(text: str, tmp_path: Path):
    (tmp_path / "all.csv").write_text(text)
    with pytest.raises(InputError, match="expected a table of clips"):
        clip_table.read(tmp_path / "all.csv", compute_sha256(tmp_path / "all.csv"))


def test_a_table_with_a_line_missing_is_refused(tmp_path: Path):
    clip_table.write(tmp_path / "all.csv", hostile(), "machine")
    written = compute_sha256(tmp_path / "all.csv")
    (tmp_path / "all.csv").write_text("".join((tmp_path / "all.csv").read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(InputError, match="not what was written"):
        clip_table.read(tmp_path / "all.csv", written)
