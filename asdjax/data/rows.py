"""Rows of CSV files in the forms that people and spreadsheets save."""

import codecs
import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from asdjax.data.formats.kinds import ENDINGS
from asdjax.runtime.paths import compose

#: Characters that may separate cells. The first one is taken if several fit.
SEPARATORS = ",;\t"

#: Begin of a first line that only names the separator, as some spreadsheets write it.
_DECLARATION = "sep="


def read_csv(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each line of a CSV file that has content.

    The file may be UTF-8, or UTF-16 with a byte order mark, with any line ends, and commas, semicolons or tabs between
    cells. Cells are in composed form (NFC). Empty cells at the end of a line are dropped.

    Raises OSError, UnicodeDecodeError or csv.Error.
    """
    with path.open("rb") as stream:
        begin = stream.read(2)
    is_utf16 = begin in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
    with path.open(encoding="utf-16" if is_utf16 else "utf-8-sig", newline="") as text:
        separator = _find_separator(text)
        text.seek(0)
        reader = csv.reader(text, strict=True, delimiter=separator)
        for row in reader:
            while row and not row[-1].strip():
                row.pop()
            if row and not (reader.line_num == 1 and _is_declaration(join_cells(row))):
                yield reader.line_num, list(map(compose, row))


def join_cells(cells: list[str]) -> str:
    """Return a row as one text, for messages."""
    return ",".join(cells)


def _is_declaration(line: str) -> bool:
    line = line.strip().lower()
    return line.startswith(_DECLARATION) and len(line) <= len(_DECLARATION) + 1


def _find_separator(text: TextIO) -> str:
    """Return the separator of the first line with several cells. One after a recording's name has priority."""
    for line in text:
        if line.strip().lower().startswith(_DECLARATION) and line.strip()[len(_DECLARATION) :] in (*SEPARATORS, ""):
            return line.rstrip("\r\n")[len(_DECLARATION) :] or SEPARATORS[0]
        several = {}
        for separator in SEPARATORS:
            with suppress(csv.Error):
                cells = next(csv.reader([line], strict=True, delimiter=separator), [])
                if len(cells) > 1:
                    several[separator] = cells[0].strip().lower()
        if several:
            after_name = (separator for separator, first in several.items() if first.endswith(ENDINGS))
            return next(after_name, next(iter(several)))
    return SEPARATORS[0]
