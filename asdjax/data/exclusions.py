"""Clips that are left out of a corpus by name: `config.data.exclude`, a file with one recording per line."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from asdjax.data.clips import Clip
from asdjax.errors import InputError
from asdjax.runtime.paths import compose


def leave_out(clips: Sequence[Clip], file: Path, *, strict: bool) -> tuple[Clip, ...]:
    """Return the clips that a file does not name.

    A line is the name of a recording, with as many of its folders before it as make it unique, such as
    `fan/train/section_00_source_train_normal_0000.wav`. Empty lines and those that begin with `#` do not count.

    Raises InputError for a file that cannot be read, for a line that names several clips, and, if `strict`, for one
    that names none.
    """
    by_name = defaultdict(list)
    for clip in clips:
        by_name[compose(clip.path.name)].append(clip)
    left_out: set[Path] = set()
    for number, line in _read_lines(file):
        found = _find(line, by_name)
        if len(found) > 1 or (strict and not found):
            raise _name_error(file, number, line, found)
        left_out |= found
    return tuple(clip for clip in clips if clip.path not in left_out)


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


def _find(line: str, by_name: Mapping[str, Sequence[Clip]]) -> set[Path]:
    """Return the paths of the recordings that a line names."""
    wanted = Path(compose(line)).parts
    return {
        clip.path
        for clip in by_name.get(wanted[-1], ())
        if tuple(map(compose, clip.path.parts))[-len(wanted) :] == wanted
    }


def _name_error(file: Path, number: int, line: str, found: Collection[Path]) -> InputError:
    several = ", ".join(map(str, sorted(found)[:2]))
    got = f"{len(found)} ({several}{' and more' if len(found) > 2 else ''})" if found else "none"
    remedy = "give its folders too" if found else "correct the line, or remove it"
    return InputError(f"{file}: line {number}: expected one recording named {line}, got {got}; {remedy}")
