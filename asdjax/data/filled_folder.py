"""A folder into which a recorder puts recordings, watched for new ones that are complete."""

import os
from collections.abc import Iterator
from pathlib import Path
from time import sleep

from asdjax.data.formats.kinds import ENDINGS
from asdjax.errors import InputError
from asdjax.runtime.progress import log

_POLL_S = 1.0

#: Size in bytes and time of the last change in ns.
_State = tuple[int, int]


def watch_folder(folder: Path, *, also_present: bool = False, poll_s: float = _POLL_S) -> Iterator[Path]:
    """Yield each new recording in a folder as soon as its size and time stay the same between two looks, forever.

    Those that are there at the start are left out unless `also_present`. A recording that is written anew is new.
    Raises InputError if there is no such folder; a folder that cannot be read later is tried again.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder that recordings are put into, got none; create it first")
    taken: dict[str, _State] = {} if also_present else _list_recordings(folder)
    if taken:
        log(f"{folder}: {len(taken)} recordings that are there already are left out; --existing scores them too")
    before: dict[str, _State] = {}
    while True:
        try:
            now = _list_recordings(folder)
        except OSError as error:
            log(f"{folder}: cannot be read ({error.strerror}); trying again")
            now = before
        complete = [name for name, state in now.items() if before.get(name) == state != taken.get(name) and state[0]]
        for name in sorted(complete, key=lambda name: (now[name][1], name)):
            taken[name] = now[name]
            yield folder / name
        taken = {name: state for name, state in taken.items() if name in now}
        before = now
        sleep(poll_s)


def _list_recordings(folder: Path) -> dict[str, _State]:
    found: dict[str, _State] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(ENDINGS) and not entry.name.startswith("."):
                try:
                    status = entry.stat()
                except FileNotFoundError:  # removed meanwhile
                    continue
                found[entry.name] = (status.st_size, status.st_mtime_ns)
    return found
