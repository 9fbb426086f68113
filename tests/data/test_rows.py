"""CSV files in the forms that spreadsheets and people save."""

import csv
from pathlib import Path

import pytest

from asdjax.data.layouts import read_corpus, scan
from asdjax.data.rows import read_csv
from asdjax.evaluation.submission import read

PLAIN = (
    "path,machine,section,domain,split,label,attributes\na.wav,pump,1,,train,,\nb.wav,pump,2,target,test,anomaly,x=1\n"
)


def as_saved(text: str, separator: str) -> str:
    rows = csv.reader(text.splitlines())
    return "".join(separator.join(row) + "\n" for row in rows)


SAVED = {
    "last commas left out": PLAIN.replace(",,train,,", ",,train").encode(),
    "commas behind": PLAIN.replace("\n", ",,\n").encode(),
    "byte-order mark, CRLF, blank lines": ("\ufeff" + PLAIN.replace("\n", "\r\n\r\n,,,,,,\r\n")).encode(),
    "line ends of an old Mac": PLAIN.replace("\n", "\r").encode(),
    "semicolons": as_saved(PLAIN, ";").encode(),
    "semicolons, declared": b"sep=;\r\n" + as_saved(PLAIN, ";").encode(),
    "commas, declared": b"sep=,\n" + PLAIN.encode(),
    "tabs": as_saved(PLAIN, "\t").encode(),
    "tabs in UTF-16": as_saved(PLAIN, "\t").encode("utf-16"),
    "header in other case, with spaces": PLAIN.replace("path,machine,", " Path , MACHINE, ").encode(),
    "words in other case": PLAIN.replace("train", "Train").replace("anomaly", "ANOMALY").encode(),
    "quotes": PLAIN.replace("a.wav", '"a.wav"').replace("pump", '"pump"').encode(),
    "no end of line at the end": PLAIN.rstrip().encode(),
}


@pytest.mark.parametrize("form", SAVED)
def test_a_manifest_reads_the_same_however_it_was_saved(tmp_path: Path, form: str):
    (tmp_path / "manifest.csv").write_text(PLAIN)
    plain = read_corpus([tmp_path])
    (tmp_path / "manifest.csv").write_bytes(SAVED[form])
    assert read_corpus([tmp_path]) == plain


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("c.wav,pump,3,,train,,,loud", "expected 7 cells, got 8"),
        ("c.wav,pump,3", "expected 7 cells, got 3"),
        ("c.wav,pump,3,train,train", "domain: expected empty or source or target, got 'train'"),
        ("c.wav,pump,3,,train,normal,a=1,b=2", "expected 7 cells, got 8"),
    ],
)
def test_a_row_that_could_mean_several_things_is_named(tmp_path: Path, row: str, why: str):
    (tmp_path / "manifest.csv").write_text(PLAIN + row)
    ((where, reason, _),) = scan([tmp_path]).unparsed
    assert where.endswith("manifest.csv line 4")
    assert why in reason


@pytest.mark.parametrize("saved", ["n1.wav;0.5\nn2.wav;1\n", "n1.wav\t0.5\nn2.wav\t1\n", "n1.wav,0.5,\nn2.wav,1,,\n"])
def test_score_files_and_truth_of_a_spreadsheet_are_read(tmp_path: Path, saved: str):
    for folder, prefix, text in (("s", "anomaly_score", saved), ("t", "ground_truth", saved.replace("0.5", "0"))):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{prefix}_fan_section_00_source_test.csv").write_text(text)
    clips = read(tmp_path / "s", 2021, tmp_path / "t")
    assert [(clip.name, clip.score, clip.label) for clip in clips] == [
        ("n1.wav", 0.5, "normal"),
        ("n2.wav", 1.0, "anomaly"),
    ]


def test_a_decimal_comma_is_not_taken_for_a_cell(tmp_path: Path):
    for name in ("a.wav", "a.flac"):
        (tmp_path / "a.csv").write_text(f"{name};0,5\n")
        assert list(read_csv(tmp_path / "a.csv")) == [(1, [name, "0,5"])]
