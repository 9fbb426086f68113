"""What a fleet was trained on and by, kept beside it: with other clips or settings it would be another fleet.

Its checkpoints have a digest of the clips and classes, so that a task.json that is gone is not made up from others.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.config import loading
from asdjax.config.fields import Config, default_config, flatten_fields
from asdjax.data.access import Recording, compute_digests
from asdjax.data.tasks import Task
from asdjax.errors import InputError
from asdjax.fleet import checkpoints
from asdjax.fleet.runs import Run
from asdjax.runtime.files import add_checksum, replace_text, verify_checksum

FILE = "task.json"


class TrainingManifest(NamedTuple):
    """The content of task.json: classes, clips as `_clips` lists them, settings as `_settings` does, and group size."""

    classes: tuple[tuple[str, ...], ...]
    clips: dict[str, str]
    settings: dict[str, Any]
    variants_per_group: int


def save(config: Config, run: Run, recordings: Sequence[Recording], variants_per_group: int) -> None:
    """Write a fleet's task.json: its classes, its training clips, each with its class's number and the SHA-256 of its
    samples, the settings that it is trained by, and the size of its groups of variants."""
    run.folder.mkdir(parents=True, exist_ok=True)
    digests = {clip.path: recording.sha256 for clip, recording in zip(run.task.clips, recordings, strict=True)}
    content = TrainingManifest(run.task.classes, _clips(run.task, digests), _settings(config, run), variants_per_group)
    replace_text(run.folder / FILE, json.dumps(add_checksum(content._asdict()), indent=1) + "\n")


def require_same(config: Config, run: Run, digests: Mapping[Path, str]) -> None:
    """Raise InputError where a fleet was trained by other settings, or on other classes or clips, wherever these lie
    now; `digests` are of the clips' samples, by path. The error names what is new, missing or changed.

    Without a task.json its checkpoints are asked, which know the clips and classes alone.
    """
    file = run.folder / FILE
    if not file.exists():
        _require_checkpoints_of(run, digests)
        return
    manifest = _read(file)
    _require_settings(file, manifest.settings, _settings(config, run))
    before, now = manifest.clips, _clips(run.task, digests)
    if now == before and manifest.classes == run.task.classes:
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


def _require_settings(file: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    defaults = json.loads(json.dumps(flatten_fields(default_config())))
    differing = [
        f"{field} (trained with {before.get(field, defaults.get(field))!r}, now {value!r})"
        for field, value in now.items()
        if before and before.get(field, defaults.get(field)) != value
    ]
    if differing:
        raise InputError(
            f"{file}: expected the settings that this fleet was trained by, got others in {loading.FILE}: "
            f"{', '.join(differing)}; restore {loading.FILE}, or remove {file.parent} and run asdjax train again"
        )


def require_same_training(config: Config, workdir: Path, runs: Sequence[Run]) -> None:
    """`require_same` of all runs, before any store is changed for them."""
    known = [run for run in runs if (run.folder / FILE).exists() or _lines_of(run)]
    tasks = {run.task.name: run.task for run in known}
    digests = {name: compute_digests(config, workdir, task.clips) for name, task in tasks.items()}
    for run in known:
        require_same(config, run, digests[run.task.name])


def read_group_size(run: Run) -> int | None:
    """Return the size of a run's groups of variants, decided when it first started; None before that."""
    file = run.folder / FILE
    return _read(file).variants_per_group if file.exists() else None


def digest_manifest(folder: Path) -> str:
    """Return a digest of the classes and clips in a fleet's task.json."""
    manifest = _read(folder / FILE)
    return _digest(manifest.classes, manifest.clips)


def _digest(classes: Sequence[Sequence[str]], clips: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([classes, sorted(clips.items())]).encode()).hexdigest()


def _lines_of(run: Run) -> list[Path]:
    """Return the lines of a run that hold checkpoints."""
    return [line for line in sorted(run.folder.glob("phase*")) if checkpoints.steps(line)]


def _require_checkpoints_of(run: Run, digests: Mapping[Path, str]) -> None:
    """Raise InputError where a run's newest checkpoints are known to be of other clips or classes than it has now."""
    for line in _lines_of(run):
        now = _digest(run.task.classes, _clips(run.task, digests))
        with contextlib.suppress(checkpoints.Damaged):  # said where it is loaded
            origin = checkpoints.read_origin(line, checkpoints.steps(line)[-1])
            if origin and origin.clips != now:
                raise InputError(
                    f"{run.folder / FILE}: no such file, and {line} was trained on other clips than are there now; "
                    "restore the file or the clips, or train in another --workdir"
                )


def _read(file: Path) -> TrainingManifest:
    try:
        content = verify_checksum(file.read_text())
        classes = tuple(tuple(of_class) for of_class in content["classes"])
        return TrainingManifest(
            classes, dict(content["clips"]), dict(content["settings"]), int(content["variants_per_group"])
        )
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{file}: expected a record of training clips ({error}); remove it and run asdjax train again, which "
            "writes it anew"
        ) from error


def _settings(config: Config, run: Run) -> dict[str, Any]:
    """Return the fields that a fleet depends on beside its clips, its own seed among them, as JSON has them."""
    settled = {field: value for field, value in loading.settled(config).items() if not field.startswith("data.")}
    return json.loads(json.dumps({"seed": run.seed, **settled}))


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
