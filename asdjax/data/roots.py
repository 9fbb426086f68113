"""Folders of recordings as a user names them: `config.data.root`."""

from collections.abc import Sequence
from pathlib import Path

from asdjax.data.clip_lists import MANIFEST
from asdjax.errors import InputError
from asdjax.runtime.paths import find_spelling


def locate_roots(roots: Sequence[str | Path]) -> list[Path]:
    """Return the folders that hold recordings. Raises InputError for one that is missing, no folder, or given twice."""
    if not roots:
        raise InputError("data.root: expected one or more folders, got none; set config.data.root")
    paths = [find_spelling(Path(root)) for root in roots]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"{path}: expected each folder once, got it twice; check data.root")
    for path in paths:
        try:
            got = None if path.is_dir() else "a file" if path.exists() else "nothing there"
        except OSError as error:
            got = error.strerror
        if got:
            raise InputError(
                f"{path}: expected a folder of machine types, or one with a {MANIFEST}, got {got}; set config.data.root"
                f"{comma_hint(paths)}"
            )
    return paths


def comma_hint(values: Sequence[object]) -> str:
    """Return a hint for a value that a comma may have split by mistake, empty if there is only one value."""
    return "; commas separate values, so quote a value that has one: '\"a, b\"'" if len(values) > 1 else ""
