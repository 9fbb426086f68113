"""Looks at everything under the roots and finds what is wrong with it; nothing is passed over silently."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from asdjax.data.audio import (
    Decoding,
    convert_remedy,
    converted_length,
    mismatches,
    mix_down,
    read_header,
    read_samples,
    require_channel,
)
from asdjax.data.clips import Clip, Corpus, Domain, Label, Split
from asdjax.data.findings import SEVERITIES, CheckResult, Count, Finding, as_json, format_table
from asdjax.data.formats.header import AudioHeader
from asdjax.data.formats.kinds import DVC
from asdjax.data.layouts import Scan, scan
from asdjax.data.names import as_wav
from asdjax.data.tasks import make_tasks
from asdjax.errors import InputError
from asdjax.runtime.files import sha256_of
from asdjax.runtime.progress import track
from asdjax.runtime.threads import map_in_threads

__all__ = ["CheckResult", "Count", "Finding", "as_json", "check_corpus", "format_table"]

SILENT_PEAK_TO_PEAK = 2 / 32768
"""A clip that moves by no more than this (full scale = 1) is the noise of a converter with no microphone."""


@dataclass(frozen=True, slots=True)
class _Demands:
    """What a clip is held against."""

    how: Decoding
    least_samples: int


@dataclass(frozen=True, slots=True)
class _Report:
    """What one file gave: the SHA-256 of its bytes where they were read, and its findings."""

    digest: str | None
    findings: tuple[Finding, ...]


def check_corpus(
    roots: Sequence[str | Path],
    layout: str = "auto",
    machines: Sequence[str] = (),
    truth: str | Path = "",
    *,
    how: Decoding,
    classes: str,
    least_samples: int,
) -> CheckResult:
    """Look at every clip under `roots`, as `read_corpus` finds them, and collect what is wrong.

    `least_samples` is the least length, at `how.sample_rate_hz`, that a clip can be trained on or scored by;
    `classes` is what `tasks_of` would make classes of.

    Raises InputError only where there is no corpus to check: a root, layout or machine type that is not
    there, a table without the right columns.
    """
    demands = _Demands(how, least_samples)
    found = scan(roots, layout, machines, truth)
    reports = _inspect_all(found.clips, demands)
    findings = [finding for report in reports for finding in report.findings]
    findings += [*_of_names(found), *_of_sections(found), *_of_cells(found), *_of_tasks(found, classes)]
    findings += _duplicates(found.clips, reports)
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), finding.where))
    return CheckResult(found.layout, _counts(found.clips), tuple(findings))


def _counts(clips: Iterable[Clip]) -> tuple[Count, ...]:
    # A Counter keeps the order in which it first saw each key: the corpus's.
    cells: Counter[tuple[str, str, Split, Domain | None, Label | None]] = Counter(
        (c.machine, c.section, c.split, c.domain, c.label) for c in clips
    )
    return tuple(Count(*cell, clips=clips) for cell, clips in cells.items())


def _inspect_all(clips: Sequence[Clip], demands: _Demands) -> list[_Report]:
    reports = map_in_threads(partial(_inspect, clip, demands) for clip in clips)
    return list(track(reports, "check", len(clips), "clip"))


def _inspect(clip: Clip, demands: _Demands) -> _Report:
    digest = None
    try:
        header = read_header(clip.path)
        require_channel(clip.path, header, demands.how.channel)
        digest = _digest(clip.path)
        found = (
            *_of_header(clip, header, demands),
            *_of_samples(clip, read_samples(clip.path, header), demands.how.channel),
        )
        return _Report(digest, found)
    except InputError as error:
        return _Report(digest, (_refused(clip, error),))


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the disk") from error


def _refused(clip: Clip, error: InputError) -> Finding:
    """Take an InputError about a clip apart again: the file, what was got, what to do."""
    what, _, remedy = str(error).removeprefix(f"{clip.path}: ").rpartition("; ")
    return Finding("error", str(clip.path), what, remedy)


def _of_header(clip: Clip, header: AudioHeader, demands: _Demands) -> Iterator[Finding]:
    if different := mismatches(header, demands.how.sample_rate_hz):
        what = f"{', '.join(different)}; expected mono 16-bit PCM at {demands.how.sample_rate_hz} Hz"
        if demands.how.on_mismatch == "error":
            yield Finding("error", str(clip.path), what, convert_remedy(header))
        else:
            yield Finding("note", str(clip.path), what, "nothing to do: it is converted")
    for caution in header.cautions:
        yield Finding("warning", str(clip.path), caution.what, caution.remedy)
    if converted_length(header, demands.how.sample_rate_hz) < demands.least_samples:
        least_s = demands.least_samples / demands.how.sample_rate_hz
        what = f"shorter than a piece: expected {least_s:.2f} s or more"
        yield Finding("error", str(clip.path), what, "remove it, or lower signal.piece_frames")


def _of_samples(clip: Clip, samples: np.ndarray, channel: str) -> Iterator[Finding]:
    if not np.isfinite(samples).all():
        what = "holds samples that are NaN or infinite"
        yield Finding("error", str(clip.path), what, "record or export it again")
        return
    heard = mix_down(samples, channel)
    if np.ptp(heard) <= SILENT_PEAK_TO_PEAK:
        yield Finding("warning", str(clip.path), "silent", "remove it, and look at the microphone")
    if samples.dtype.kind == "f" and (beyond := np.mean(np.abs(heard) > 1)):
        what = f"{max(100 * beyond, 0.01):.2f} % of its samples lie beyond full scale and are clipped"
        yield Finding("warning", str(clip.path), what, "export it again at a lower level")


def _of_names(found: Scan) -> Iterator[Finding]:
    for where, why in found.unparsed:
        remedy = "correct or remove the line" if found.layout == "manifest" else "rename or remove it"
        yield Finding("error", where, why, remedy)
    for one, other in found.twins:
        where, what = f"{other.place} = {one.place}", "same machine type, section and name"
        yield Finding("error", where, what, "rename or remove one, or leave out one root")
    yield from _formats_of_one_name(found.clips)
    for path in found.left_out:
        if path.suffix == ".dvc":
            yield Finding("warning", str(path), DVC.name, DVC.remedy)
        else:
            yield Finding("note", str(path), "not part of the layout: left out", "nothing to do if it should be")


def _formats_of_one_name(clips: Iterable[Clip]) -> Iterator[Finding]:
    """Files that a manifest lists as clips of their own though only their formats differ in name."""
    seen: dict[tuple[str, Path], Clip] = {}
    for clip in clips:
        first = seen.setdefault((clip.machine, clip.path.parent / as_wav(clip.path.name)), clip)
        if first.name != clip.name:
            what = "the same name in two formats: they count as two clips"
            yield Finding("warning", f"{clip.place} = {first.place}", what, "remove one if it is the same recording")


def _of_sections(found: Scan) -> Iterator[Finding]:
    sections = defaultdict(list)
    for clip in found.clips:
        sections[clip.machine, clip.section].append(clip)
    for (machine, section), clips in sections.items():
        where = f"{machine} section {section}"
        train = [clip for clip in clips if clip.split == "train"]
        if not train:
            what = "no training clips: its test clips cannot be scored"
            yield Finding("warning", where, what, "add the training data, or leave the section out")
        elif all(clip.domain == "target" for clip in train):
            what = "no source training clips, only target ones: phase 1 does without this section"
            yield Finding("warning", where, what, "add source training clips, or leave the section out")
        elif not any(clip.domain == "target" for clip in train):
            yield Finding("note", where, "no target training clips", "phase 2 does without this section")


def _of_tasks(found: Scan, classes: str) -> Iterator[Finding]:
    """What would stop training though every file is as it should be."""
    try:
        make_tasks(Corpus(found.layout, found.clips), classes)
    except InputError as error:
        what, _, remedy = str(error).rpartition("; ")
        yield Finding("error", "training", what, remedy)


def _of_cells(found: Scan) -> Iterator[Finding]:
    """Test cells on which no AUC is defined; from 2022 a cell has the anomalies of both domains."""
    labels = defaultdict(set)
    for clip in found.clips:
        if clip.split == "test" and clip.label is not None:
            labels[clip.machine, clip.section, clip.domain].add(clip.label)
    for (machine, section, domain), own in labels.items():
        both = set().union(*(labels[key] for key in labels if key[:2] == (machine, section)))
        seen = own | (both & {"anomaly"}) if found.layout == "dcase2022" else own
        if len(seen) == 1:
            where = f"{machine} section {section} {domain or 'no domain'} test"
            what = f"only {next(iter(seen))} clips: AUC and pAUC are undefined"
            yield Finding("warning", where, what, "add clips of the other class, or read the rest of the table")


def _duplicates(clips: Sequence[Clip], reports: Sequence[_Report]) -> Iterator[Finding]:
    alike = defaultdict(list)
    for clip, report in zip(clips, reports, strict=True):
        if report.digest is not None:
            alike[report.digest].append(clip)
    for same in alike.values():
        seen: dict[tuple[str, str, Split], Clip] = {}
        for clip in same:
            if seen:
                yield _duplicate(clip, seen.values())
            seen.setdefault((clip.machine, clip.section, clip.split), clip)


def _duplicate(clip: Clip, others: Iterable[Clip]) -> Finding:
    """A clip whose contents others have too, beside the one with which that is worst."""

    def same_section(other: Clip) -> bool:
        return (other.machine, other.section) == (clip.machine, clip.section)

    other = min(others, key=lambda other: (other.split == clip.split, same_section(other)))
    where = f"{clip.place} = {other.place}"
    if other.split != clip.split:
        what = "same contents among training and test clips: its score means nothing"
        return Finding("error", where, what, "remove one")
    if clip.split == "train" and not same_section(other):
        what = "same contents among the training clips of two sections, which are to be told apart"
        return Finding("error", where, what, "remove the one that is not where it belongs")
    return Finding("warning", where, "same contents twice", "remove one")
