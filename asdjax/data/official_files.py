"""CSV files of the challenge: the names of files and clips in each year, and the reader of their rows.

Files have no header. Their rows are `clip name,value`. There is one file per machine type and section, in 2021 also per
domain.
"""

import csv
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple, cast

from asdjax.data.clips import Domain, Label, Layout
from asdjax.data.formats.kinds import ENDINGS
from asdjax.data.names import Attributes, has_id_form, has_section_form, read_name, to_wav_name
from asdjax.data.rows import join_cells, read_csv
from asdjax.errors import InputError
from asdjax.runtime.paths import compose

Rules = Literal[2020, 2021, 2022]

YEARS = range(2020, 2027)

#: Year whose rules apply to a layout. From 2022 on the rules are the same; a user's own recordings follow 2021.
YEAR_OF_LAYOUT: dict[Layout, int] = {"dcase2020": 2020, "dcase2021": 2021, "dcase2022": 2022, "manifest": 2021}
_LAYOUT_OF_RULES: dict[int, Layout] = {2020: "dcase2020", 2021: "dcase2021", 2022: "dcase2022"}
_PLACES = {
    2020: "{machine}_id_{section}",
    2021: "{machine}_section_{section}_{domain}_test",
    2022: "{machine}_section_{section}_test",
}
_SECTION, _DOMAIN = "(?P<section>[^_]+)", "(?P<domain>source|target)"
# The organisers' baseline of 2023 and later adds the data set before the machine type. After the place it adds a seed,
# a tag such as _id(0_), and _Eval.
_BASELINE = re.compile(
    r"(?:DCASE(?P<year>20\d\d)T2)?(?P<place>.+_(?:section|id)_[^_]+(?:_source|_target)?(?:_test)?)(?:_seed\d+(?:_.*)?)?"
)


class ClipPlace(NamedTuple):
    """Place of a file's clips. `domain` is "source" in 2020, and None if the file has both domains (2022 on)."""

    machine: str
    section: str
    domain: Domain | None


class YearFacts(NamedTuple):
    """Facts about a clip from its name or from the truth. A fact is None if it is unknown."""

    section: str | None = None
    label: Label | None = None
    domain: Domain | None = None
    attributes: Attributes | None = None


class OfficialKind[T](NamedTuple):
    """Kind of file: the prefix of its name, the parser of its values, and the expected row for error messages.

    `parse` raises KeyError or ValueError for a bad value. Rows may have further cells if `more_columns` is True; they
    are ignored.
    """

    prefix: str
    parse: Callable[[str], T]
    expected: str
    more_columns: bool = False


class OfficialTable[T](NamedTuple):
    """Values of a file by clip name, sorted by name, and each row's number and text for error messages."""

    path: Path
    values: dict[str, T]
    rows: dict[str, tuple[int, str]]

    def error(self, name: str, expected: str, other: Path | None = None) -> InputError:
        """Return the error for a clip's row. Name `other` if the row contradicts that file."""
        return row_error(self.path, *self.rows[name], expected, other)


type Tables[T] = dict[ClipPlace, OfficialTable[T]]


def find_rules(year: int) -> Rules:
    """Return the year whose rules and file names apply: 2020, 2021, or 2022 for all later years.

    Raises InputError for a year without a known challenge.
    """
    if year not in YEARS:
        raise InputError(f"year: expected {YEARS[0]} to {YEARS[-1]}, got {year}; give the year of the challenge")
    return 2020 if year == 2020 else 2021 if year == 2021 else 2022


def finite(text: str) -> float:
    """Parse a finite number. Raises ValueError for anything else."""
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def code[T](zero: T, one: T) -> Callable[[str], T]:
    """Return a parser that maps 0 to `zero` and 1 to `one`. The parser raises KeyError or ValueError for other text."""
    return lambda text: {0.0: zero, 1.0: one}[finite(text)]


def find_facts(name: str, year: int) -> YearFacts:
    """Return the facts in a clip's name. Raises ValueError if the name does not have the form of the year."""
    rules = find_rules(year)
    parsed = read_name(name, _LAYOUT_OF_RULES[rules])
    if parsed is None or parsed.split == "train" or (rules == 2021 and parsed.domain is None):
        raise ValueError(name)
    return YearFacts(parsed.section, parsed.label, parsed.domain, parsed.attributes if parsed.label else None)


def read_tables[T](
    folder: Path, kind: OfficialKind[T], year: int, place_in: Callable[[Path, str, int], ClipPlace] | None = None
) -> Tables[T]:
    """Read every file of a kind in a folder.

    `place_in` reads the place from a file's name. The default also accepts the additions of the official baseline.

    Raises InputError with the file, the row number and the row's content.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of {kind.prefix} files, got no folder; check the path")
    tables: Tables[T] = {}
    for path in sorted(folder.glob(f"{kind.prefix}_*.csv", case_sensitive=False)):
        place = (place_in or _read_place)(path, kind.prefix, year)
        if place in tables:
            raise InputError(
                f"{path}: expected one file of {' '.join(filter(None, place))}, got {tables[place].path} too; "
                "remove one of them"
            )
        tables[place] = _read_table(path, kind)
    return tables


def with_listed_names[T](tables: Tables[T]) -> Tables[T]:
    """Return the tables with names that end in .wav, as the challenge lists its recordings.

    Raises InputError if two rows of a file then name the same recording.
    """
    return {place: _use_wav_names(table) for place, table in tables.items()}


def _use_wav_names[T](table: OfficialTable[T]) -> OfficialTable[T]:
    given_names: dict[str, str] = {}
    for name in table.values:
        wav_name = to_wav_name(name) if has_section_form(name) or has_id_form(name) else name
        if wav_name in given_names:
            raise table.error(name, f"each clip once (row {table.rows[given_names[wav_name]][0]} has it)")
        given_names[wav_name] = name
    values = {wav_name: table.values[given_names[wav_name]] for wav_name in sorted(given_names)}
    return OfficialTable(table.path, values, {wav_name: table.rows[name] for wav_name, name in given_names.items()})


def own_place(path: Path, prefix: str, year: int) -> ClipPlace:
    """Return the place in a name from `file_name`. The machine type may have any name.

    Raises InputError for another name.
    """
    place = parse_file_name(compose(path.stem) + path.suffix.lower(), prefix, year)
    if place is None:
        raise InputError(f"{path}: expected a file {template(prefix, year)}, got another name; remove it")
    return place


def _read_place(path: Path, prefix: str, year: int) -> ClipPlace:
    name, baseline_year = _strip_additions(compose(path.stem) + path.suffix.lower(), prefix)
    places = {rules: parse_file_name(name, prefix, rules) for rules in _PLACES}
    place = places[find_rules(year)]
    if place is None or baseline_year not in (None, year):
        other = baseline_year or next((rules for rules in places if places[rules]), None)
        raise InputError(
            f"{path}: expected a file {template(prefix, year)}, got {_describe_misfit(name, prefix, year, other)}"
        )
    return place


def _strip_additions(name: str, prefix: str) -> tuple[str, int | None]:
    """Return a file's name without the additions of the official baseline, and the year in them."""
    match = _BASELINE.fullmatch(name.removeprefix(f"{prefix}_").removesuffix(".csv"))
    if match is None:
        return name, None
    return f"{prefix}_{match['place']}.csv", int(match["year"]) if match["year"] else None


def _describe_misfit(name: str, prefix: str, year: int, other: int | None) -> str:
    """Describe a file's name that does not fit the year, with a remedy."""
    if other is not None:
        return f"one of {other}; check --year"
    match = re.fullmatch(f"{_pattern(prefix, year).removesuffix('.csv')}(?P<foreign>.+)\\.csv", name)
    return f"{match['foreign']!r} behind it; rename it without that" if match else "another name; check --year"


def parse_file_name(file: str, prefix: str, year: int) -> ClipPlace | None:
    """Return the place in a file's name, None if the name does not fit the prefix and year.

    From 2021 on `_test` may be left out.
    """
    match = re.fullmatch(_pattern(prefix, year), file)
    return find_place(year, **match.groupdict()) if match else None


def _pattern(prefix: str, year: int) -> str:
    pattern = template(prefix, year).format(machine="(?P<machine>.+)", section=_SECTION, domain=_DOMAIN)
    return pattern.replace("_test.csv", "(?:_test)?.csv")


def find_place(year: int, machine: str, section: str, domain: str | None = None) -> ClipPlace:
    """Return the place of a clip in a year."""
    year_domain = {2020: "source", 2021: domain, 2022: None}[find_rules(year)]
    return ClipPlace(machine, section, cast("Domain | None", year_domain))


def template(prefix: str, year: int) -> str:
    """Return the pattern of file names in a year, with the fields {machine}, {section} and, in 2021, {domain}."""
    return f"{prefix}_{_PLACES[find_rules(year)]}.csv"


def file_name(prefix: str, place: ClipPlace, year: int) -> str:
    """Return the name of a place's file."""
    return template(prefix, year).format(**place._asdict())


def _read_table[T](path: Path, kind: OfficialKind[T]) -> OfficialTable[T]:
    values: dict[str, T] = {}
    rows: dict[str, tuple[int, str]] = {}
    for number, fields in read_rows(path):
        text = join_cells(fields)
        try:
            name, value = fields[:2] if kind.more_columns else fields
            parsed = kind.parse(value)
        except (KeyError, ValueError):
            has_clip_name = any(ending in text.lower() for ending in ENDINGS)
            header = "" if rows or has_clip_name else " and no header line"
            raise row_error(path, number, text, kind.expected + header) from None
        if name in rows:
            raise row_error(path, number, text, f"each clip once (row {rows[name][0]} has it)")
        values[name], rows[name] = parsed, (number, text)
    if not rows:
        raise InputError(f"{path}: expected rows {kind.expected}, got an empty file; fill or remove it")
    return OfficialTable(path, dict(sorted(values.items())), rows)


def read_rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the row number and the fields of each line that is not empty. Raises InputError if the file is no CSV."""
    try:
        yield from read_csv(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"{path}: expected rows name,value in UTF-8, got {error}; save it again in that form"
        ) from error


def row_error(path: Path, number: int, text: str, expected: str, other: Path | None = None) -> InputError:
    """Return the error for a row. Name `other` if the row contradicts that file."""
    or_other = f", or that of {other}" if other else ""
    return InputError(f"{path}, row {number}: expected {expected}, got {text!r}; correct or remove this row{or_other}")
