"""Paths and names as users write them: `~` is the home folder, and names are compared in composed form.

A letter such as `ü` can be one character or two (Unicode's NFC and NFD). macOS writes NFD into file names, keyboards
and tables write NFC, and a disk takes the two for different names.
"""

import os
import re
from collections.abc import MutableMapping
from pathlib import Path
from unicodedata import normalize

from asdjax.errors import InputError

# also with one slash, which is left of an address in a Path
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")

#: For each folder, the names in it by their composed form.
Listings = MutableMapping[Path, dict[str, list[str]]]


def compose(name: str) -> str:
    """Return a name in composed form (NFC), for comparison with another."""
    return name if name.isascii() else normalize("NFC", name)


def expand_home(text: str) -> str:
    """Return a path with a leading `~` or `~user` replaced by the home folder.

    A shell does so for a separate word, but not after the = of --workdir=~/run. Raises InputError if there is no such
    home.
    """
    home = os.path.expanduser(text)
    if text.startswith("~") and home == text and not os.path.lexists(text):
        raise InputError(f"{text}: expected a home folder for ~, got none; write the full path, or ./~ for that name")
    return home


def find_spelling(path: Path, listings: Listings | None = None) -> Path:
    """Return `path` as the disk spells it if that differs in composition only; else `path` itself.

    Of a missing path the existing folders are spelled so. `listings` caches folders between calls.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    listings = {} if listings is None else listings
    found = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    for i, part in enumerate(parts):
        if not os.path.lexists(found / part):
            spellings = _list_folder(found, listings).get(compose(part), [])
            if len(spellings) != 1:  # missing or ambiguous
                return found.joinpath(*parts[i:])
            (part,) = spellings
        found /= part
    return found


def _list_folder(folder: Path, listings: Listings) -> dict[str, list[str]]:
    if folder not in listings:
        names: dict[str, list[str]] = {}
        try:
            for name in os.listdir(folder):
                names.setdefault(compose(name), []).append(name)
        except OSError:  # opening the path will raise the same error, with its name
            names = {}
        listings[folder] = names
    return listings[folder]


def resolve_path(path: str | os.PathLike) -> Path:
    """Return the path that a user wrote, with `~` expanded and spelled as on disk.

    Raises InputError for a missing home folder, for the address of an object store, and for what is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"expected a path, got {path!r}; give a str or a pathlib.Path")
    text = os.fspath(path)
    require_path(text)
    return find_spelling(Path(expand_home(text)))


def require_path(text: str) -> None:
    """Raise InputError for an address such as gs://bucket/folder, which would become a local folder `gs:`."""
    if _ADDRESS.match(text) and not os.path.lexists(text):
        raise InputError(
            f"{text}: expected a folder on a disk, got an address; mount the store as a folder (gcsfuse, Mountpoint "
            "for S3, JuiceFS) or use a file system (NFS, Filestore, FSx), and give that folder"
        )
