"""Rows of CSV files, as people and spreadsheets save them."""

import codecs
import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from asdjax.data.formats.kinds import ENDINGS
from asdjax.runtime.paths import composed

SEPARATORS = ",;\t"
"""What may lie between cells; the first of them where several would do."""

_DECLARED = "sep="
"""What begins a spreadsheet's first line that only names the separator."""


def csv_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each line of a CSV file that has content.

    Takes UTF-8 and, where a byte-order mark says so, UTF-16; any line ends; commas, semicolons or tabs between cells.
    Cells come composed (NFC), and empty ones at the end of a line are left out. Raises OSError, UnicodeDecodeError and
    csv.Error.
    """
    with path.open("rb") as stream:
        begin = stream.read(2)
    wide = begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with path.open(encoding="utf-16" if wide else "utf-8-sig", newline="") as text:
        separator = _separator(text)
        text.seek(0)
        reader = csv.reader(text, strict=True, delimiter=separator)
        for row in reader:
            while row and not row[-1].strip():
                row.pop()
            if row and not (reader.line_num == 1 and _is_declaration(decode_text(row))):
                yield reader.line_num, list(map(composed, row))


def decode_text(cells: list[str]) -> str:
    """Return a row in one piece, to show it."""
    return ",".join(cells)


def _is_declaration(line: str) -> bool:
    line = line.strip().lower()
    return line.startswith(_DECLARED) and len(line) <= len(_DECLARED) + 1


def _separator(text: TextIO) -> str:
    """Find the separator by the first line that has several cells: one behind a recording's name, else the first."""
    for line in text:
        if line.strip().lower().startswith(_DECLARED) and line.strip()[len(_DECLARED) :] in (*SEPARATORS, ""):
            return line.rstrip("\r\n")[len(_DECLARED) :] or SEPARATORS[0]
        several = {}
        for separator in SEPARATORS:
            with suppress(csv.Error):
                cells = next(csv.reader([line], strict=True, delimiter=separator), [])
                if len(cells) > 1:
                    several[separator] = cells[0].strip().lower()
        if several:
            named = (separator for separator, first in several.items() if first.endswith(ENDINGS))
            return next(named, next(iter(several)))
    return SEPARATORS[0]
