"""Check of a corpus: every clip is read, and everything wrong with the files, names and sections is collected."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from asdjax.data.audio import (
    OVERLOADED_SHARE,
    Decoding,
    compute_overload,
    convert_remedy,
    converted_length,
    is_silent,
    mismatches,
    mix_down,
    read_header,
    read_samples,
    require_channel,
)
from asdjax.data.clips import Clip, Corpus, Domain, Label, Split
from asdjax.data.findings import SEVERITIES, CheckResult, Count, Finding
from asdjax.data.formats.header import AudioHeader
from asdjax.data.formats.kinds import DVC
from asdjax.data.layouts import Scan
from asdjax.data.names import to_wav_name
from asdjax.data.tasks import divide
from asdjax.errors import InputError
from asdjax.runtime.files import compute_sha256
from asdjax.runtime.progress import track
from asdjax.runtime.threads import map_in_threads


@dataclass(frozen=True, slots=True)
class _FileReport:
    """Result for one file: the SHA-256 of its bytes, None if it cannot be read, and its findings."""

    digest: str | None
    findings: tuple[Finding, ...]


def check_corpus(
    found: Scan, decoding: Decoding, *, classes: str, least_samples: int, threshold_per: str
) -> CheckResult:
    """Check every clip of a scan, and collect the findings.

    `classes` is the value of config.data.classes for `make_tasks`. `least_samples` is the length that training and
    scoring need, at `decoding.sample_rate_hz`. `threshold_per` is that of config.evaluate.
    """
    reports = _inspect_all(found.clips, decoding, least_samples)
    findings = [finding for report in reports for finding in report.findings]
    findings += [
        *_check_names(found),
        *_check_sections(found, threshold_per),
        *_check_test_cells(found),
        *_check_tasks(found, classes),
    ]
    findings += _find_duplicates(found, reports)
    findings.sort(key=lambda finding: (SEVERITIES.index(finding.severity), finding.where))
    return CheckResult(found.layout, _count_clips(found.clips), tuple(findings))


def _count_clips(clips: Iterable[Clip]) -> tuple[Count, ...]:
    # A Counter keeps the order in which it first saw each key, here the corpus's.
    cells: Counter[tuple[str, str, Split, Domain | None, Label | None]] = Counter(
        (clip.machine, clip.section, clip.split, clip.domain, clip.label) for clip in clips
    )
    return tuple(Count(*cell, clips=number) for cell, number in cells.items())


def _inspect_all(clips: Sequence[Clip], decoding: Decoding, least_samples: int) -> list[_FileReport]:
    reports = map_in_threads(partial(_inspect, clip, decoding, least_samples) for clip in clips)
    return list(track(reports, "check", len(clips), "clip"))


def _inspect(clip: Clip, decoding: Decoding, least_samples: int) -> _FileReport:
    digest = None
    try:
        header = read_header(clip.path)
        require_channel(clip.path, header.channels, decoding.channel)
        digest = _compute_digest(clip.path)
        findings = (
            *_check_header(clip, header, decoding, least_samples),
            *_check_samples(clip, read_samples(clip.path, header), decoding.channel),
        )
        return _FileReport(digest, findings)
    except InputError as error:
        return _FileReport(digest, (_to_finding(error, str(clip.path), clip.machine),))


def _compute_digest(path: Path) -> str:
    try:
        return compute_sha256(path)
    except OSError as error:
        raise InputError(f"{path}: expected a readable file, got {error.strerror}; check the disk") from error


def _to_finding(error: InputError, where: str, machine: str) -> Finding:
    """Split the message of an error into the place, the problem and the remedy."""
    what, _, remedy = str(error).removeprefix(f"{where}: ").rpartition("; ")
    return Finding("error", where, what, remedy, machine)


def _check_header(clip: Clip, header: AudioHeader, decoding: Decoding, least_samples: int) -> Iterator[Finding]:
    if different := mismatches(header, decoding.sample_rate_hz):
        what = f"{', '.join(different)}; expected mono 16-bit PCM at {decoding.sample_rate_hz} Hz"
        if decoding.on_mismatch == "error":
            yield Finding("error", str(clip.path), what, convert_remedy(header), clip.machine)
        else:
            yield Finding("note", str(clip.path), what, "nothing to do: it is converted", clip.machine)
    for caution in header.cautions:
        yield Finding("warning", str(clip.path), caution.what, caution.remedy, clip.machine)
    if converted_length(header, decoding.sample_rate_hz) < least_samples:
        what = f"shorter than a piece: expected {least_samples / decoding.sample_rate_hz:.2f} s or more"
        yield Finding("error", str(clip.path), what, "remove it, or lower signal.piece_frames", clip.machine)


def _check_samples(clip: Clip, samples: np.ndarray, channel: str) -> Iterator[Finding]:
    if not np.isfinite(samples).all():
        what = "expected finite samples, got NaN or infinite ones"
        yield Finding("error", str(clip.path), what, "record or export it again", clip.machine)
        return
    mono = mix_down(samples, channel)
    if is_silent(mono):
        yield Finding("warning", str(clip.path), "silent", "remove it, and check the microphone", clip.machine)
    overload = compute_overload(mono)
    if overload >= OVERLOADED_SHARE or (samples.dtype.kind == "f" and np.abs(mono).max() > 1):
        what = f"{max(100 * overload, 0.01):.2f} % of its samples are at full scale or beyond, where they are clipped"
        yield Finding("warning", str(clip.path), what, "record or export it again at a lower level", clip.machine)


def _check_names(found: Scan) -> Iterator[Finding]:
    for where, why, machine in found.unparsed:
        remedy = "correct or remove the line" if found.layout == "manifest" else "rename or remove it"
        yield Finding("error", where, why, remedy, machine)
    for one, other in found.twins:
        where, what = f"{other.place} = {one.place}", "same machine type, section and name"
        yield Finding("error", where, what, "rename or remove one, or leave out one root", one.machine)
    yield from _find_format_twins(found.clips)
    for path in found.left_out:
        if path.suffix == ".dvc":
            yield Finding("warning", str(path), DVC.name, DVC.remedy, "")
        else:
            what = "not part of the layout: left out"
            yield Finding("note", str(path), what, "nothing to do if that is intended", "")


def _find_format_twins(clips: Iterable[Clip]) -> Iterator[Finding]:
    """Yield a warning for clips of a manifest whose names differ only in their endings."""
    seen: dict[tuple[str, Path], Clip] = {}
    for clip in clips:
        first = seen.setdefault((clip.machine, clip.path.parent / to_wav_name(clip.path.name)), clip)
        if first.name != clip.name:
            what = "the same name in two formats: they count as two clips"
            yield Finding(
                "warning", f"{clip.place} = {first.place}", what, "remove one if it is the same recording", clip.machine
            )


def _check_sections(found: Scan, threshold_per: str) -> Iterator[Finding]:
    sections = defaultdict(list)
    for clip in found.clips:
        sections[clip.machine, clip.section].append(clip)
    for (machine, section), clips in sections.items():
        where = f"{machine} section {section}"
        train = [clip for clip in clips if clip.split == "train"]
        if not train:
            what = "no training clips: its test clips cannot be scored"
            yield Finding("warning", where, what, "add the training data, or leave the section out", machine)
        elif all(clip.domain == "target" for clip in train):
            what = "no source training clips, only target ones: phase 1 skips this section"
            yield Finding("warning", where, what, "add source training clips, or leave the section out", machine)
        elif not any(clip.domain == "target" for clip in train):
            what = "no target training clips"
            yield Finding("note", where, what, "nothing to do: phase 2 skips this section", machine)
        if len(train) == 1 and threshold_per != "machine":
            what = "one training clip: the section gets no threshold, as clips are scored against others"
            remedy = "add training clips, leave the section out, or evaluate with config.evaluate.threshold_per=machine"
            yield Finding("warning", where, what, remedy, machine)


def _check_tasks(found: Scan, classes: str) -> Iterator[Finding]:
    """Yield the errors that would stop training although every file is in order, and machine types without models."""
    try:
        division = divide(Corpus(found.layout, found.clips), classes)
    except InputError as error:
        yield _to_finding(error, "training", "")
        return
    for machine, error in division.refused.items():
        yield _to_finding(error, "training", machine)
    for task in division.tasks:
        if not task.has_models:
            what, remedy = task.explain_no_models()
            yield Finding("warning", f"training of {task.name}", what, remedy, task.machines[0])


def _check_test_cells(found: Scan) -> Iterator[Finding]:
    """Yield a warning for each test cell without a defined AUC. From 2022 a cell has both domains' anomalies."""
    labels = defaultdict(set)
    for clip in found.clips:
        if clip.split == "test" and clip.label is not None:
            labels[clip.machine, clip.section, clip.domain].add(clip.label)
    for (machine, section, domain), cell_labels in labels.items():
        section_labels = set().union(*(labels[key] for key in labels if key[:2] == (machine, section)))
        seen = cell_labels | (section_labels & {"anomaly"}) if found.layout == "dcase2022" else cell_labels
        if len(seen) == 1:
            where = f"{machine} section {section} {domain or 'no domain'} test"
            what = f"only {next(iter(seen))} clips: AUC and pAUC are undefined"
            yield Finding("warning", where, what, "add clips of the other class, or ignore this cell", machine)


def _find_duplicates(found: Scan, reports: Sequence[_FileReport]) -> Iterator[Finding]:
    """Yield a finding for each clip with the contents of an earlier one, unless they are twins, which is an error."""
    twins = frozenset(found.twins)
    by_digest = defaultdict(list)
    for clip, report in zip(found.clips, reports, strict=True):
        if report.digest is not None:
            by_digest[report.digest].append(clip)
    for same in by_digest.values():
        seen: dict[tuple[str, str, Split], Clip] = {}
        for clip in same:
            first = seen.setdefault((clip.machine, clip.section, clip.split), clip)
            if len(seen) > 1 or (first is not clip and (first, clip) not in twins):
                yield _make_duplicate_finding(clip, [other for other in seen.values() if other is not clip])


def _make_duplicate_finding(clip: Clip, others: Iterable[Clip]) -> Finding:
    """Return the worst finding about a clip that has the same contents as each of `others`."""

    def same_section(other: Clip) -> bool:
        return (other.machine, other.section) == (clip.machine, clip.section)

    other = min(others, key=lambda other: (other.split == clip.split, same_section(other)))
    where = f"{clip.place} = {other.place}"
    if other.split != clip.split:
        what = "same contents among training and test clips: its score is meaningless"
        return Finding("error", where, what, "remove one", clip.machine)
    if clip.split == "train" and not same_section(other):
        what = "same contents among the training clips of two sections, which a model has to distinguish"
        return Finding("error", where, what, "remove the one in the wrong section", clip.machine)
    return Finding("warning", where, "same contents twice", "remove one", clip.machine)
