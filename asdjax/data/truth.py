"""Truth about evaluation clips, as the organisers publish it after a challenge: its readers, and its join to clips.

A folder of truth has one of these forms:

- `ground_truth_<place>.csv` with rows `name,0` for normal and `name,1` for anomalous clips;
- from 2022 on, the folders `ground_truth_data` (the same rows), `ground_truth_domain` (0 source, 1 target) and
  `ground_truth_attributes`;
- a list, `eval_data_list.csv` or `eval_data_list_<year>.csv`: a line `machine type`, then its lines
  `name,full name,label`.

Rows of `ground_truth_attributes` are `name,full name`, from 2024 on with another column that is ignored. In 2022 that
folder has a folder for each machine type with attributes_NN.csv, whose last column is the full name.
"""

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from asdjax.data.clip_lists import is_attributes_table, parse_attributes
from asdjax.data.clips import Clip, Layout
from asdjax.data.names import to_wav_name
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
from asdjax.data.rows import join_cells
from asdjax.errors import InputError
from asdjax.runtime.paths import compose
from asdjax.runtime.progress import log

LIST = "eval_data_list*.csv"

_PREFIX = "ground_truth"
_DATA, _DOMAIN, _ATTRIBUTES = f"{_PREFIX}_data", f"{_PREFIX}_domain", f"{_PREFIX}_attributes"
_FULL_NAME = "file_name_with"  # prefix of the column of full names in 2022
_LABEL = code("normal", "anomaly")

# In the published list and attribute tables of 2022, these clips have the full names of other clips.
_WRONG_MACHINES, _WRONG_SECTIONS = ("ToyCar", "ToyTrain"), ("03", "04", "05")


def read_truth(
    folder: Path, year: int, years: Container[int] = (), places: Container[ClipPlace] | None = None
) -> list[Tables[YearFacts]]:
    """Read all facts about an evaluation set's clips from a folder, one entry per kind of table.

    `folder` may also be one of the three folders of 2022 and later; the others are then read as well. `years` selects
    lists by the year in their name; the default is `year`. Full names of 2022 that are known to be wrong are dropped
    if other tables contradict them; otherwise a warning is logged, if they are of one of `places` (None: of any).

    Raises InputError if the folder has no truth, or for a bad row, with the file, the row number and its content.
    """
    kinds = _kinds(year)
    base = folder.parent if folder.name in kinds else folder
    found = {name: read_tables(base / name, kind, year) for name, kind in kinds.items() if (base / name).is_dir()}
    if _ATTRIBUTES in found:
        found[_ATTRIBUTES] |= _read_machine_tables(base / _ATTRIBUTES, year)
    lists = [_read_list(path, year) for path in _find_lists(base, years or (year,))]
    if find_rules(year) == 2022:
        _drop_wrong_names(found, places)
        for tables in lists:
            _warn_of_wrong_names(tables, places)
    tables = [*filter(None, found.values()), *lists] or [read_tables(folder, kinds[_DATA], year)]
    if not any(tables):
        got = ", ".join(path.name for path in sorted(base.glob(LIST, case_sensitive=False))) or "none"
        raise InputError(f"{folder}: expected {_PREFIX} files or an {LIST} of {year}, got {got}; check the path")
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
            _PREFIX, lambda name: _parse_full_name(name, year), "name,full name", more_columns=True
        ),
    }


def _parse_full_name(full_name: str, year: int) -> YearFacts:
    name = to_wav_name(_base_name(full_name))
    return find_facts(name if name.endswith(".wav") else f"{name}.wav", year)


def _base_name(path: str) -> str:
    return PurePosixPath(path.replace("\\", "/")).name


def _read_machine_tables(folder: Path, year: int) -> Tables[YearFacts]:
    """Read the attribute tables of 2022, which are in a folder per machine type."""
    found: Tables[YearFacts] = {}
    for path in sorted(folder.glob("*/*.csv", case_sensitive=False)):
        if is_attributes_table(path.name.lower()):
            rows = read_rows(path)
            _, header = next(rows, (1, [""]))
            for number, cells in rows:
                name, facts = _parse_machine_row(path, header, number, cells, year)
                place = find_place(year, compose(path.parent.name), facts.section or "", facts.domain)
                _add_row(found, place, path, name, facts, (number, join_cells(cells)))
    return found


def _parse_machine_row(
    path: Path, header: list[str], number: int, cells: list[str], year: int
) -> tuple[str, YearFacts]:
    """Return a clip's name and its facts: those of its full name if there is one, else its attributes."""
    name = _base_name(cells[0])
    full_name = _find_full_name(header, cells)
    try:
        name_facts = find_facts(name, year)
        facts = _parse_full_name(full_name, year) if full_name else name_facts
    except ValueError:
        raise row_error(path, number, join_cells(cells), "name,attributes,full name") from None
    if facts.section != name_facts.section:
        raise row_error(path, number, join_cells(cells), "both names of one section")
    return name, facts if full_name else facts._replace(attributes=parse_attributes(cells[1:]))


def _find_full_name(header: list[str], cells: list[str]) -> str | None:
    """Return the full name in a row; it stands further left where attributes are left out, as in valve's of 2022."""
    columns = [number for number, column in enumerate(header) if column.lower().startswith(_FULL_NAME)]
    if not columns:
        return None
    if columns[0] < len(cells) and cells[columns[0]]:
        return cells[columns[0]]
    return next((cell for cell in reversed(cells[1:]) if to_wav_name(cell).endswith(".wav")), None)


def _add_row(
    found: Tables[YearFacts], place: ClipPlace, path: Path, name: str, facts: YearFacts, row: tuple[int, str]
) -> None:
    table = found.setdefault(place, OfficialTable(path, {}, {}))
    if name in table.values:
        raise row_error(path, *row, f"each clip once (row {table.rows[name][0]} has it)")
    table.values[name], table.rows[name] = facts, row


def _find_lists(folder: Path, years: Container[int]) -> list[Path]:
    """Return the lists with one of the years in their name, or those without a year if there are none."""
    paths = sorted(folder.glob(LIST, case_sensitive=False))
    dates = [re.search(r"_(20\d\d)(?!\d)", path.stem) for path in paths]
    dated = [path for path, date in zip(paths, dates, strict=True) if date and int(date[1]) in years]
    return dated or [path for path, date in zip(paths, dates, strict=True) if date is None]


def _read_list(path: Path, year: int) -> Tables[YearFacts]:
    found: Tables[YearFacts] = {}
    machine = ""
    for number, cells in read_rows(path):
        if len(cells) == 1 and not to_wav_name(cells[0]).endswith(".wav"):
            machine = cells[0]
            continue
        text = join_cells(cells)
        try:
            name, full_name = cells[:2]
            name_facts, facts = find_facts(name, year), find_facts(full_name, year)
            labels = {facts.label, *map(_LABEL, cells[2:3])}
        except (KeyError, ValueError):
            raise row_error(path, number, text, "a machine type, or name,full name,label") from None
        if not machine or not name_facts.section:
            raise row_error(path, number, text, "a line with the machine type before it")
        if name_facts.section != facts.section or labels == {None} or len(labels) > 1:
            raise row_error(path, number, text, "both names of one section, and one label")
        place = find_place(year, machine, name_facts.section, name_facts.domain)
        _add_row(found, place, path, name, facts, (number, text))
    return found


def _drop_wrong_names(found: Mapping[str, Tables[YearFacts]], places: Container[ClipPlace] | None) -> None:
    """Drop full names of 2022 that are known to be wrong, where labels or domains contradict them."""
    attributes = found.get(_ATTRIBUTES, {})
    others = [found[name] for name in (_DATA, _DOMAIN) if name in found]
    if not others:
        _warn_of_wrong_names(attributes, places)
        return
    wrong = [
        place
        for place in attributes
        if _is_doubtful(place)
        and any(place in other and _contradict(attributes[place], other[place]) for other in others)
    ]
    for place in wrong:
        table = attributes[place]
        attributes[place] = table._replace(
            values={name: YearFacts(facts.section) for name, facts in table.values.items()}
        )
    if wrong:
        log(
            f"warning: {attributes[wrong[0]].path.parents[1]}: full names of 2022 contradict labels and domains, a "
            f"known error; left out for {', '.join(f'{place.machine} {place.section}' for place in wrong)}"
        )


def _warn_of_wrong_names(tables: Tables[YearFacts], places: Container[ClipPlace] | None) -> None:
    if doubtful := [place for place in tables if _is_doubtful(place) and (places is None or place in places)]:
        machines = " and ".join(sorted({place.machine for place in doubtful}))
        log(
            f"warning: {tables[doubtful[0]].path}: known to be wrong for {machines}, so their results are meaningless; "
            f"give the organisers' {_DATA} and {_DOMAIN} of 2022 instead"
        )


def _is_doubtful(place: ClipPlace) -> bool:
    return place.machine in _WRONG_MACHINES and place.section in _WRONG_SECTIONS


def _contradict(one: OfficialTable[YearFacts], other: OfficialTable[YearFacts]) -> bool:
    pairs = [(facts, other.values[name]) for name, facts in one.values.items() if name in other.values]
    return any(
        None not in values and values[0] != values[1]
        for a, b in pairs
        for values in ((a.label, b.label), (a.domain, b.domain))
    )


def join_truth(clips: Sequence[Clip], layout: Layout, folder: Path) -> list[Clip]:
    """Return the clips, with the facts of the truth added to those that have no label in their names.

    Rows for clips or places outside the corpus are ignored, because a corpus may be a part of the challenge's.

    Raises InputError if a name and the truth contradict each other, or if a table lacks one of its place's clips.
    """
    if layout == "manifest":
        raise InputError(
            "config.data.truth: expected a challenge's layout, got a manifest, which has its own labels; write them "
            "there, and leave this field empty"
        )
    year = YEAR_OF_LAYOUT[layout]
    places = {find_place(year, clip.machine, clip.section, clip.domain) for clip in clips if clip.blind}
    tables = read_truth(folder, year, [other for other in YEARS if find_rules(other) == find_rules(year)], places)
    joined = [_join_clip(clip, layout, tables) if clip.blind else clip for clip in clips]
    blind = [clip for clip in joined if clip.blind]
    labelled = sum(clip.label is not None for clip in blind)
    if not labelled:
        raise InputError(
            f"config.data.truth: expected labels of the {len(blind)} unlabelled clips, got none of them in {folder}; "
            "check the path"
        )
    if labelled < len(blind):
        log(f"{folder}: has labels of {labelled} of {len(blind)} unlabelled clips")
    return joined


def _join_clip(clip: Clip, layout: Layout, tables: Iterable[Tables[YearFacts]]) -> Clip:
    place = find_place(YEAR_OF_LAYOUT[layout], clip.machine, clip.section, clip.domain)
    sources: dict[str, Path] = {}
    for table in (by_place[place] for by_place in tables if place in by_place):
        facts = table.values.get(clip.name)
        if facts is None:
            raise InputError(f"{table.path}: expected a row for {clip.name} ({clip.path}), got none; add it")
        if facts.section not in (None, clip.section):
            raise table.error(clip.name, f"section {clip.section}, as in its name")
        for field in ("label", "domain", "attributes"):
            new, known = getattr(facts, field), getattr(clip, field)
            if new is not None and known and new != known:
                expected = f"{field} {known}, as in its name or another table"
                raise table.error(clip.name, expected, sources.get(field))
            if new:
                sources.setdefault(field, table.path)
        clip = replace(
            clip,
            label=facts.label or clip.label,
            domain=facts.domain or clip.domain,
            attributes=facts.attributes or clip.attributes,
        )
    return clip
