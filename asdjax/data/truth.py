"""What the organisers published about evaluation clips after a challenge: read, and joined to the clips.

The truth of an evaluation set is a folder of `ground_truth_<place>.csv` (rows `name,0` for normal, `name,1` for an
anomaly); or one with the folders `ground_truth_data` (the same rows), `ground_truth_domain` (0 source, 1 target) and
`ground_truth_attributes`, from 2022 on; or one with a list, `eval_data_list.csv` or `eval_data_list_<year>.csv`, in
which a line `machine type` is followed by its lines `name,full name,label`.

Rows of `ground_truth_attributes` are `name,full name`, from 2024 on with another column that does not count. In 2022
there is a folder for each machine type, with attributes_NN.csv whose last column is the full name.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from asdjax.data.clip_lists import is_attributes_table, parse_attributes
from asdjax.data.clips import Clip, Layout
from asdjax.data.names import as_wav
from asdjax.data.official_files import (
    YEAR_OF_LAYOUT,
    YEARS,
    ClipPlace,
    OfficialKind,
    OfficialTable,
    Tables,
    YearFacts,
    code,
    find_facts,
    find_place,
    find_rules,
    read_rows,
    read_tables,
    row_error,
    with_listed_names,
)
from asdjax.data.rows import decode_text
from asdjax.errors import InputError
from asdjax.runtime.paths import composed
from asdjax.runtime.progress import log

LIST = "eval_data_list*.csv"

_PREFIX = "ground_truth"
_DATA, _DOMAIN, _ATTRIBUTES = f"{_PREFIX}_data", f"{_PREFIX}_domain", f"{_PREFIX}_attributes"
_FULL_NAME = "file_name_with"  # how the columns of 2022 begin that hold it
_LABEL = code("normal", "anomaly")

# of the evaluation set of 2022: the list and the attribute tables that were published give clips of these machine types
# and sections the full names of other clips
_WRONG_MACHINES, _WRONG_SECTIONS = ("ToyCar", "ToyTrain"), ("03", "04", "05")


def read_truth(folder: Path, year: int, years: Container[int] = ()) -> list[Tables[YearFacts]]:
    """Read everything that a folder says of an evaluation set's clips, table by table.

    Each of the three folders may be given for the one around it. Of lists of several years those of `years` are read,
    by default of `year` alone. Raises InputError where nothing is there, and for every row that is none; it names file,
    row number and content. Full names of 2022 that are known to be wrong are left out where other tables show it;
    otherwise a warning says so.
    """
    kinds = _kinds(year)
    base = folder.parent if folder.name in kinds else folder
    found = {name: read_tables(base / name, kind, year) for name, kind in kinds.items() if (base / name).is_dir()}
    if _ATTRIBUTES in found:
        found[_ATTRIBUTES] |= _read_machines(base / _ATTRIBUTES, year)
    lists = [_read_list(path, year) for path in _lists(base, years or (year,))]
    if find_rules(year) == 2022:
        _leave_out_wrong_names(found)
        for of_list in lists:
            _warn_of_wrong_names(of_list)
    tables = [*filter(None, found.values()), *lists] or [read_tables(folder, kinds[_DATA], year)]
    if not any(tables):
        there = ", ".join(path.name for path in sorted(base.glob(LIST))) or "none"
        raise InputError(f"{folder}: expected {_PREFIX} files or an {LIST} of {year}, got {there}; check the path")
    return list(map(with_listed_names, tables))


def _kinds(year: int) -> dict[str, OfficialKind[YearFacts]]:
    return {
        _DATA: OfficialKind(
            _PREFIX, code(YearFacts(label="normal"), YearFacts(label="anomaly")), "name,label with 0 or 1"
        ),
        _DOMAIN: OfficialKind(
            _PREFIX, code(YearFacts(domain="source"), YearFacts(domain="target")), "name,domain with 0 or 1"
        ),
        _ATTRIBUTES: OfficialKind(
            _PREFIX, lambda name: _facts_of_full_name(name, year), "name,full name", more_columns=True
        ),
    }


def _facts_of_full_name(full_name: str, year: int) -> YearFacts:
    name = as_wav(_base_name(full_name))
    return find_facts(name if name.lower().endswith(".wav") else f"{name}.wav", year)


def _base_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def _read_machines(folder: Path, year: int) -> Tables[YearFacts]:
    """Read the attribute tables of 2022 from a folder for each machine type."""
    found: Tables[YearFacts] = {}
    for path in sorted(folder.glob("*/*.csv")):
        if is_attributes_table(path.name):
            rows = read_rows(path)
            _, header = next(rows, (1, [""]))
            for number, cells in rows:
                name, facts = _facts_of_cells(path, header, number, cells, year)
                place = find_place(year, composed(path.parent.name), facts.section or "", facts.domain)
                _add(found, place, path, name, facts, (number, decode_text(cells)))
    return found


def _facts_of_cells(path: Path, header: list[str], number: int, cells: list[str], year: int) -> tuple[str, YearFacts]:
    """Return a clip's name, and what its full name says; its attributes alone where there is no full name."""
    name = _base_name(cells[0])
    by_column = dict(zip(header, cells, strict=False))
    full_name = next((cell for column, cell in by_column.items() if column.lower().startswith(_FULL_NAME)), None)
    try:
        known = find_facts(name, year)
        facts = _facts_of_full_name(full_name, year) if full_name else known
    except ValueError:
        raise row_error(path, number, decode_text(cells), "name,attributes,full name") from None
    if facts.section != known.section:
        raise row_error(path, number, decode_text(cells), "both names of one section")
    return name, facts if full_name else facts._replace(attributes=parse_attributes(cells[1:]))


def _add(
    found: Tables[YearFacts], place: ClipPlace, path: Path, name: str, facts: YearFacts, row: tuple[int, str]
) -> None:
    table = found.setdefault(place, OfficialTable(path, {}, {}))
    if name in table.values:
        raise row_error(path, *row, f"each clip once (row {table.rows[name][0]} has it)")
    table.values[name], table.rows[name] = facts, row


def _lists(folder: Path, years: Container[int]) -> list[Path]:
    """Return the lists whose names have one of the years; where none has, those without a year."""
    paths = sorted(folder.glob(LIST))
    dates = [re.search(r"_(20\d\d)(?!\d)", path.stem) for path in paths]
    of_years = [path for path, date in zip(paths, dates, strict=True) if date and int(date[1]) in years]
    return of_years or [path for path, date in zip(paths, dates, strict=True) if date is None]


def _leave_out_wrong_names(found: Mapping[str, Tables[YearFacts]]) -> None:
    """Take from 2022's attribute tables what is known to be wrong, where labels or domains show that it is."""
    attributes = found.get(_ATTRIBUTES, {})
    others = [found[name] for name in (_DATA, _DOMAIN) if name in found]
    doubtful = [place for place in attributes if _is_doubtful(place)]
    if not others:
        _warn_of_wrong_names(attributes)
        return
    wrong = [p for p in doubtful if any(p in other and _contradicts(attributes[p], other[p]) for other in others)]
    for place in wrong:
        table = attributes[place]
        attributes[place] = table._replace(
            values={name: YearFacts(facts.section) for name, facts in table.values.items()}
        )
    if wrong:
        log(
            f"warning: {attributes[wrong[0]].path.parents[1]}: full names that contradict labels and domains, as is "
            f"known of 2022; left out for {', '.join(f'{place.machine} {place.section}' for place in wrong)}"
        )


def _warn_of_wrong_names(tables: Tables[YearFacts]) -> None:
    if doubtful := [place for place in tables if _is_doubtful(place)]:
        machines = " and ".join(sorted({place.machine for place in doubtful}))
        log(
            f"warning: {tables[doubtful[0]].path}: known to be wrong for {machines}, so their figures mean nothing; "
            f"give the organisers' {_DATA} and {_DOMAIN} of 2022 instead"
        )


def _is_doubtful(place: ClipPlace) -> bool:
    return place.machine in _WRONG_MACHINES and place.section in _WRONG_SECTIONS


def _contradicts(one: OfficialTable[YearFacts], other: OfficialTable[YearFacts]) -> bool:
    pairs = [(facts, other.values[name]) for name, facts in one.values.items() if name in other.values]
    return any(
        None not in (said, known) and said != known
        for facts, of_other in pairs
        for said, known in ((facts.label, of_other.label), (facts.domain, of_other.domain))
    )


def join_truth(clips: Sequence[Clip], layout: Layout, folder: Path) -> list[Clip]:
    """The clips, those whose names tell no label with what the truth says of them.

    Places and clips that only the truth knows are left alone: a corpus may be a part of the challenge's. Raises
    InputError where name and truth contradict each other, and where a place's truth lacks one of its clips.
    """
    if layout == "manifest":
        raise InputError("config.data.truth: a manifest tells labels itself; write them there and leave this empty")
    year = YEAR_OF_LAYOUT[layout]
    tables = read_truth(folder, year, [other for other in YEARS if find_rules(other) == find_rules(year)])
    joined = [_joined(clip, layout, tables) if clip.blind else clip for clip in clips]
    blind = [clip for clip in joined if clip.blind]
    labelled = sum(clip.label is not None for clip in blind)
    if not labelled:
        raise InputError(f"config.data.truth: {folder} knows none of the {len(blind)} unlabelled clips; check the path")
    if labelled < len(blind):
        log(f"{folder}: knows {labelled} of {len(blind)} unlabelled clips")
    return joined


def _joined(clip: Clip, layout: Layout, tables: Iterable[Tables[YearFacts]]) -> Clip:
    place = find_place(YEAR_OF_LAYOUT[layout], clip.machine, clip.section, clip.domain)
    sources: dict[str, Path] = {}
    for table in (of_place[place] for of_place in tables if place in of_place):
        facts = table.values.get(clip.name)
        if facts is None:
            raise InputError(f"{table.path}: expected a row for {clip.name} ({clip.path}), got none; add it")
        if facts.section not in (None, clip.section):
            raise table.error(clip.name, f"section {clip.section}, as its name says")
        for field in ("label", "domain", "attributes"):
            said, known = getattr(facts, field), getattr(clip, field)
            if said is not None and known and said != known:
                expected = f"{field} {known}, as its name or another table says"
                raise table.error(clip.name, expected, sources.get(field))
            if said:
                sources.setdefault(field, table.path)
        clip = replace(
            clip,
            label=facts.label or clip.label,
            domain=facts.domain or clip.domain,
            attributes=facts.attributes or clip.attributes,
        )
    return clip


def _read_list(path: Path, year: int) -> Tables[YearFacts]:
    found: Tables[YearFacts] = {}
    machine = ""
    for number, cells in read_rows(path):
        if len(cells) == 1 and not as_wav(cells[0]).lower().endswith(".wav"):
            machine = cells[0]
            continue
        text = decode_text(cells)
        try:
            name, full_name = cells[:2]
            blind, facts = find_facts(name, year), find_facts(full_name, year)
            labels = {facts.label, *map(_LABEL, cells[2:3])}
        except (KeyError, ValueError):
            raise row_error(path, number, text, "a machine type, or name,full name,label") from None
        if not machine or not blind.section:
            raise row_error(path, number, text, "a line with the machine type before it")
        if blind.section != facts.section or labels == {None} or len(labels) > 1:
            raise row_error(path, number, text, "both names of one section, and one label")
        _add(found, find_place(year, machine, blind.section, blind.domain), path, name, facts, (number, text))
    return found
