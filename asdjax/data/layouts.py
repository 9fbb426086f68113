"""Readers of data folders: each known layout becomes the same table of clips."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from asdjax.data.clip_folders import ClipFolder, find_clip_folders, find_machine_folders, recognize_layout
from asdjax.data.clip_lists import MANIFEST, read_attributes, read_manifest
from asdjax.data.clips import Clip, Corpus, Layout, Unparsed
from asdjax.data.exclusions import find_excluded
from asdjax.data.names import EXPECTED, parse_name, to_wav_name
from asdjax.data.roots import comma_hint, locate_roots
from asdjax.data.truth import join_truth
from asdjax.errors import InputError
from asdjax.runtime.paths import compose, find_spelling


@dataclass(frozen=True, slots=True)
class Scan:
    """Contents of the roots.

    Attributes
    ----------
    layout, clips
        The layout and the clips in the order of a `Corpus`.
    unparsed
        Recordings and table rows that give no clip.
    twins
        Pairs of clips with the same machine type, section and name.
    left_out
        Files and folders that the layout does not use.
    """

    layout: Layout
    clips: tuple[Clip, ...]
    unparsed: tuple[Unparsed, ...]
    twins: tuple[tuple[Clip, Clip], ...]
    left_out: tuple[Path, ...]


def read_corpus(
    roots: Sequence[str | Path],
    layout: str = "auto",
    machines: Sequence[str] = (),
    truth: str | Path = "",
    exclude: str | Path = "",
) -> Corpus:
    """Read all clips under `roots`, or those of `machines` if any are named.

    Parameters
    ----------
    roots
        Folders that each hold one folder per machine type, or a manifest.csv. Several are merged (dev_data,
        eval_data).
    layout
        "dcase2020", "dcase2021", "dcase2022" (2022 and later), "manifest", or "auto" to recognize it by folder and
        file names. Training clips of 2021 and 2022 look alike: "auto" takes them as 2022 if there is an
        attributes_NN.csv.
    machines
        Machine types to keep; empty for all.
    truth
        A folder for `truth.read_truth`; its labels are added to unlabelled clips.
    exclude
        A file for `exclusions.find_excluded`, which names recordings to leave out.

    Raises
    ------
    InputError
        For a root without machine types, an unknown machine type or layout, roots of different layouts, a name that
        does not parse, or a clip that occurs twice.
    """
    found = scan(roots, layout, machines, truth, exclude)
    if error := _find_error(found.unparsed, found.twins):
        raise error
    return Corpus(found.layout, found.clips)


def find_name_errors(found: Scan) -> dict[str, InputError]:
    """Return the first error of each machine type with a name that does not parse or a clip that occurs twice.

    Raises InputError for a row of a table whose machine type is unknown.
    """
    unparsed: dict[str, list[Unparsed]] = defaultdict(list)
    twins: dict[str, list[tuple[Clip, Clip]]] = defaultdict(list)
    for one in found.unparsed:
        unparsed[one.machine].append(one)
    for pair in found.twins:
        twins[pair[0].machine].append(pair)
    errors = {
        machine: error
        for machine in sorted({*unparsed, *twins})
        if (error := _find_error(unparsed[machine], twins[machine]))
    }
    if "" in errors:
        raise errors[""]
    return errors


def select_machines(found: Scan, machines: Sequence[str]) -> Scan:
    """Return the contents that belong to some machine types, or to none."""
    wanted = frozenset(machines)
    return replace(
        found,
        clips=tuple(clip for clip in found.clips if clip.machine in wanted),
        unparsed=tuple(one for one in found.unparsed if one.machine in wanted | {""}),
        twins=tuple(pair for pair in found.twins if pair[0].machine in wanted),
    )


def _find_error(unparsed: Sequence[Unparsed], twins: Sequence[tuple[Clip, Clip]]) -> InputError | None:
    if unparsed:
        others = f" (and {len(unparsed) - 1} more)" if len(unparsed) > 1 else ""
        return InputError(f"{unparsed[0].where}{others}: {unparsed[0].why}; `asdjax check` lists them all")
    if twins:
        one, other = twins[0]
        return InputError(
            f"{other.place}: the same machine type, section and name as {one.place} "
            f"({len(twins)} such); remove or rename one, or leave out one root"
        )
    return None


def scan(
    roots: Sequence[str | Path],
    layout: str = "auto",
    machines: Sequence[str] = (),
    truth: str | Path = "",
    exclude: str | Path = "",
) -> Scan:
    """Scan the roots like `read_corpus`, but return unparsed names and twins instead of raising an error."""
    if layout not in ("auto", *get_args(Layout)):
        raise InputError(f"data.layout: expected auto or {', '.join(get_args(Layout))}, got {layout!r}; correct it")
    paths = locate_roots(roots)
    if layout == "manifest" or (layout == "auto" and any((root / MANIFEST).is_file() for root in paths)):
        found = _scan_manifests(paths, machines)
    else:
        found = _scan_folders(paths, layout, machines)
    if truth:
        found = replace(found, clips=tuple(join_truth(found.clips, found.layout, find_spelling(Path(truth)))))
    return _exclude(found, find_spelling(Path(exclude)), machines) if exclude else found


def _exclude(found: Scan, file: Path, machines: Sequence[str]) -> Scan:
    """Return a scan without the recordings that a file names; `machines` are those that were scanned, if not all."""
    paths = [*(clip.path for clip in found.clips), *(Path(one.where) for one in found.unparsed)]
    excluded = find_excluded(paths, file, tuple(map(compose, machines)))
    return replace(
        found,
        clips=tuple(clip for clip in found.clips if clip.path not in excluded),
        unparsed=tuple(one for one in found.unparsed if Path(one.where) not in excluded),
        twins=tuple(pair for pair in found.twins if excluded.isdisjoint(clip.path for clip in pair)),
    )


def _scan_manifests(roots: list[Path], machines: Sequence[str]) -> Scan:
    tables = []
    for root in roots:
        if not (root / MANIFEST).is_file():
            raise InputError(
                f"{root}: expected a file {MANIFEST} in it, got none; write one, or set config.data.layout=auto and "
                "give roots of one layout"
            )
        tables.append(read_manifest(root, tuple(map(compose, machines))))
    _check_machines(machines, set().union(*(table.machines for table in tables)), roots)
    clips = [clip for table in tables for clip in table.clips]
    unparsed = [one for table in tables for one in table.unparsed]
    return _make_scan("manifest", clips, unparsed, [], roots)


def _scan_folders(roots: list[Path], layout: str, machines: Sequence[str]) -> Scan:
    machine_folders: list[Path] = []
    left_out: list[Path] = []
    for root in roots:
        found, others = find_machine_folders(root, tuple(map(compose, machines)))
        machine_folders += found
        left_out += others
    present = {compose(folder.name) for folder in machine_folders}
    if not present.issuperset(map(compose, machines)):  # the message names all machine types
        present = {compose(folder.name) for root in roots for folder in find_machine_folders(root)[0]}
        _check_machines(machines, present, roots)
    clip_folders: list[ClipFolder] = []
    for folder in machine_folders:
        found, others = find_clip_folders(folder)
        clip_folders += found
        left_out += others
    known = recognize_layout(clip_folders) if layout == "auto" else cast("Layout", layout)
    if known is None:
        raise _no_recordings(roots)
    clips, unparsed = _parse_names(clip_folders, known)
    if known == "dcase2022":
        clips = _add_table_attributes(clips, machine_folders)
    return _make_scan(known, clips, unparsed, left_out, roots)


def _parse_names(folders: Iterable[ClipFolder], layout: Layout) -> tuple[list[Clip], list[Unparsed]]:
    clips, unparsed = [], []
    for folder in folders:
        for name in folder.names:
            path = folder.path / name
            clip = parse_name(path, machine=folder.machine, folder=folder.path.name, layout=layout)
            if clip is None:
                unparsed.append(Unparsed(str(path), f"expected a {layout} name: {EXPECTED[layout]}", folder.machine))
            else:
                clips.append(clip)
    return clips, unparsed


def _add_table_attributes(clips: list[Clip], machine_folders: list[Path]) -> list[Clip]:
    """Replace the attributes of each clip that an attributes_NN.csv of its machine type lists."""
    tables = {
        folder: {to_wav_name(name): found for name, found in read_attributes(folder).items()}
        for folder in machine_folders
    }
    listed = (tables[clip.path.parent.parent].get(clip.name) for clip in clips)
    return [
        clip if attributes is None else replace(clip, attributes=attributes)
        for clip, attributes in zip(clips, listed, strict=True)
    ]


def _check_machines(wanted: Sequence[str], present: set[str], roots: list[Path]) -> None:
    """Raise InputError if one of the wanted machine types is not present."""
    wanted = list(map(compose, wanted))
    unknown = sorted(set(wanted) - present)
    if unknown:
        raise InputError(
            f"data.machines: expected machine types under {_join(roots)} ({', '.join(sorted(present)) or 'none'}), "
            f"got {', '.join(unknown)}; correct the names{comma_hint(wanted)}"
        )


def _make_scan(
    layout: Layout,
    clips: list[Clip],
    unparsed: list[Unparsed],
    left_out: list[Path],
    roots: list[Path],
) -> Scan:
    why = "expected a name in UTF-8, got another encoding; rename it"
    unparsed = unparsed + [Unparsed(clip.place, why, clip.machine) for clip in clips if not _has_utf8_names(clip)]
    ordered = tuple(sorted(filter(_has_utf8_names, clips), key=_sort_key))
    if not ordered and not unparsed:
        raise _no_recordings(roots)
    return Scan(layout, ordered, tuple(unparsed), _find_twins(layout, ordered), tuple(left_out))


def _has_utf8_names(clip: Clip) -> bool:
    try:
        f"{clip.machine}{clip.section}{clip.name}".encode()
    except UnicodeEncodeError:  # Python keeps bytes that are not UTF-8 as lone surrogates
        return False
    return True


def _sort_key(clip: Clip) -> tuple[str, bool, str, str, str, str]:
    return clip.machine, clip.split == "test", clip.section, clip.domain or "", clip.name, str(clip.path)


def _find_twins(layout: Layout, clips: tuple[Clip, ...]) -> tuple[tuple[Clip, Clip], ...]:
    """Return pairs of clips that a score file cannot distinguish.

    In a manifest, training clips are twins only if they are the same file: no score file lists them, and recordings
    in different folders may have the same name.
    """
    seen: dict[tuple[str, ...], Clip] = {}
    twins = []
    for clip in clips:
        name = str(clip.path) if layout == "manifest" and clip.split == "train" else clip.name
        first = seen.setdefault((clip.machine, clip.section, clip.split, name), clip)
        if first is not clip:
            twins.append((first, clip))
    return tuple(twins)


def _no_recordings(roots: list[Path]) -> InputError:
    return InputError(f"{_join(roots)}: expected recordings, got none; check data.root")


def _join(roots: list[Path]) -> str:
    return ", ".join(map(str, roots))
