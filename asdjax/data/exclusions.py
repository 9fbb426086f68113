"""Recordings that are left out of a corpus by name: `config.data.exclude`, a file with one of them per line."""

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from asdjax.errors import InputError
from asdjax.runtime.paths import compose, expand_home


def find_excluded(paths: Iterable[Path], file: Path, machines: Collection[str] = ()) -> set[Path]:
    """Return the recordings that a file names.

    A line is the name of a recording, with as many of its folders before it as make it unique, such as
    `fan/train/section_00_source_train_normal_0000.wav`, or its path. Empty lines and those that begin with `#` do not
    count. If `paths` are only of some `machines`, a line that names none of these may be of another one.

    Raises InputError for a file that cannot be read, and for a line that names no recording, or several.
    """
    by_name = defaultdict(list)
    for path in paths:
        by_name[compose(path.name)].append(path)
    excluded: set[Path] = set()
    for number, line in _read_lines(file):
        wanted = _split(line)
        found = {
            path for path in by_name.get(wanted[-1], ()) if _split(os.path.abspath(path))[-len(wanted) :] == wanted
        }
        if len(found) > 1 or (not found and (not machines or not {*wanted}.isdisjoint(machines))):
            raise _name_error(f"{file}: line {number}", line, found)
        excluded |= found
    return excluded


def _read_lines(file: Path) -> list[tuple[int, str]]:
    """Return the lines that count, with their numbers from 1."""
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"{file}: expected a text file with a recording per line, got none ({reason}); set config.data.exclude"
        ) from error
    stripped = [(number, line.strip()) for number, line in enumerate(lines, start=1)]
    return [(number, line) for number, line in stripped if line and not line.startswith("#")]


def _split(line: str) -> Sequence[str]:
    """Return the parts of a path: all of them if it begins with `~` or `..`, else those that are given."""
    expanded = expand_home(compose(line))
    path = os.path.normpath(expanded)
    return Path(os.path.abspath(path) if path.startswith("..") else path).parts or (path,)


def _name_error(place: str, line: str, found: Collection[Path]) -> InputError:
    several = ", ".join(map(str, sorted(found)[:2]))
    got = f"{len(found)} ({several}{' and more' if len(found) > 2 else ''})" if found else "none"
    remedy = "give its folders too" if found else "correct the line, or remove it"
    return InputError(f"{place}: expected one recording named {line}, got {got}; {remedy}")
