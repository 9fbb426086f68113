"""From folders that hold recordings to the one table of clips, whichever year's layout they have."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast, get_args

from asdjax.data.clip_lists import MANIFEST, is_attributes_table, read_attributes, read_manifest
from asdjax.data.clips import Clip, Corpus, Layout
from asdjax.data.formats.kinds import ENDINGS
from asdjax.data.names import EXPECTED, FOLDERS, as_wav, has_id_form, has_section_form, parse_name
from asdjax.data.truth import join_truth
from asdjax.errors import InputError
from asdjax.runtime.paths import composed, located


@dataclass(frozen=True, slots=True)
class Scan:
    """Everything that lies under the roots: the clips, and all that is none.

    `unparsed` gives (where, why) for each recording or table row that makes no clip, `twins` pairs of clips
    that no score file could tell apart, `left_out` the files and folders that the layout has no place for.
    """

    layout: Layout
    clips: tuple[Clip, ...]
    unparsed: tuple[tuple[str, str], ...]
    twins: tuple[tuple[Clip, Clip], ...]
    left_out: tuple[Path, ...]


def read_corpus(
    roots: Sequence[str | Path], layout: str = "auto", machines: Sequence[str] = (), truth: str | Path = ""
) -> Corpus:
    """All clips under `roots`, of `machines` only where some are given.

    A root is a folder that holds machine types' folders (several are merged: dev_data, eval_data), or one
    with a manifest.csv. `layout` is "dcase2020", "dcase2021", "dcase2022" (2022 and later), "manifest", or
    "auto", which goes by folder and file names. Where nothing but training clips lies there, 2021 and 2022
    look alike: attributes_NN.csv makes it dcase2022, its absence dcase2021. `truth` is a folder as in
    `truth.read_truth`, whose labels unlabelled clips get.

    Raises InputError for a root without machine types, an unknown machine or layout, roots of different
    layouts, a name that does not parse, and a clip that occurs twice.
    """
    scan_ = scan(roots, layout, machines, truth)
    if scan_.unparsed:
        where, why = scan_.unparsed[0]
        others = f" (and {len(scan_.unparsed) - 1} more)" if len(scan_.unparsed) > 1 else ""
        raise InputError(f"{where}{others}: {why}; `asdjax check` lists them all")
    if scan_.twins:
        one, other = scan_.twins[0]
        raise InputError(
            f"{other.place}: the same machine type, section and name as {one.place} "
            f"({len(scan_.twins)} such); remove or rename one, or leave out one root"
        )
    return Corpus(scan_.layout, scan_.clips)


def scan(
    roots: Sequence[str | Path], layout: str = "auto", machines: Sequence[str] = (), truth: str | Path = ""
) -> Scan:
    """As `read_corpus`, but names that do not parse and twins are returned, not raised."""
    if layout not in ("auto", *get_args(Layout)):
        raise InputError(f"data.layout: expected auto or {', '.join(get_args(Layout))}, came {layout!r}")
    paths = _existing(roots)
    if layout == "manifest" or (layout == "auto" and any((root / MANIFEST).is_file() for root in paths)):
        found = _scan_manifests(paths, machines)
    else:
        found = _scan_folders(paths, layout, machines)
    return replace(found, clips=tuple(join_truth(found.clips, found.layout, located(Path(truth))))) if truth else found


def _existing(roots: Sequence[str | Path]) -> list[Path]:
    if not roots:
        raise InputError("data.root: expected one or several folders, came none; give --config.data.root")
    paths = [located(Path(root)) for root in roots]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path}: expected each folder once, came twice; check data.root")
    for path in paths:
        try:
            came = None if path.is_dir() else "a file" if path.exists() else "nothing there"
        except OSError as error:
            came = error.strerror
        if came:
            raise InputError(
                f"{path}: expected a folder of machine types, or one with a {MANIFEST}, came {came}; check data.root"
                f"{_of_several(paths)}"
            )
    return paths


def _of_several(values: Sequence[object]) -> str:
    """What to add to a complaint about one of several values, which may have been meant as one."""
    return "; a comma parts values, so quote one that has some: '\"a, b\"'" if len(values) > 1 else ""


def _scan_manifests(roots: list[Path], machines: Sequence[str]) -> Scan:
    clips: list[Clip] = []
    unparsed: list[tuple[str, str]] = []
    for root in roots:
        if not (root / MANIFEST).is_file():
            raise InputError(
                f"{root}: expected a file {MANIFEST} in it; write one, or give config.data.layout=auto and roots of "
                "one layout"
            )
        found, bad = read_manifest(root)
        clips += found
        unparsed += bad
    machines = _checked(machines, {clip.machine for clip in clips}, roots)
    chosen = [clip for clip in clips if not machines or clip.machine in machines]
    return _finish("manifest", chosen, unparsed, [], roots)


@dataclass(frozen=True, slots=True)
class _ClipFolder:
    """One of a machine type's folders with clips, and the base names of what is in it."""

    machine: str
    path: Path
    names: tuple[str, ...]


def _scan_folders(roots: list[Path], layout: str, machines: Sequence[str]) -> Scan:
    folders: list[Path] = []
    left_out: list[Path] = []
    for root in roots:
        found, others = _machine_folders(root)
        folders += found
        left_out += others
    machines = _checked(machines, {composed(folder.name) for folder in folders}, roots)
    folders = [folder for folder in folders if not machines or composed(folder.name) in machines]
    clip_folders: list[_ClipFolder] = []
    for folder in folders:
        found, others = _clip_folders(folder)
        clip_folders += found
        left_out += others
    known = _recognise(clip_folders, roots) if layout == "auto" else cast("Layout", layout)
    clips, unparsed = _parse(clip_folders, known)
    if known == "dcase2022":
        clips = _with_tables(clips, folders)
    return _finish(known, clips, unparsed, left_out, roots)


def _machine_folders(root: Path) -> tuple[list[Path], list[Path]]:
    """Folders under `root` that hold clip folders, and what else lies there."""
    inside, files = _list(root)
    if any(path.name in FOLDERS for path in inside):
        raise InputError(f"{root}: is one machine type's folder; give the folder around it: {root.parent}")
    machines = [path for path in inside if _holds_clips(path)]
    if not machines:
        deeper = next((path for path in inside if any(map(_holds_clips, _list(path)[0]))), None)
        hint = f"did you mean {deeper}?" if deeper else f"check data.root, or write a {MANIFEST}"
        raise InputError(f"{root}: expected folders of machine types with train or test in them; {hint}")
    others = [path for path in inside if path not in machines]
    return machines, others + [path for path in files if _is_recording(path.name)]


def _holds_clips(folder: Path) -> bool:
    return any(os.path.isdir(folder / name) for name in FOLDERS)  # False too where it may not be looked into


def _clip_folders(machine: Path) -> tuple[list[_ClipFolder], list[Path]]:
    """A machine type's folders with clips, and what else lies in it and in them."""
    inside, files = _list(machine)
    found = []
    left_out = [path for path in files if not is_attributes_table(path.name)]
    for path in inside:
        if path.name not in FOLDERS:
            left_out.append(path)
            continue
        deeper, files = _list(path)
        found.append(_ClipFolder(composed(machine.name), path, tuple(p.name for p in files if _is_recording(p.name))))
        left_out += deeper + [p for p in files if not _is_recording(p.name)]
    return found, left_out


def _list(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders and files in `folder`, by name; hidden ones are the system's, not the user's."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((e.name, e.is_dir()) for e in entries if not e.name.startswith("."))
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error
    folders = [folder / name for name, is_folder in seen if is_folder]
    return folders, [folder / name for name, is_folder in seen if not is_folder]


def _is_recording(name: str) -> bool:
    return name.lower().endswith(ENDINGS)


def _recognise(folders: list[_ClipFolder], roots: list[Path]) -> Layout:
    seen: dict[Layout, Path] = {}
    for folder in folders:
        if layout := _evidence(folder):
            seen.setdefault(layout, folder.path)
    if len(seen) > 1:
        found = ", ".join(f"{layout} ({path})" for layout, path in sorted(seen.items()))
        raise InputError(f"data.root: expected one layout, came {found}; give data.layout or other roots")
    if seen:
        return next(iter(seen))
    if any(has_section_form(name) for folder in folders for name in folder.names):
        return "dcase2021"
    first = next((str(folder.path / name) for folder in folders for name in folder.names), None)
    if first is None:
        raise _no_recordings(roots)
    raise InputError(f"{first}: no name of a known layout; give data.layout, or write a {MANIFEST}")


def _evidence(folder: _ClipFolder) -> Layout | None:
    """The layout that a folder can only belong to, None where it leaves that open."""
    if FOLDERS[folder.path.name][1] is not None:
        return "dcase2021"
    if any(map(has_id_form, folder.names)):
        return "dcase2020"
    tables = any(is_attributes_table(name) for name in os.listdir(folder.path.parent))
    is_test = folder.path.name == "test"
    return "dcase2022" if (tables or is_test) and any(map(has_section_form, folder.names)) else None


def _parse(folders: list[_ClipFolder], layout: Layout) -> tuple[list[Clip], list[tuple[str, str]]]:
    clips, unparsed = [], []
    for folder in folders:
        for name in folder.names:
            path = folder.path / name
            clip = parse_name(path, machine=folder.machine, folder=folder.path.name, layout=layout)
            if clip is None:
                unparsed.append((str(path), f"expected a {layout} name: {EXPECTED[layout]}"))
            else:
                clips.append(clip)
    return clips, unparsed


def _with_tables(clips: list[Clip], machine_folders: list[Path]) -> list[Clip]:
    """Clips whose attributes come from attributes_NN.csv where that lists them."""
    tables = {
        folder: {as_wav(name): found for name, found in read_attributes(folder).items()} for folder in machine_folders
    }
    attributes = (tables[clip.path.parent.parent].get(clip.name) for clip in clips)
    return [
        clip if found is None else replace(clip, attributes=found)
        for clip, found in zip(clips, attributes, strict=True)
    ]


def _checked(wanted: Sequence[str], present: set[str], roots: list[Path]) -> list[str]:
    """Return the machine types that are wanted, composed; raises InputError where one is not present."""
    wanted = list(map(composed, wanted))
    unknown = sorted(set(wanted) - present)
    if unknown:
        there = ", ".join(sorted(present)) or "none"
        raise InputError(
            f"data.machines: expected machine types under {_listed(roots)} ({there}), "
            f"got {', '.join(unknown)}; correct the names{_of_several(wanted)}"
        )
    return wanted


def _finish(
    layout: Layout,
    clips: list[Clip],
    unparsed: list[tuple[str, str]],
    left_out: list[Path],
    roots: list[Path],
) -> Scan:
    named: dict[bool, list[Clip]] = {True: [], False: []}
    for clip in clips:
        named[_is_text(f"{clip.machine}{clip.section}{clip.name}")].append(clip)
    unparsed = unparsed + [(clip.place, "a name that is not in UTF-8; rename it") for clip in named[False]]
    ordered = tuple(sorted(named[True], key=_order))
    if not ordered and not unparsed:
        raise _no_recordings(roots)
    return Scan(layout, ordered, tuple(unparsed), _twins(layout, ordered), tuple(left_out))


def _is_text(name: str) -> bool:
    """Whether a file's name is what it says; one in another encoding than UTF-8 has bytes left over."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _order(clip: Clip) -> tuple[str, bool, str, str, str, str]:
    return clip.machine, clip.split == "test", clip.section, clip.domain or "", clip.name, str(clip.path)


def _twins(layout: Layout, clips: tuple[Clip, ...]) -> tuple[tuple[Clip, Clip], ...]:
    """Pairs of clips that share what scores are filed under, or of a manifest's clips that are one file."""
    seen: dict[tuple[str, ...], Clip] = {}
    twins = []
    for clip in clips:
        # No score file lists training clips, and one's own folders may well number theirs alike.
        alike_is_fine = layout == "manifest" and clip.split == "train"
        name = str(clip.path) if alike_is_fine else clip.name
        first = seen.setdefault((clip.machine, clip.section, clip.split, name), clip)
        if first is not clip:
            twins.append((first, clip))
    return tuple(twins)


def _no_recordings(roots: list[Path]) -> InputError:
    return InputError(f"{_listed(roots)}: expected recordings, came none; check data.root")


def _listed(roots: list[Path]) -> str:
    return ", ".join(map(str, roots))
