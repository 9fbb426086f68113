"""A folder into which a recorder puts recordings, watched for new ones that are complete."""

import os
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import NamedTuple

from asdjax.data.formats.kinds import ENDINGS
from asdjax.errors import InputError
from asdjax.runtime.progress import log

_POLL_S = 1.0
#: Seconds for which a recording must not change: recorders write every few seconds.
_STABLE_S = 10.0


class _State(NamedTuple):
    """Size in bytes and time of the last change in ns."""

    size: int
    changed_ns: int


def watch_folder(folder: Path, *, also_present: bool = False, poll_s: float = _POLL_S) -> Iterator[Path]:
    """Return an endless iterator of new recordings in a folder, each when it has not changed for some seconds.

    Those that are there at the call are left out unless `also_present`. A recording that is overwritten is new. Raises
    InputError if there is no such folder; a folder that cannot be read later is tried again.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder that recordings are put into, got none; create it first")
    taken: dict[str, _State] = {} if also_present else _list_recordings(folder)
    if taken:
        log(f"{folder}: {len(taken)} recordings that are there already are left out; --existing scores them too")
    return _watch(folder, taken, poll_s)


def _watch(folder: Path, taken: dict[str, _State], poll_s: float) -> Iterator[Path]:
    seen: dict[str, tuple[_State, float]] = {}
    is_away = False
    while True:
        try:
            now = _list_recordings(folder)
            is_away = False
        except OSError as error:
            if not is_away:
                log(f"{folder}: cannot be read ({error.strerror}); trying again")
            now, is_away = {}, True
        before, seen = seen, {}
        for name, state in now.items():
            known = before.get(name)
            seen[name] = known if known and known[0] == state else (state, monotonic())
        for name in _list_complete(seen, taken):
            taken[name] = now[name]
            yield folder / name
        if now:  # an empty folder may be a disk that is not mounted
            taken = {name: state for name, state in taken.items() if name in now}
        sleep(poll_s)


def _list_complete(seen: dict[str, tuple[_State, float]], taken: dict[str, _State]) -> list[str]:
    """Return the names of recordings that are complete and not taken, the oldest first."""
    names = [
        name
        for name, (state, since) in seen.items()
        if state.size and state != taken.get(name) and monotonic() - since >= _STABLE_S
    ]
    return sorted(names, key=lambda name: (seen[name][0].changed_ns, name))


def _list_recordings(folder: Path) -> dict[str, _State]:
    found: dict[str, _State] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(ENDINGS) and not entry.name.startswith("."):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # removed meanwhile
                    continue
                found[entry.name] = _State(status.st_size, status.st_mtime_ns)
    return found
