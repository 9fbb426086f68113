"""Text tables: alignment, blocks, shortened labels, fields and notes."""

import pytest

from asdjax.runtime.text_table import format_fields, format_notes, format_table

ROWS = [["system", "fan", "gearbox", "official"], ["all_mean", "75.68", "1.00", "71.75"], ["b", "-", "-", "-"]]


def test_the_first_column_is_aligned_left_and_the_others_right():
    assert format_table(ROWS) == (
        "system      fan  gearbox  official\n"
        "all_mean  75.68     1.00     71.75\n"
        "b             -        -         -"
    )  # fmt: skip
    assert format_table([["a", "b", "c"], ["aa", "bb", "cc"]], left=2, gap=1) == "a  b   c\naa bb cc"


def test_columns_that_do_not_fit_continue_below_with_the_first_column_repeated():
    upper, lower = (block.splitlines() for block in format_table(ROWS, 24).split("\n\n"))
    assert [line.split() for line in upper] == [row[:3] for row in ROWS]
    assert [line.split() for line in lower] == [[row[0], row[3]] for row in ROWS]


@pytest.mark.parametrize("width", range(18, 40))
def test_no_line_is_longer_than_the_width(width: int):
    assert max(map(len, format_table(ROWS, width).splitlines())) <= width


def test_the_last_columns_stay_together_where_they_fit():
    assert format_table(ROWS, 30, together=2).splitlines()[0].split() == ["system", "fan"]
    assert format_table(ROWS, 30).splitlines()[0].split() == ["system", "fan", "gearbox"]
    assert format_table(ROWS, 26, together=2) == format_table(ROWS, 26)  # they need 27


def test_a_long_label_is_shortened_before_columns_go_below():
    rows = [["a machine with a long name", "AUC"], ["00", "50.00"]]
    assert format_table(rows, 20, label=10) == "a machine wi…    AUC\n00             50.00"
    assert format_table(rows, 40, label=10) == format_table(rows, 40)


def test_an_empty_row_is_an_empty_line():
    assert format_table([["a", "b"], [], ["c", "d"]]) == "a  b\n\nc  d"


def test_fields_and_notes_are_wrapped_and_indented():
    assert format_fields([("memory", "one two three"), ("fit", "yes")], 17) == (
        "memory  one two\n        three\nfit     yes"
    )
    assert format_notes(["a note of more words than fit", "short"], 20) == "a note of more words\n  than fit\nshort"
