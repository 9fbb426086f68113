"""The challenge's CSV files: how they and the clips that they name are called in every year, and how they are read.

Headerless rows `clip name,value`, one file per place: machine type and section, in 2021 also domain.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, cast

from asdjax.corpus.clips import Domain, Label, Layout
from asdjax.corpus.names import Attributes, split_attributes
from asdjax.errors import InputError

Rules = Literal[2020, 2021, 2022]

YEARS = range(2020, 2027)

YEAR_OF_LAYOUT: dict[Layout, int] = {"dcase2020": 2020, "dcase2021": 2021, "dcase2022": 2022, "manifest": 2021}
"""The challenge whose rules judge a layout: from 2022 on they are the same, one's own recordings are judged as 2021."""
_PLACES = {
    2020: "{machine}_id_{section}",
    2021: "{machine}_section_{section}_{domain}_test",
    2022: "{machine}_section_{section}_test",
}
_SECTION, _DOMAIN, _LABEL = "(?P<section>[^_]+)", "(?P<domain>source|target)", "(?P<label>normal|anomaly)"
_CLIP_PATTERNS = {
    2020: re.compile(rf"({_LABEL}_)?id_{_SECTION}_\d+\.wav", re.I),
    2021: re.compile(rf"section_{_SECTION}_{_DOMAIN}_test(_{_LABEL})?_\d+(_(?P<tail>.+))?\.wav", re.I),
    2022: re.compile(rf"section_{_SECTION}(_{_DOMAIN}_test_{_LABEL}|_test)?_\d+(_(?P<tail>.+))?\.wav", re.I),
}


class Place(NamedTuple):
    """What a file holds; `domain` is "source" in 2020, None where a file holds both (2022 on)."""

    machine: str
    section: str
    domain: Domain | None


class Facts(NamedTuple):
    """What a name or the truth tells of a clip."""

    section: str | None = None
    label: Label | None = None
    domain: Domain | None = None
    attributes: Attributes | None = None


class Kind[T](NamedTuple):
    """How a kind of file is named, and how its values are read (`parse` raises KeyError or ValueError)."""

    prefix: str
    parse: Callable[[str], T]
    expected: str


class Table[T](NamedTuple):
    """A file's values by clip name, in the order of names; each one's row number and text for errors."""

    path: Path
    values: dict[str, T]
    rows: dict[str, tuple[int, str]]

    def error(self, name: str, expected: str) -> InputError:
        return row_error(self.path, *self.rows[name], expected)


type Tables[T] = dict[Place, Table[T]]


def rules_of(year: int) -> Rules:
    """The year whose rules and file names `year` follows: 2020, 2021, or 2022 for all later ones.

    Raises InputError for a year without a known challenge.
    """
    if year not in YEARS:
        raise InputError(f"year: expected {YEARS[0]} to {YEARS[-1]}, got {year}; give the year of the challenge")
    return 2020 if year == 2020 else 2021 if year == 2021 else 2022


def finite(text: str) -> float:
    """A number as the challenge writes it; raises ValueError for anything else."""
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def code[T](zero: T, one: T) -> Callable[[str], T]:
    """What reads 0 as `zero` and 1 as `one`; it raises KeyError or ValueError for anything else."""
    return lambda text: {0.0: zero, 1.0: one}[finite(text)]


def facts_of(name: str, year: int) -> Facts:
    """What a clip's name tells in a year; raises ValueError for a name that is none of that year's."""
    match = _CLIP_PATTERNS[rules_of(year)].fullmatch(name)
    if match is None:
        raise ValueError(name)
    told = {
        field: value and (value if field == "tail" else value.lower()) for field, value in match.groupdict().items()
    }
    return Facts(
        told["section"],
        cast(Label | None, told["label"]),
        cast(Domain | None, told.get("domain")),
        split_attributes(told.get("tail") or "") if told["label"] else None,
    )


def read_tables[T](folder: Path, kind: Kind[T], year: int) -> Tables[T]:
    """Every file of a kind in a folder; raises InputError, naming file, row number and content."""
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of {kind.prefix} files, got no folder; check the path")
    return {_place(path, kind.prefix, year): _table(path, kind) for path in sorted(folder.glob(f"{kind.prefix}_*.csv"))}


def _place(path: Path, prefix: str, year: int) -> Place:
    places = {rules: parse_file_name(path.name, prefix, rules) for rules in _PLACES}
    place = places[rules_of(year)]
    if place is None:
        came = next((f"one of {rules}" for rules in places if places[rules]), "another name")
        raise InputError(f"{path}: expected a file {template(prefix, year)}, got {came}; check --year")
    return place


def parse_file_name(file: str, prefix: str, year: int) -> Place | None:
    """The place that a file's name tells of, None for a name that is none of that prefix and year."""
    pattern = template(prefix, year).format(machine="(?P<machine>.+)", section=_SECTION, domain=_DOMAIN)
    match = re.fullmatch(pattern, file)
    return place_of(year, **match.groupdict()) if match else None


def place_of(year: int, machine: str, section: str, domain: str | None = None) -> Place:
    """The place of a clip."""
    named = {2020: "source", 2021: domain, 2022: None}[rules_of(year)]
    return Place(machine, section, cast(Domain | None, named))


def template(prefix: str, year: int) -> str:
    """How files are called, with {machine} and so on left open."""
    return f"{prefix}_{_PLACES[rules_of(year)]}.csv"


def file_name(prefix: str, place: Place, year: int) -> str:
    """The name of a place's file."""
    return template(prefix, year).format(**place._asdict())


def _table[T](path: Path, kind: Kind[T]) -> Table[T]:
    values: dict[str, T] = {}
    rows: dict[str, tuple[int, str]] = {}
    for number, fields in read_rows(path):
        text = ",".join(fields)
        try:
            name, value = fields
            parsed = kind.parse(value)
        except (KeyError, ValueError):
            header = " and no header line" if number == 1 and ".wav" not in text else ""
            raise row_error(path, number, text, kind.expected + header) from None
        if name in rows:
            raise row_error(path, number, text, f"each clip once (row {rows[name][0]} has it)")
        values[name], rows[name] = parsed, (number, text)
    if not rows:
        raise InputError(f"{path}: expected rows {kind.expected}, got an empty file; fill or remove it")
    return Table(path, dict(sorted(values.items())), rows)


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Row number and fields of each line that is not empty."""
    try:
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        yield from ((reader.line_num, fields) for fields in reader if fields)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected rows name,value in UTF-8, got {error}; write it anew") from error


def row_error(path: Path, number: int, text: str, expected: str) -> InputError:
    """The error of one row."""
    return InputError(f"{path}, row {number}: expected {expected}, got {text!r}; mend or remove this row")
