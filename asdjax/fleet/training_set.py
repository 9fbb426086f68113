"""Training-set manifest (task.json): the clips, classes and settings of a fleet.

A fleet cannot continue with other clips or settings. Its checkpoints also hold a digest of the clips and classes, which
is checked if task.json is missing.
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
from asdjax.fleet.runs import Run, list_lines
from asdjax.runtime.files import add_checksum, replace_text, verify_checksum

FILE = "task.json"


class TrainingManifest(NamedTuple):
    """Content of task.json: classes, clips as `_describe_clips` lists them, settings as `_list_settings` does.

    `variants_per_group` is the number of variants whose gradients a step computes together. `steps` are the steps of
    each checkpoint line.
    """

    classes: tuple[tuple[str, ...], ...]
    clips: dict[str, str]
    settings: dict[str, Any]
    variants_per_group: int
    steps: dict[str, int]


def save(config: Config, run: Run, recordings: Sequence[Recording], variants_per_group: int) -> None:
    """Write a fleet's task.json: its classes, its clips, its settings and the size of its groups of variants.

    Each clip has its class index and the SHA-256 of its samples.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    digests = {clip.path: recording.sha256 for clip, recording in zip(run.task.clips, recordings, strict=True)}
    clips, settings = _describe_clips(run.task, digests), _list_settings(config, run)
    manifest = TrainingManifest(run.task.classes, clips, settings, variants_per_group, list_lines(config, run.task))
    replace_text(run.folder / FILE, json.dumps(add_checksum(manifest._asdict()), indent=1) + "\n")


def require_same(config: Config, run: Run, digests: Mapping[Path, str]) -> None:
    """Raise InputError if a fleet was trained with other settings, classes or clips.

    `digests` are of the clips' samples, by path; clips may be in another folder now. The error names what is new,
    missing or changed. Without a task.json the checkpoints are checked, which know only the clips and classes.
    """
    file = run.folder / FILE
    if not file.exists():
        _require_checkpoints_of(run, digests)
        return
    manifest = _read(file)
    _require_settings(file, manifest.settings, _list_settings(config, run))
    before, now = manifest.clips, _describe_clips(run.task, digests)
    if now == before and manifest.classes == run.task.classes:
        return
    differences = [
        _summarise("new", now.keys() - before.keys()),
        _summarise("missing", before.keys() - now.keys()),
        _summarise("changed", {name for name in now.keys() & before.keys() if now[name] != before[name]}),
    ]
    raise InputError(
        f"{file}: expected the training clips of this fleet as they were, got others: "
        f"{', '.join(filter(None, differences)) or 'their classes differ'}; restore them, or train in another "
        "work directory"
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
    """Call `require_same` for all runs, before any store is changed for them."""
    trained = [run for run in runs if read_steps(run.folder) or list_saved_lines(run)]
    tasks = {run.task.name: run.task for run in trained}
    digests = {name: compute_digests(config, workdir, task.clips) for name, task in tasks.items()}
    for run in trained:
        require_same(config, run, digests[run.task.name])


def read_group_size(run: Run) -> int | None:
    """Return the size of a run's groups of variants, decided before its first checkpoint; None without a checkpoint."""
    file = run.folder / FILE
    return _read(file).variants_per_group if file.exists() and list_saved_lines(run) else None


def read_steps(folder: Path) -> dict[str, int] | None:
    """Return the steps of each checkpoint line of a fleet, in the order of training; None if it was never started.

    A fleet without models has no checkpoint line.
    """
    return _read(folder / FILE).steps if (folder / FILE).exists() else None


def digest_manifest(folder: Path) -> str:
    """Return a digest of the classes and clips in a fleet's task.json."""
    manifest = _read(folder / FILE)
    return _digest(manifest.classes, manifest.clips)


def digest_clips(task: Task, digests: Mapping[Path, str]) -> str:
    """Return the digest of a task's classes and clips, whose samples have these digests by path."""
    return _digest(task.classes, _describe_clips(task, digests))


def _digest(classes: Sequence[Sequence[str]], clips: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps([classes, sorted(clips.items())]).encode()).hexdigest()


def list_saved_lines(run: Run) -> list[Path]:
    """Return the checkpoint lines of a run that have a saved step."""
    return [line for line in sorted(run.folder.glob("phase*")) if checkpoints.list_steps(line)]


def _require_checkpoints_of(run: Run, digests: Mapping[Path, str]) -> None:
    """Raise InputError if a run's newest checkpoints were trained on other clips or classes than it has now."""
    for line in list_saved_lines(run):
        now = digest_clips(run.task, digests)
        with contextlib.suppress(checkpoints.Damaged):  # reported when it is loaded
            origin = checkpoints.read_origin(line, checkpoints.list_steps(line)[-1])
            if origin and origin.clips != now:
                raise InputError(
                    f"{run.folder / FILE}: expected this file or the training clips of {line.name}, got other clips; "
                    "restore the file or the clips, or train in another work directory"
                )


def _read(file: Path) -> TrainingManifest:
    try:
        content = verify_checksum(file.read_text())
        classes = tuple(tuple(names) for names in content["classes"])
        clips, settings = dict(content["clips"]), dict(content["settings"])
        return TrainingManifest(classes, clips, settings, int(content["variants_per_group"]), dict(content["steps"]))
    except (ValueError, KeyError, TypeError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{file}: expected a training-set manifest, got {reason}; remove it and run asdjax train again to write it"
        ) from error


def _list_settings(config: Config, run: Run) -> dict[str, Any]:
    """Return the fields that a fleet depends on, its seed included and its data left out, as JSON has them."""
    settled = {field: value for field, value in loading.list_settled(config).items() if not field.startswith("data.")}
    return json.loads(json.dumps({"seed": run.seed, **settled}))


def _describe_clips(task: Task, digests: Mapping[Path, str]) -> dict[str, str]:
    """Return each clip's class index and digest by machine type, section, domain and name.

    A clip that shares these with an earlier one gets a "+" for each of those.
    """
    described: dict[str, str] = {}
    for clip, class_index in zip(task.clips, task.class_of_clip, strict=True):
        name = "/".join((clip.machine, clip.section, clip.domain or "", clip.name))
        while name in described:
            name += "+"
        described[name] = f"{class_index} {digests[clip.path]}"
    return described


def _summarise(change: str, names: set[str]) -> str:
    return f"{len(names)} {change} (such as {min(names)})" if names else ""
