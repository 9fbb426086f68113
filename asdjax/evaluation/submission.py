"""The challenge's files: scores and decisions written and read, truth joined, everything matched by name.

A submission is a folder of `anomaly_score_<place>.csv` and `decision_result_<place>.csv`, headerless rows
`clip name,value`, one pair of files per place: machine type and section, in 2021 also domain.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from asdjax.corpus.clips import Domain, Label
from asdjax.errors import InputError
from asdjax.evaluation.metrics import ScoredClip, rules_of
from asdjax.files import replace_text

_PLACES = {
    2020: "{machine}_id_{section}",
    2021: "{machine}_section_{section}_{domain}_test",
    2022: "{machine}_section_{section}_test",
}
_SECTION, _DOMAIN, _LABEL = "(?P<section>[^_]+)", "(?P<domain>source|target)", "(?P<label>normal|anomaly)"
_CLIP_PATTERNS = {
    2020: re.compile(rf"({_LABEL}_)?id_{_SECTION}_\d+\.wav"),
    2021: re.compile(rf"section_{_SECTION}_{_DOMAIN}_test(_{_LABEL})?_\d+(_.+)?\.wav"),
    2022: re.compile(rf"section_{_SECTION}(_{_DOMAIN}_test_{_LABEL}|_test)?_\d+(_.+)?\.wav"),
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
        return _row_error(self.path, *self.rows[name], expected)


type _Tables[T] = dict[Place, Table[T]]


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def _code[T](zero: T, one: T) -> Callable[[str], T]:
    return lambda text: {0.0: zero, 1.0: one}[_finite(text)]


def _facts(name: str, year: int) -> Facts:
    match = _CLIP_PATTERNS[rules_of(year)].fullmatch(name)
    if match is None:
        raise ValueError(name)
    told = match.groupdict()
    return Facts(told["section"], cast(Label | None, told["label"]), cast(Domain | None, told.get("domain")))


_SCORES = Kind("anomaly_score", _finite, "name,score with a finite number")
_DECISIONS = Kind("decision_result", _code(False, True), "name,decision with 0 or 1")
_TRUTH = "ground_truth"
_TRUTHS = {
    f"{_TRUTH}_data": Kind(_TRUTH, _code(Facts(None, "normal"), Facts(None, "anomaly")), "name,label with 0 or 1"),
    f"{_TRUTH}_domain": Kind(_TRUTH, _code(Facts(domain="source"), Facts(domain="target")), "name,domain with 0 or 1"),
    f"{_TRUTH}_attributes": Kind(_TRUTH, lambda stem: _facts(f"{stem}.wav", 2022), "name,full name"),
}


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


def read(folder: Path, year: int, truth: Path | None = None) -> list[ScoredClip]:
    """Read anybody's submission; the clips come sorted by file and name, however the rows lie.

    Without `truth`, labels and domains are read from the development clips' names; evaluation clips have no
    label then. A missing row shows only where the decision file holds it.

    With `truth`, its clips and the submission's must be the same. It is a folder of
    `ground_truth_<place>.csv` with rows `name,0` (normal) or `name,1` (anomaly), or the folder above
    `ground_truth_data` (the same rows), `ground_truth_domain` (0 source, 1 target) and
    `ground_truth_attributes` (`name,full name` without .wav); any one of these three stands for the folder
    above it. Names and truth must agree, and from 2022 on tell the domain.

    Raises InputError for an unknown year, a folder without score files or with another year's, and every
    header, missing, doubled, foreign, unreadable or non-numeric row; it names file, row number and content.
    """
    scores = _tables(folder, _SCORES, year)
    decisions = _tables(folder, _DECISIONS, year)
    if not scores:
        raise InputError(f"{folder}: expected files {_template(_SCORES.prefix, year)}, got none; check the path")
    _expect_places(decisions, scores, "a score file beside it")
    truths = [_tables(place, kind, year) for place, kind in _truth_folders(truth)] if truth else []
    for told in truths:
        _expect_places(scores, told, f"its truth in {truth}")
        _expect_places(told, scores, f"a score file for it in {folder}")
    return [clip for place in scores for clip in _clips(place, scores, decisions, truths, year)]


def _clips(
    place: Place, scores: _Tables[float], decisions: _Tables[bool], truths: list[_Tables[Facts]], year: int
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
    name: str, place: Place, scores: Table[float], truths: list[Table[Facts]], year: int
) -> tuple[Label | None, Domain | None]:
    """Label and domain from the clip's name, its file's name and the truth, which must agree."""
    told = [Facts(place.section, None, place.domain), *(table.values[name] for table in truths)]
    try:
        told.append(_facts(name, year))
    except ValueError:
        if not truths:
            raise scores.error(name, f"the name of a {year} clip (or --truth for other names)") from None
    sections, labels, domains = ({fact for fact in facts if fact} for facts in zip(*told, strict=True))
    if max(map(len, (sections, labels, domains))) > 1:
        raise scores.error(name, "its name, its file's name and its truth to agree")
    if truths and not (labels and domains):
        raise scores.error(name, "its label and domain in the truth (ground_truth_data, ground_truth_domain)")
    return next(iter(labels), None), next(iter(domains), None)


def _truth_folders(truth: Path) -> list[tuple[Path, Kind[Facts]]]:
    base = truth.parent if truth.name in _TRUTHS else truth
    present = [(base / name, kind) for name, kind in _TRUTHS.items() if (base / name).is_dir()]
    return present or [(truth, _TRUTHS[f"{_TRUTH}_data"])]


def _expect_places(given: _Tables[Any], wanted: _Tables[Any], expected: str) -> None:
    for place, table in given.items():
        if place not in wanted:
            raise InputError(f"{table.path}: expected {expected}, got none; add it or take this file away")


def _expect_same_clips(table: Table, other: Table) -> None:
    for name in table.values:
        if name not in other.values:
            raise table.error(name, f"a clip that {other.path} names too")
    for name, (number, _) in other.rows.items():
        if name not in table.values:
            raise InputError(f"{table.path}: expected a row {name!r} ({other.path}, {number}), got none; add it")


def _tables[T](folder: Path, kind: Kind[T], year: int) -> _Tables[T]:
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of {kind.prefix} files, got no folder; check the path")
    return {_place(path, kind.prefix, year): _table(path, kind) for path in sorted(folder.glob(f"{kind.prefix}_*.csv"))}


def _place(path: Path, prefix: str, year: int) -> Place:
    places = {rules: _parse(path.name, prefix, rules) for rules in _PLACES}
    place = places[rules_of(year)]
    if place is None:
        came = next((f"one of {rules}" for rules in places if places[rules]), "another name")
        raise InputError(f"{path}: expected a file {_template(prefix, year)}, got {came}; check --year")
    return place


def _parse(file: str, prefix: str, year: int) -> Place | None:
    pattern = _template(prefix, year).format(machine="(?P<machine>.+)", section=_SECTION, domain=_DOMAIN)
    match = re.fullmatch(pattern, file)
    return _place_of(year, **match.groupdict()) if match else None


def _place_of(year: int, machine: str, section: str, domain: str | None = None) -> Place:
    named = {2020: "source", 2021: domain, 2022: None}[rules_of(year)]
    return Place(machine, section, cast(Domain | None, named))


def _template(prefix: str, year: int) -> str:
    return f"{prefix}_{_PLACES[rules_of(year)]}.csv"


def _file(prefix: str, place: Place, year: int) -> str:
    return _template(prefix, year).format(**place._asdict())


def _table[T](path: Path, kind: Kind[T]) -> Table[T]:
    values: dict[str, T] = {}
    rows: dict[str, tuple[int, str]] = {}
    for number, fields in _records(path):
        text = ",".join(fields)
        try:
            name, value = fields
            parsed = kind.parse(value)
        except (KeyError, ValueError):
            header = " and no header line" if number == 1 and ".wav" not in text else ""
            raise _row_error(path, number, text, kind.expected + header) from None
        if name in rows:
            raise _row_error(path, number, text, f"each clip once (row {rows[name][0]} has it)")
        values[name], rows[name] = parsed, (number, text)
    if not rows:
        raise InputError(f"{path}: expected rows {kind.expected}, got an empty file; fill or remove it")
    return Table(path, dict(sorted(values.items())), rows)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Row number and fields of each line that is not empty."""
    try:
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""), strict=True)
        yield from ((reader.line_num, fields) for fields in reader if fields)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: expected rows name,value in UTF-8, got {error}; write it anew") from error


def _row_error(path: Path, number: int, text: str, expected: str) -> InputError:
    return InputError(f"{path}, row {number}: expected {expected}, got {text!r}; mend or remove this row")


def _contents(year: int, clips: Iterable[ScoredClip]) -> dict[str, str]:
    """File name -> text, empty where no clip has a decision."""
    files: dict[str, dict[str, str | None]] = {}
    for clip in clips:
        place = _writable_place(clip, year)
        decision = None if clip.decision is None else str(int(clip.decision))
        for kind, value in ((_SCORES, repr(float(clip.score))), (_DECISIONS, decision)):
            rows = files.setdefault(_file(kind.prefix, place, year), {})
            if clip.name in rows:
                raise InputError(f"{clip.machine}, clip {clip.name!r}: expected once, got twice; rename one")
            rows[clip.name] = value
    return {file: _text(file, rows) for file, rows in files.items()}


def _writable_place(clip: ScoredClip, year: int) -> Place:
    """The clip's place, whose file name must read back as the same; names must fit one line of UTF-8."""
    place = _place_of(year, clip.machine, clip.section, clip.domain)
    file = _file(_SCORES.prefix, place, year)
    readable = _parse(file, _SCORES.prefix, year) == place and Path(file).name == file
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
