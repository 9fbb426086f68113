"""What a fleet was trained on, kept beside it: with other clips it would be another fleet."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from asdjax.corpus.access import Recording
from asdjax.corpus.tasks import Task
from asdjax.errors import InputError
from asdjax.files import replace_text, sealed, unsealed

FILE = "task.json"


def save(folder: Path, task: Task, recordings: Sequence[Recording]) -> None:
    """Write a fleet's task.json: its classes, and its training clips, each with its class's number and the SHA-256 of
    its samples."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {clip.path: recording.sha256 for clip, recording in zip(task.clips, recordings, strict=True)}
    content = {"classes": task.classes, "clips": _clips(task, digests)}
    replace_text(folder / FILE, json.dumps(sealed(content), indent=1) + "\n")


def require_same(folder: Path, task: Task, digests: Mapping[Path, str]) -> None:
    """See that a fleet's task.json, if there is one, tells of these classes and, of the machine types whose clips'
    digests are given by path, of these training clips, wherever they lie now.

    Raises InputError that says what is new, missing or changed.
    """
    file = folder / FILE
    if not file.exists():
        return
    classes, told = _read(file)
    others = set(task.machines) - {clip.machine for clip in task.clips if clip.path in digests}
    before = {name: of_clip for name, of_clip in told.items() if name.partition("/")[0] not in others}
    now = _clips(task, digests)
    if now == before and classes == task.classes:
        return
    found = [
        _some("new", now.keys() - before.keys()),
        _some("missing", before.keys() - now.keys()),
        _some("changed", {name for name in now.keys() & before.keys() if now[name] != before[name]}),
    ]
    what = ", ".join(filter(None, found)) or "their classes differ"
    raise InputError(
        f"{file}: expected the training clips of this fleet as they were, came others: {what}; put them back as "
        "they were, or train in another --workdir"
    )


def number_of_classes(folder: Path) -> int:
    """How many classes a fleet tells apart; raises InputError where its record is missing or damaged."""
    if not (folder / FILE).exists():
        raise InputError(f"{folder / FILE}: no such file; run asdjax train again, which writes it anew")
    classes, _ = _read(folder / FILE)
    return len(classes)


def _read(file: Path) -> tuple[tuple[tuple[str, ...], ...], dict[str, str]]:
    """Classes, and clips as `_clips` tells them."""
    try:
        content = unsealed(file.read_text())
        return tuple(tuple(klass) for klass in content["classes"]), dict(content["clips"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: expected a record of training clips ({error}); remove it and run asdjax train again, which "
            "writes it anew"
        ) from error


def _clips(task: Task, digests: Mapping[Path, str]) -> dict[str, str]:
    """Class and digest of those that have one, by machine type, section, domain and name; clips of one's own that share
    these are numbered."""
    told: dict[str, str] = {}
    for clip, klass in zip(task.clips, task.class_of_clip, strict=True):
        if clip.path not in digests:
            continue
        name = "/".join((clip.machine, clip.section, clip.domain or "", clip.name))
        while name in told:
            name += "+"
        told[name] = f"{klass} {digests[clip.path]}"
    return told


def _some(what: str, names: set[str]) -> str:
    return f"{len(names)} {what} (such as {min(names)})" if names else ""
