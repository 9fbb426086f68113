"""The challenge's files: scores and decisions written and read, truth joined, everything matched by name.

A submission is a folder of `anomaly_score_<place>.csv` and `decision_result_<place>.csv`, headerless rows
`clip name,value`, one pair of files per place: machine type and section, in 2021 also domain.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from asdjax.data.clips import Domain, Label
from asdjax.data.official_files import (
    ClipPlace,
    OfficialKind,
    OfficialTable,
    Tables,
    YearFacts,
    code,
    file_name,
    find_facts,
    find_place,
    find_rules,
    finite,
    own_place,
    parse_file_name,
    read_tables,
    template,
    with_listed_names,
)
from asdjax.data.truth import read_truth
from asdjax.errors import InputError
from asdjax.evaluation.metrics import ScoredClip
from asdjax.runtime.files import replace_text
from asdjax.runtime.progress import log

_SCORES = OfficialKind("anomaly_score", finite, "name,score with a finite number")
_DECISIONS = OfficialKind("decision_result", code(False, True), "name,decision with 0 or 1")


def write(folder: Path, year: int, clips: Iterable[ScoredClip]) -> None:
    """Write a submission: rows sorted by name, scores so that they read back bit-equal.

    Each file appears whole or not at all. Where clips have no decisions, an older decision file is removed.
    Raises InputError, before anything is written, for an unknown year, a clip named twice, a score that is not
    finite, decisions on only some of a file's clips, an unknown domain in 2021, and names no file can hold.
    """
    files = _contents(year, clips)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if text:
            replace_text(folder / name, text)
        else:
            (folder / name).unlink(missing_ok=True)


def verify(folder: Path, year: int, clips: Iterable[ScoredClip]) -> None:
    """Read a submission back and hold it against its clips, by name: every file, every row, every value.

    Raises InputError, naming the file, where it is not what was written: the disk lost or changed something.
    """
    scores = read_tables(folder, _SCORES, year, own_place)
    decisions = read_tables(folder, _DECISIONS, year, own_place)
    wanted: dict[ClipPlace, dict[str, tuple[float, bool | None]]] = {}
    for clip in clips:
        place = find_place(year, clip.machine, clip.section, clip.domain)
        wanted.setdefault(place, {})[clip.name] = (float(clip.score), clip.decision)
    found = {
        place: {name: (score, _decision(decisions, place, name)) for name, score in table.values.items()}
        for place, table in scores.items()
    }
    for place in wanted.keys() | found.keys():
        if wanted.get(place) != found.get(place):
            file = folder / file_name(_SCORES.prefix, place, year)
            raise InputError(f"{file}: expected what was written, came something else; check the disk, evaluate again")


def _decision(decisions: Tables[bool], place: ClipPlace, name: str) -> bool | None:
    return decisions[place].values.get(name) if place in decisions else None


def read(folder: Path, year: int, truth: Path | None = None) -> list[ScoredClip]:
    """Read anybody's submission; the clips come sorted by file and name, however the rows lie.

    Without `truth`, labels and domains are read from the development clips' names; evaluation clips have no
    label then. A missing row shows only where the decision file holds it, a missing file not at all: it is said which
    files have no partner.

    With `truth`, a folder as in `truth.read_truth`, its clips and the submission's must be the same. Names and truth
    must agree, and from 2022 on tell the domain.

    Raises InputError for an unknown year, a folder without score files or with another year's, and every
    header, missing, doubled, foreign, unreadable or non-numeric row; it names file, row number and content.
    """
    scores = with_listed_names(read_tables(folder, _SCORES, year))
    decisions = with_listed_names(read_tables(folder, _DECISIONS, year))
    if not scores:
        raise InputError(f"{folder}: expected files {template(_SCORES.prefix, year)}, got none; check the path")
    _expect_places(decisions, scores, "a score file beside it")
    _say_alone(scores, decisions, year, known=truth is not None)
    truths = read_truth(truth, year) if truth else []
    for told in truths:
        _expect_places(scores, told, f"its truth in {truth}")
        _expect_places(told, scores, f"a score file for it in {folder}")
    return [clip for place in scores for clip in _clips(place, scores, decisions, truths, year)]


def _say_alone(scores: Tables[float], decisions: Tables[bool], year: int, *, known: bool) -> None:
    """Which score files have no decision file and, in 2021, none of the section's other domain."""
    alone = [table.path.name for place, table in scores.items() if place not in decisions]
    if alone:
        unseen = "" if known else ", and a missing row would not show without --truth"
        log(f"no decision file, so no precision, recall and F1{unseen}: {', '.join(alone)}")
    if find_rules(year) == 2021 and not known:
        domains = {place: "target" if place.domain == "source" else "source" for place in scores}
        lone = [t.path.name for place, t in scores.items() if place._replace(domain=domains[place]) not in scores]
        if lone:
            log(f"no score file of the section's other domain: {', '.join(lone)}")


def _clips(
    place: ClipPlace, scores: Tables[float], decisions: Tables[bool], truths: list[Tables[YearFacts]], year: int
) -> Iterator[ScoredClip]:
    table, decided = scores[place], decisions.get(place)
    told = [tables[place] for tables in truths]
    for other in [*told, decided or table]:
        _expect_same_clips(table, other)
    for name, score in table.values.items():
        label, domain = _known(name, place, table, told, year)
        decision = decided.values[name] if decided else None
        yield ScoredClip(name, place.machine, place.section, domain, label, score, decision)


def _known(
    name: str, place: ClipPlace, scores: OfficialTable[float], truths: list[OfficialTable[YearFacts]], year: int
) -> tuple[Label | None, Domain | None]:
    """Label and domain from the clip's name, its file's name and the truth, which must agree."""
    told = [YearFacts(place.section, None, place.domain), *(table.values[name] for table in truths)]
    try:
        told.append(find_facts(name, year))
    except ValueError:
        if not truths:
            raise scores.error(name, f"the name of a {year} clip (or --truth for other names)") from None
    sections, labels, domains, _ = ({fact for fact in facts if fact} for facts in zip(*told, strict=True))
    if max(map(len, (sections, labels, domains))) > 1:
        paths = ", ".join(str(table.path) for table in _contradicting(name, truths) or truths)
        raise scores.error(name, f"its name, its file's name and its truth{f' ({paths})' if paths else ''} to agree")
    if truths and not (labels and domains):
        raise scores.error(name, "its label and domain in the truth (ground_truth_data, ground_truth_domain)")
    return next(iter(labels), None), next(iter(domains), None)


def _contradicting(name: str, truths: list[OfficialTable[YearFacts]]) -> list[OfficialTable[YearFacts]]:
    """Return tables that say different things of a clip, one for each."""
    for field in ("section", "label", "domain"):
        tables = {said: table for table in truths if (said := getattr(table.values[name], field))}
        if len(tables) > 1:
            return list(tables.values())
    return []


def _expect_places(given: Tables[Any], wanted: Tables[Any], expected: str) -> None:
    for place, table in given.items():
        if place not in wanted:
            raise InputError(f"{table.path}: expected {expected}, got none; add it or take this file away")


def _expect_same_clips(table: OfficialTable, other: OfficialTable) -> None:
    for name in table.values:
        if name not in other.values:
            raise table.error(name, f"a clip that {other.path} names too")
    for name, (number, _) in other.rows.items():
        if name not in table.values:
            raise InputError(f"{table.path}: expected a row {name!r} ({other.path}, {number}), got none; add it")


def _contents(year: int, clips: Iterable[ScoredClip]) -> dict[str, str]:
    """File name -> text, empty where no clip has a decision."""
    files: dict[str, dict[str, str | None]] = {}
    for clip in clips:
        place = _writable_place(clip, year)
        decision = None if clip.decision is None else str(int(clip.decision))
        for kind, value in ((_SCORES, repr(float(clip.score))), (_DECISIONS, decision)):
            rows = files.setdefault(file_name(kind.prefix, place, year), {})
            if clip.name in rows:
                raise InputError(f"{clip.machine}, clip {clip.name!r}: expected once, got twice; rename one")
            rows[clip.name] = value
    return {file: _text(file, rows) for file, rows in files.items()}


def _writable_place(clip: ScoredClip, year: int) -> ClipPlace:
    """The clip's place, whose file name must read back as the same; names must fit one line of UTF-8."""
    place = find_place(year, clip.machine, clip.section, clip.domain)
    file = file_name(_SCORES.prefix, place, year)
    readable = parse_file_name(file, _SCORES.prefix, year) == place and Path(file).name == file
    if not readable or not (clip.name + file).isprintable():
        raise InputError(f"clip {clip.name!r}: expected names that fit {year}'s files, got {tuple(place)}")
    if not math.isfinite(clip.score):
        raise InputError(f"{file}, clip {clip.name!r}: expected a finite score, got {clip.score}")
    return place


def _text(file: str, rows: Mapping[str, str | None]) -> str:
    if None in rows.values() and any(rows.values()):
        raise InputError(f"{file}: expected a decision for every clip or for none, got some")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([] if None in rows.values() else sorted(rows.items()))
    return text.getvalue()
