"""Paths and names as people write them: `~` is the home folder, and names are compared composed.

A letter such as `ü` can be one character or two (Unicode's NFC and NFD). A Mac writes the second form into the names of
files, keyboards and tables the first, and a disk takes both for different names.
"""

import os
from collections.abc import MutableMapping
from pathlib import Path
from unicodedata import normalize

from asdjax.errors import InputError

Listings = MutableMapping[Path, dict[str, list[str]]]
"""By folder: the names in it by their composed form."""


def composed(name: str) -> str:
    """Return a name in composed form (NFC), in which two names are compared."""
    return name if name.isascii() else normalize("NFC", name)


def expanded(text: str) -> str:
    """Return a path with `~` and `~user` at its beginning replaced by the home folder.

    A shell does so for a word of its own, but not behind the = of --workdir=~/run. Raises InputError where there is no
    such home.
    """
    home = os.path.expanduser(text)
    if text.startswith("~") and home == text and not os.path.lexists(text):
        raise InputError(f"{text}: expected a home folder for ~, got none; write the whole path, or ./~ for that name")
    return home


def located(path: Path, listings: Listings | None = None) -> Path:
    """Return `path` as the disk spells it where that differs in composition only; else `path` itself.

    Of a path that is not there yet this holds for the folders that are. `listings` keeps what was listed for the next
    call.
    """
    if str(path).isascii() or os.path.lexists(path):
        return path
    listings = {} if listings is None else listings
    found = Path(path.anchor)
    parts = path.parts[1:] if path.anchor else path.parts
    for i, part in enumerate(parts):
        if not os.path.lexists(found / part):
            alike = _listed(found, listings).get(composed(part), [])
            if len(alike) != 1:  # none, or several to choose from
                return found.joinpath(*parts[i:])
            (part,) = alike
        found /= part
    return found


def _listed(folder: Path, listings: Listings) -> dict[str, list[str]]:
    if folder not in listings:
        names: dict[str, list[str]] = {}
        try:
            for name in os.listdir(folder):
                names.setdefault(composed(name), []).append(name)
        except OSError:  # whoever opens the path says why
            names = {}
        listings[folder] = names
    return listings[folder]


def given(text: str) -> Path:
    """Return the path that a user has written, `~` expanded and spelled as on disk."""
    return located(Path(expanded(text)))
