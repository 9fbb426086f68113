"""Submissions in the challenge's format: score and decision files, joined with truth by clip name.

A submission is a folder of `anomaly_score_<place>.csv` and `decision_result_<place>.csv` with rows `clip name,value`
and no header. There is one pair of files per place: machine type and section, in 2021 also domain.
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
from asdjax.inference.scored_clip import ScoredClip
from asdjax.runtime.files import replace_text
from asdjax.runtime.progress import log

_SCORES = OfficialKind("anomaly_score", finite, "name,score with a finite number")
_DECISIONS = OfficialKind("decision_result", code(False, True), "name,decision with 0 or 1")


def write(folder: Path, year: int, clips: Iterable[ScoredClip]) -> None:
    """Write a submission, with rows sorted by name and scores that read back bit-equal.

    Each file is written completely or not at all. If clips have no decisions, an older decision file is removed.
    Raises InputError, before anything is written, for an unknown year, a repeated clip name or a score that is not
    finite. The same holds for decisions on only some clips of a file, an unknown domain in 2021, and names that no file
    can hold.
    """
    files = _format_files(year, clips)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if text:
            replace_text(folder / name, text)
        else:
            (folder / name).unlink(missing_ok=True)


def verify(folder: Path, year: int, clips: Iterable[ScoredClip]) -> None:
    """Read a submission back and compare every file, row and value with its clips, by name.

    Raises InputError, naming the file, if it differs from what was written.
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
            raise InputError(f"{file}: expected what was written, got other content; check the disk and evaluate again")


def _decision(decisions: Tables[bool], place: ClipPlace, name: str) -> bool | None:
    return decisions[place].values.get(name) if place in decisions else None


def read(folder: Path, year: int, truth: Path | None = None) -> list[ScoredClip]:
    """Read a submission of any system; the clips are sorted by file and name.

    Without `truth`, labels and domains come from the names of development clips; evaluation clips then have no label. A
    missing row is noticed only if the decision file has it, and a missing file is not noticed. Files without their
    counterpart are logged.

    With `truth`, a folder as in `truth.read_truth`, its clips and the submission's must be the same. Names and truth
    must agree, and from 2022 on they must give the domain.

    Raises InputError for an unknown year, and for a folder without score files or with files of another year. It also
    does for a header, and for a missing, repeated, foreign, unreadable or non-numeric row, with file, row and content.
    """
    scores = with_listed_names(read_tables(folder, _SCORES, year))
    decisions = with_listed_names(read_tables(folder, _DECISIONS, year))
    if not scores:
        raise InputError(f"{folder}: expected files {template(_SCORES.prefix, year)}, got none; check the path")
    _expect_places(decisions, scores, "a score file for it")
    _log_single_files(scores, decisions, year, known=truth is not None)
    truths = read_truth(truth, year) if truth else []
    for tables in truths:
        _expect_places(scores, tables, f"its truth in {truth}")
        _expect_places(tables, scores, f"a score file for it in {folder}")
    return [clip for place in scores for clip in _join(place, scores, decisions, truths, year)]


def _log_single_files(scores: Tables[float], decisions: Tables[bool], year: int, *, known: bool) -> None:
    """Log the score files without a decision file and, in 2021, those without the section's other domain."""
    single = [table.path.name for place, table in scores.items() if place not in decisions]
    if single:
        caution = "" if known else ", and a missing row is not noticed without truth files"
        log(f"no decision file, so no precision, recall and F1{caution}: {', '.join(single)}")
    if find_rules(year) == 2021 and not known:
        domains = {place: "target" if place.domain == "source" else "source" for place in scores}
        single = [t.path.name for place, t in scores.items() if place._replace(domain=domains[place]) not in scores]
        if single:
            log(f"no score file of the section's other domain: {', '.join(single)}")


def _join(
    place: ClipPlace, scores: Tables[float], decisions: Tables[bool], truths: list[Tables[YearFacts]], year: int
) -> Iterator[ScoredClip]:
    """Yield the clips of a place with score, decision, label and domain."""
    table, decided = scores[place], decisions.get(place)
    place_truths = [tables[place] for tables in truths]
    for other in [*place_truths, decided or table]:
        _expect_same_clips(table, other)
    for name, score in table.values.items():
        label, domain = _find_label(name, place, table, place_truths, year)
        decision = decided.values[name] if decided else None
        yield ScoredClip(name, place.machine, place.section, domain, label, score, decision)


def _find_label(
    name: str, place: ClipPlace, scores: OfficialTable[float], truths: list[OfficialTable[YearFacts]], year: int
) -> tuple[Label | None, Domain | None]:
    """Return label and domain from the clip's name, its file's name and the truth, which must agree."""
    facts = [YearFacts(place.section, None, place.domain), *(table.values[name] for table in truths)]
    try:
        facts.append(find_facts(name, year))
    except ValueError:
        if not truths:
            raise scores.error(name, f"the name of a {year} clip (or truth files for other names)") from None
    sections, labels, domains, _ = ({fact for fact in column if fact} for column in zip(*facts, strict=True))
    if max(map(len, (sections, labels, domains))) > 1:
        paths = ", ".join(str(table.path) for table in _find_contradiction(name, truths) or truths)
        raise scores.error(name, f"its name, its file's name and its truth{f' ({paths})' if paths else ''} to agree")
    if truths and not (labels and domains):
        raise scores.error(name, "its label and domain in the truth (ground_truth_data, ground_truth_domain)")
    return next(iter(labels), None), next(iter(domains), None)


def _find_contradiction(name: str, truths: list[OfficialTable[YearFacts]]) -> list[OfficialTable[YearFacts]]:
    """Return one truth table for each of the different values that they have for a clip."""
    for field in ("section", "label", "domain"):
        tables = {value: table for table in truths if (value := getattr(table.values[name], field))}
        if len(tables) > 1:
            return list(tables.values())
    return []


def _expect_places(given: Tables[Any], wanted: Tables[Any], expected: str) -> None:
    for place, table in given.items():
        if place not in wanted:
            raise InputError(f"{table.path}: expected {expected}, got none; add it or remove this file")


def _expect_same_clips(table: OfficialTable, other: OfficialTable) -> None:
    for name in table.values:
        if name not in other.values:
            raise table.error(name, f"a clip that {other.path} has too")
    for name, (number, _) in other.rows.items():
        if name not in table.values:
            raise InputError(f"{table.path}: expected a row {name!r} ({other.path}, {number}), got none; add it")


def _format_files(year: int, clips: Iterable[ScoredClip]) -> dict[str, str]:
    """Return the text of each file by name; it is empty if no clip has a decision."""
    files: dict[str, dict[str, str | None]] = {}
    for clip in clips:
        place = _find_writable_place(clip, year)
        decision = None if clip.decision is None else str(int(clip.decision))
        for kind, value in ((_SCORES, repr(float(clip.score))), (_DECISIONS, decision)):
            rows = files.setdefault(file_name(kind.prefix, place, year), {})
            if clip.name in rows:
                raise InputError(f"{clip.machine}, clip {clip.name!r}: expected once, got twice; rename one")
            rows[clip.name] = value
    return {file: _format_rows(file, rows) for file, rows in files.items()}


def _find_writable_place(clip: ScoredClip, year: int) -> ClipPlace:
    """Return the clip's place.

    Raises InputError if its file name does not parse back to the place, or a name does not fit one line of UTF-8.
    """
    place = find_place(year, clip.machine, clip.section, clip.domain)
    file = file_name(_SCORES.prefix, place, year)
    readable = parse_file_name(file, _SCORES.prefix, year) == place and Path(file).name == file
    if not readable or not (clip.name + file).isprintable():
        raise InputError(f"clip {clip.name!r}: expected names that fit {year}'s files, got {tuple(place)}")
    if not math.isfinite(clip.score):
        raise InputError(f"{file}, clip {clip.name!r}: expected a finite score, got {clip.score}")
    return place


def _format_rows(file: str, rows: Mapping[str, str | None]) -> str:
    if None in rows.values() and any(rows.values()):
        raise InputError(f"{file}: expected a decision for every clip or for none, got some; add or remove decisions")
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([] if None in rows.values() else sorted(rows.items()))
    return text.getvalue()
