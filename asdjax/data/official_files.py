"""The challenge's CSV files: how they and the clips that they name are called in every year, and how they are read.

Headerless rows `clip name,value`, one file per place: machine type and section, in 2021 also domain.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, cast

from asdjax.data.clips import Domain, Label, Layout
from asdjax.data.formats.kinds import ENDINGS
from asdjax.data.names import Attributes, as_wav, has_id_form, has_section_form, read_name
from asdjax.data.rows import csv_rows, decode_text
from asdjax.errors import InputError
from asdjax.runtime.paths import composed

Rules = Literal[2020, 2021, 2022]

YEARS = range(2020, 2027)

YEAR_OF_LAYOUT: dict[Layout, int] = {"dcase2020": 2020, "dcase2021": 2021, "dcase2022": 2022, "manifest": 2021}
"""The challenge whose rules judge a layout: from 2022 on they are the same, one's own recordings are judged as 2021."""
_LAYOUT_OF_RULES: dict[int, Layout] = {2020: "dcase2020", 2021: "dcase2021", 2022: "dcase2022"}
_PLACES = {
    2020: "{machine}_id_{section}",
    2021: "{machine}_section_{section}_{domain}_test",
    2022: "{machine}_section_{section}_test",
}
_SECTION, _DOMAIN = "(?P<section>[^_]+)", "(?P<domain>source|target)"
# what the organisers' baseline of 2023 and later adds: the data set before the machine type, and behind the place a
# seed, a tag such as _id(0_), and _Eval
_BASELINE = re.compile(
    r"(?:DCASE(?P<year>20\d\d)T2)?(?P<place>.+_(?:section|id)_[^_]+(?:_source|_target)?(?:_test)?)(?:_seed\d+(?:_.*)?)?"
)


class ClipPlace(NamedTuple):
    """What a file holds; `domain` is "source" in 2020, None where a file holds both (2022 on)."""

    machine: str
    section: str
    domain: Domain | None


class YearFacts(NamedTuple):
    """What a name or the truth tells of a clip."""

    section: str | None = None
    label: Label | None = None
    domain: Domain | None = None
    attributes: Attributes | None = None


class OfficialKind[T](NamedTuple):
    """How a kind of file is named, and how its values are read (`parse` raises KeyError or ValueError).

    Rows may have further cells, which are not read, where it has `more_columns`.
    """

    prefix: str
    parse: Callable[[str], T]
    expected: str
    more_columns: bool = False


class OfficialTable[T](NamedTuple):
    """A file's values by clip name, in the order of names; each one's row number and text for errors."""

    path: Path
    values: dict[str, T]
    rows: dict[str, tuple[int, str]]

    def error(self, name: str, expected: str, other: Path | None = None) -> InputError:
        """Return the error of a clip's row, which may contradict that of another file."""
        return row_error(self.path, *self.rows[name], expected, other)


type Tables[T] = dict[ClipPlace, OfficialTable[T]]


def find_rules(year: int) -> Rules:
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


def find_facts(name: str, year: int) -> YearFacts:
    """What a clip's name tells in a year; raises ValueError for a name that is none of that year's."""
    rules = find_rules(year)
    said = read_name(name, _LAYOUT_OF_RULES[rules])
    if said is None or said.split == "train" or (rules == 2021 and said.domain is None):
        raise ValueError(name)
    return YearFacts(said.section, said.label, said.domain, said.attributes if said.label else None)


def read_tables[T](
    folder: Path, kind: OfficialKind[T], year: int, place_in: Callable[[Path, str, int], ClipPlace] | None = None
) -> Tables[T]:
    """Read every file of a kind in a folder; raises InputError, naming file, row number and content.

    `place_in` reads the place from a file's name, by default whether or not that has what the official baseline adds.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of {kind.prefix} files, got no folder; check the path")
    tables: Tables[T] = {}
    for path in sorted(folder.glob(f"{kind.prefix}_*.csv")):
        place = (place_in or _place)(path, kind.prefix, year)
        if place in tables:
            raise InputError(
                f"{path}: expected one file of {' '.join(filter(None, place))}, got {tables[place].path} too; "
                "take one of them away"
            )
        tables[place] = _table(path, kind)
    return tables


def with_listed_names[T](tables: Tables[T]) -> Tables[T]:
    """Return tables that name each recording of a challenge in .wav, whatever format somebody's file names it in.

    Raises InputError where two rows of a file are then of one recording.
    """
    return {place: _with_listed_names(table) for place, table in tables.items()}


def _with_listed_names[T](table: OfficialTable[T]) -> OfficialTable[T]:
    listed: dict[str, str] = {}
    for name in table.values:
        own = as_wav(name) if has_section_form(name) or has_id_form(name) else name
        if own in listed:
            raise table.error(name, f"each clip once (row {table.rows[listed[own]][0]} has it)")
        listed[own] = name
    values = {own: table.values[listed[own]] for own in sorted(listed)}
    return OfficialTable(table.path, values, {own: table.rows[name] for own, name in listed.items()})


def own_place(path: Path, prefix: str, year: int) -> ClipPlace:
    """Return the place in a name that `file_name` has made, whose machine type may be called anything."""
    place = parse_file_name(composed(path.name), prefix, year)
    if place is None:
        raise InputError(f"{path}: expected a file {template(prefix, year)}, got another name; take it away")
    return place


def _place(path: Path, prefix: str, year: int) -> ClipPlace:
    name, of_year = _without_additions(composed(path.name), prefix)
    places = {rules: parse_file_name(name, prefix, rules) for rules in _PLACES}
    place = places[find_rules(year)]
    if place is None or of_year not in (None, year):
        other = of_year or next((rules for rules in places if places[rules]), None)
        raise InputError(f"{path}: expected a file {template(prefix, year)}, got {_misfit(name, prefix, year, other)}")
    return place


def _without_additions(name: str, prefix: str) -> tuple[str, int | None]:
    """Return a file's name without what the official baseline adds, and the year in that."""
    match = _BASELINE.fullmatch(name.removeprefix(f"{prefix}_").removesuffix(".csv"))
    if match is None:
        return name, None
    return f"{prefix}_{match['place']}.csv", int(match["year"]) if match["year"] else None


def _misfit(name: str, prefix: str, year: int, other: int | None) -> str:
    """Return what a file's name is instead of one of a year, and what to do about it."""
    if other is not None:
        return f"one of {other}; check --year"
    match = re.fullmatch(f"{_pattern(prefix, year).removesuffix('.csv')}(?P<foreign>.+)\\.csv", name)
    return f"{match['foreign']!r} behind it; rename it without that" if match else "another name; check --year"


def parse_file_name(file: str, prefix: str, year: int) -> ClipPlace | None:
    """Return the place in a file's name, None for a name that is none of that prefix and year.

    From 2021 on `_test` may be left out.
    """
    match = re.fullmatch(_pattern(prefix, year), file)
    return find_place(year, **match.groupdict()) if match else None


def _pattern(prefix: str, year: int) -> str:
    pattern = template(prefix, year).format(machine="(?P<machine>.+)", section=_SECTION, domain=_DOMAIN)
    return pattern.replace("_test.csv", "(?:_test)?.csv")


def find_place(year: int, machine: str, section: str, domain: str | None = None) -> ClipPlace:
    """The place of a clip."""
    named = {2020: "source", 2021: domain, 2022: None}[find_rules(year)]
    return ClipPlace(machine, section, cast(Domain | None, named))


def template(prefix: str, year: int) -> str:
    """How files are called, with {machine} and so on left open."""
    return f"{prefix}_{_PLACES[find_rules(year)]}.csv"


def file_name(prefix: str, place: ClipPlace, year: int) -> str:
    """The name of a place's file."""
    return template(prefix, year).format(**place._asdict())


def _table[T](path: Path, kind: OfficialKind[T]) -> OfficialTable[T]:
    values: dict[str, T] = {}
    rows: dict[str, tuple[int, str]] = {}
    for number, fields in read_rows(path):
        text = decode_text(fields)
        try:
            name, value = fields[:2] if kind.more_columns else fields
            parsed = kind.parse(value)
        except (KeyError, ValueError):
            named = any(ending in text.lower() for ending in ENDINGS)
            header = "" if rows or named else " and no header line"
            raise row_error(path, number, text, kind.expected + header) from None
        if name in rows:
            raise row_error(path, number, text, f"each clip once (row {rows[name][0]} has it)")
        values[name], rows[name] = parsed, (number, text)
    if not rows:
        raise InputError(f"{path}: expected rows {kind.expected}, got an empty file; fill or remove it")
    return OfficialTable(path, dict(sorted(values.items())), rows)


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield row number and fields of each line that is not empty; raises InputError where it is no CSV."""
    try:
        yield from csv_rows(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: expected rows name,value in UTF-8, got {error}; save it again in that form"
        ) from error


def row_error(path: Path, number: int, text: str, expected: str, other: Path | None = None) -> InputError:
    """Return the error of one row, which may contradict that of another file."""
    or_other = f", or that of {other}" if other else ""
    return InputError(f"{path}, row {number}: expected {expected}, got {text!r}; correct or remove this row{or_other}")
