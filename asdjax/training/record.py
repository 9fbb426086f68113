"""What a fleet was trained on, kept beside it: with other clips it would be another fleet."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from asdjax.config import Config
from asdjax.corpus.access import Recording, digests_of
from asdjax.corpus.tasks import Task
from asdjax.errors import InputError
from asdjax.files import replace_text, sealed, unsealed
from asdjax.training.runs import Run

FILE = "task.json"


def save(folder: Path, task: Task, recordings: Sequence[Recording]) -> None:
    """Write a fleet's task.json: its classes, and its training clips, each with its class's number and the SHA-256 of
    its samples."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {clip.path: recording.sha256 for clip, recording in zip(task.clips, recordings, strict=True)}
    content = {"classes": task.classes, "clips": _clips(task, digests)}
    replace_text(folder / FILE, json.dumps(sealed(content), indent=1) + "\n")


def require_same(folder: Path, task: Task, digests: Mapping[Path, str]) -> None:
    """See that a fleet's task.json, if there is one, tells of these classes and clips, wherever they lie now; `digests`
    are of the clips' samples, by path.

    Raises InputError that says what is new, missing or changed.
    """
    file = folder / FILE
    if not file.exists():
        return
    classes, before = _read(file)
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


def require_same_clips(config: Config, workdir: Path, runs: Sequence[Run]) -> None:
    """`require_same` of all runs, before any store is changed for them."""
    recorded = [run for run in runs if (run.folder / FILE).exists()]
    tasks = {run.task.name: run.task for run in recorded}
    digests = {name: digests_of(config, workdir, task.clips) for name, task in tasks.items()}
    for run in recorded:
        require_same(run.folder, run.task, digests[run.task.name])


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
    """Class and digest by machine type, section, domain and name; clips of one's own that share these are numbered."""
    told: dict[str, str] = {}
    for clip, klass in zip(task.clips, task.class_of_clip, strict=True):
        name = "/".join((clip.machine, clip.section, clip.domain or "", clip.name))
        while name in told:
            name += "+"
        told[name] = f"{klass} {digests[clip.path]}"
    return told


def _some(what: str, names: set[str]) -> str:
    return f"{len(names)} {what} (such as {min(names)})" if names else ""
