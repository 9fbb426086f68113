"""Folders of a challenge's layout: the machine types under a root, their clip folders, and the layout they follow."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asdjax.data.clip_lists import MANIFEST, is_attributes_table
from asdjax.data.clips import Layout
from asdjax.data.formats.kinds import ENDINGS
from asdjax.data.names import FOLDERS, has_id_form, has_section_form
from asdjax.errors import InputError
from asdjax.runtime.paths import compose


@dataclass(frozen=True, slots=True)
class ClipFolder:
    """A folder with clips of one machine type, and the base names of the recordings in it."""

    machine: str
    path: Path
    names: tuple[str, ...]


def find_machine_folders(root: Path, machines: Sequence[str] = ()) -> tuple[list[Path], list[Path]]:
    """Return the folders of machine types under `root`, and the other folders and recordings next to them.

    If machine types are named, no other folder is looked at, and none may be found.

    Raises InputError if there is no machine type, or if `root` itself is the folder of one.
    """
    folders, files = _list_folder(root)
    if any(path.name in FOLDERS for path in folders):
        raise InputError(
            f"{root}: expected a folder of machine types, got the folder of one; give its parent {root.parent}"
        )
    if machines:
        return [path for path in folders if compose(path.name) in machines and _has_clip_folder(path)], []
    found = [path for path in folders if _has_clip_folder(path)]
    if not found:
        deeper = next((path for path in folders if any(map(_has_clip_folder, _list_folder(path)[0]))), None)
        hint = f"did you mean {deeper}?" if deeper else f"check data.root, or write a {MANIFEST}"
        raise InputError(f"{root}: expected folders of machine types with train or test in them, got none; {hint}")
    others = [path for path in folders if path not in found]
    return found, others + [path for path in files if _is_recording(path.name)]


def find_clip_folders(machine: Path) -> tuple[list[ClipFolder], list[Path]]:
    """Return the clip folders of a machine type, and the files and folders that the layout does not use."""
    folders, files = _list_folder(machine)
    found = []
    left_out = [path for path in files if not is_attributes_table(path.name)]
    for path in folders:
        if path.name not in FOLDERS:
            left_out.append(path)
            continue
        deeper, files = _list_folder(path)
        names = tuple(file.name for file in files if _is_recording(file.name))
        found.append(ClipFolder(compose(machine.name), path, names))
        left_out += deeper + [file for file in files if not _is_recording(file.name)]
    return found, left_out


def recognize_layout(folders: Sequence[ClipFolder]) -> Layout | None:
    """Return the layout of clip folders by their names and contents, None if they hold no recordings.

    Raises InputError if the folders follow different layouts or none that is known.
    """
    seen: dict[Layout, Path] = {}
    for folder in folders:
        if layout := _distinct_layout(folder):
            seen.setdefault(layout, folder.path)
    if len(seen) > 1:
        found = ", ".join(f"{layout} ({path})" for layout, path in sorted(seen.items()))
        raise InputError(f"data.root: expected one layout, got {found}; set data.layout, or give other roots")
    if seen:
        return next(iter(seen))
    if any(has_section_form(name) for folder in folders for name in folder.names):
        return "dcase2021"
    first = next((str(folder.path / name) for folder in folders for name in folder.names), None)
    if first is not None:
        raise InputError(f"{first}: expected a name of a known layout; set data.layout, or write a {MANIFEST}")
    return None


def _distinct_layout(folder: ClipFolder) -> Layout | None:
    """Return the only layout that a folder can belong to, None if it fits several."""
    if FOLDERS[folder.path.name][1] is not None:
        return "dcase2021"
    if any(map(has_id_form, folder.names)):
        return "dcase2020"
    has_table = any(is_attributes_table(name) for name in os.listdir(folder.path.parent))
    is_test = folder.path.name == "test"
    return "dcase2022" if (has_table or is_test) and any(map(has_section_form, folder.names)) else None


def _has_clip_folder(folder: Path) -> bool:
    return any(os.path.isdir(folder / name) for name in FOLDERS)  # also False if the folder may not be entered


def _list_folder(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in `folder`, sorted by name. Hidden entries are skipped."""
    try:
        with os.scandir(folder) as entries:
            seen = sorted((entry.name, entry.is_dir()) for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise InputError(
            f"{folder}: expected a readable folder, got {error.strerror}; check its permissions"
        ) from error
    folders = [folder / name for name, is_folder in seen if is_folder]
    return folders, [folder / name for name, is_folder in seen if not is_folder]


def _is_recording(name: str) -> bool:
    return name.lower().endswith(ENDINGS)
