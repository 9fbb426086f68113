"""What the organisers published about evaluation clips after a challenge: read, and joined to the clips.

The truth of an evaluation set is a folder of `ground_truth_<place>.csv` (rows `name,0` for normal, `name,1` for an
anomaly); or one with the folders `ground_truth_data` (the same rows), `ground_truth_domain` (0 source, 1 target) and
`ground_truth_attributes` (`name,full name` without .wav), from 2022 on; or one with an `eval_data_list.csv` (2020),
where a line `machine type` stands before its lines `name,full name,label`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from asdjax.corpus.clips import Clip, Layout
from asdjax.corpus.official import (
    YEAR_OF_LAYOUT,
    Facts,
    Kind,
    Place,
    Table,
    Tables,
    code,
    facts_of,
    place_of,
    read_rows,
    read_tables,
    row_error,
)
from asdjax.errors import InputError
from asdjax.progress import say

LIST = "eval_data_list*.csv"

_PREFIX = "ground_truth"
_KINDS = {
    f"{_PREFIX}_data": Kind(_PREFIX, code(Facts(None, "normal"), Facts(None, "anomaly")), "name,label with 0 or 1"),
    f"{_PREFIX}_domain": Kind(_PREFIX, code(Facts(domain="source"), Facts(domain="target")), "name,domain with 0 or 1"),
    f"{_PREFIX}_attributes": Kind(_PREFIX, lambda stem: facts_of(f"{stem}.wav", 2022), "name,full name"),
}
_LABEL = code("normal", "anomaly")


def read_truth(folder: Path, year: int) -> list[Tables[Facts]]:
    """Everything that a folder tells of an evaluation set's clips, table by table.

    Each of the three folders may be given for the one around it. Raises InputError where nothing is there, and for
    every row that is none; it names file, row number and content.
    """
    base = folder.parent if folder.name in _KINDS else folder
    found = [read_tables(base / name, kind, year) for name, kind in _KINDS.items() if (base / name).is_dir()]
    found += [_read_list(path, year) for path in sorted(base.glob(LIST))]
    found = found or [read_tables(folder, _KINDS[f"{_PREFIX}_data"], year)]
    if not any(found):
        raise InputError(f"{folder}: expected {_PREFIX} files or an {LIST}, got none; check the path")
    return found


def join_truth(clips: Sequence[Clip], layout: Layout, folder: Path) -> list[Clip]:
    """The clips, those whose names tell no label with what the truth says of them.

    Places and clips that only the truth knows are left alone: a corpus may be a part of the challenge's. Raises
    InputError where name and truth contradict each other, and where a place's truth lacks one of its clips.
    """
    if layout == "manifest":
        raise InputError("config.data.truth: a manifest tells labels itself; write them there and leave this empty")
    tables = read_truth(folder, YEAR_OF_LAYOUT[layout])
    joined = [_joined(clip, layout, tables) if clip.blind else clip for clip in clips]
    blind = [clip for clip in joined if clip.blind]
    labelled = sum(clip.label is not None for clip in blind)
    if not labelled:
        raise InputError(f"config.data.truth: {folder} knows none of the {len(blind)} unlabelled clips; check the path")
    if labelled < len(blind):
        say(f"{folder}: knows {labelled} of {len(blind)} unlabelled clips")
    return joined


def _joined(clip: Clip, layout: Layout, tables: Iterable[Tables[Facts]]) -> Clip:
    place = place_of(YEAR_OF_LAYOUT[layout], clip.machine, clip.section, clip.domain)
    for table in (of_place[place] for of_place in tables if place in of_place):
        facts = table.values.get(clip.name)
        if facts is None:
            raise InputError(f"{table.path}: expected a row for {clip.name} ({clip.path}), got none; add it")
        if facts.section not in (None, clip.section):
            raise table.error(clip.name, f"section {clip.section}, as its name says")
        for field in ("label", "domain", "attributes"):
            told, known = getattr(facts, field), getattr(clip, field)
            if told is not None and known and told != known:
                raise table.error(clip.name, f"{field} {known}, as its name or another table says")
        clip = replace(
            clip,
            label=facts.label or clip.label,
            domain=facts.domain or clip.domain,
            attributes=facts.attributes or clip.attributes,
        )
    return clip


def _read_list(path: Path, year: int) -> Tables[Facts]:
    found: dict[Place, Table[Facts]] = {}
    machine = ""
    for number, fields in read_rows(path):
        if len(fields) == 1:
            machine = fields[0]
            continue
        text = ",".join(fields)
        try:
            name, full_name = fields[:2]
            blind, facts = facts_of(name, year), facts_of(full_name, year)
            labels = {facts.label, *map(_LABEL, fields[2:3])}
        except (KeyError, ValueError):
            raise row_error(path, number, text, "a machine type, or name,full name,label") from None
        if not machine or not blind.section:
            raise row_error(path, number, text, "a line with the machine type before it")
        if blind.section != facts.section or labels == {None} or len(labels) > 1:
            raise row_error(path, number, text, "both names of one section, and one label")
        place = place_of(year, machine, blind.section, blind.domain)
        table = found.setdefault(place, Table(path, {}, {}))
        if name in table.values:
            raise row_error(path, number, text, f"each clip once (row {table.rows[name][0]} has it)")
        table.values[name], table.rows[name] = facts, (number, text)
    return found
