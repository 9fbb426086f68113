"""Checkpoint lines and their saved steps.

A checkpoint line (phase1, phase2_full, ...) is a folder of steps. A step's folder holds one folder for each saved tree
of arrays: `model` (all that an evaluation needs) and, before the end of a phase, `optimizer`. Next to it, the record
STEP.json holds the SHA-256 of every file, the shape, dtype and SHA-256 of every array, the line's origin, and a SHA-256
of the record itself.

The record is written last: a folder without one is left from a killed save and does not count as a step. `restore`
compares files and arrays with the record, because Orbax itself would restore a flipped byte.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from asdjax.data.tasks import UNSAVABLE
from asdjax.errors import InputError
from asdjax.fleet import orbax_trees
from asdjax.runtime.files import add_checksum, compute_sha256, find_no_space, replace_text, verify_checksum
from asdjax.runtime.progress import log

#: Named trees of arrays, or of their shapes.
Trees = Mapping[str, Any]


class Damaged(Exception):
    """Saved step that differs from its record: a file or array is missing, changed or unexpected."""


class Replaced(Exception):
    """Saved step that holds another model than expected, because it was trained again."""


class Start(NamedTuple):
    """Saved step from which a checkpoint line began: the name of its line, its number, the digest of its model."""

    line: str
    step: int
    digest: str


def require_savable(workdir: Path) -> None:
    """Raise InputError if Orbax could not read checkpoints in this work directory again."""
    if UNSAVABLE & set(str(workdir.absolute())):
        raise InputError(
            f"workdir {workdir}: expected a path without * ? [ (Orbax, which saves checkpoints, takes them for "
            f"patterns), got {workdir.absolute()}; choose another"
        )


def list_steps(line: Path) -> list[int]:
    """Return the steps saved in a line, in ascending order."""
    if not line.is_dir():
        return []
    return sorted(int(file.stem) for file in line.glob("*.json") if file.stem.isdigit())


class Origin(NamedTuple):
    """Origin of a checkpoint line: a digest of its clips and classes, and the step it began from (None: scratch)."""

    clips: str
    start: Start | None


def save(line: Path, step: int, trees: Trees, keep: int, origin: Origin | None = None) -> None:
    """Save a step to disk and remove all but the newest `keep` steps.

    Without an `origin`, later checks of the origin are skipped. Raises InputError if the disk or the quota is full.
    """
    folder = line.absolute() / str(step)
    shutil.rmtree(folder, ignore_errors=True)  # an earlier save may have been killed
    try:
        orbax_trees.save(folder, {name: _flatten(tree) for name, tree in trees.items()})
    except ValueError as error:  # raised by TensorStore, which Orbax writes with
        advice = find_no_space(str(error), folder)
        if advice is None:
            raise
        raise advice from error
    record = {
        "step": step,
        "files": {name: _hash_files(folder / name) for name in trees},
        "trees": {name: _describe(_flatten(tree)) for name, tree in trees.items()},
        "origin": origin and {"clips": origin.clips, "start": origin.start and origin.start._asdict()},
    }
    replace_text(line / f"{step}.json", json.dumps(add_checksum(record), indent=1))
    _keep_newest(line, keep)


def _keep_newest(line: Path, keep: int) -> None:
    """Remove all but the newest `keep` steps, and folders left from killed saves."""
    saved = list_steps(line)
    for old in saved[:-keep]:
        (line / f"{old}.json").unlink()
    for folder in line.iterdir():
        if folder.is_dir() and folder.name.isdigit() and int(folder.name) not in saved[-keep:]:
            shutil.rmtree(folder)


def read_digest(line: Path, step: int) -> str:
    """Return the SHA-256 of a saved step's model, over the shape, dtype and content of every array in its record.

    Two trainings that end with the same bits have the same digest. Raises Damaged if the record is missing or damaged.
    """
    return _model_digest(_read_record(line, step))


def read_origin(line: Path, step: int) -> Origin | None:
    """Return the origin of a saved step, or None if it is unknown; raises Damaged as `read_digest`."""
    origin = _read_record(line, step).get("origin")
    return origin and Origin(origin["clips"], origin["start"] and Start(**origin["start"]))


def require_same_start(line: Path, step: int) -> None:
    """Raise InputError if the step from which this line began holds another model now.

    If nothing of the earlier line is left, there is nothing to compare. Raises Damaged as `read_digest`.
    """
    start = (origin := read_origin(line, step)) and origin.start
    if start is None:
        return
    saved = list_steps(line.parent / start.line)
    if saved and (start.step not in saved or read_digest(line.parent / start.line, start.step) != start.digest):
        raise InputError(
            f"{line}: expected step {start.step} of {start.line} as step {step} began from it, got another: "
            f"{start.line} was trained again since; remove {line} and run asdjax train again"
        )


def restore(line: Path, step: int, shapes: Trees, digest: str | None = None) -> dict[str, Any]:
    """Read the trees named in `shapes` to the host, from however many devices they were saved.

    Raises Damaged if a file or array is missing or changed, or has another shape or dtype than in `shapes`. Raises
    Replaced if the model has another digest than a given one (see `read_digest`).
    """
    record = _read_record(line, step)
    if digest is not None and _model_digest(record) != digest:
        raise Replaced(f"{line}: step {step} holds another model")
    _require_files(line, step, record)
    return _restore(line, step, shapes, record)


def restore_verified(line: Path, step: int, shapes: Trees) -> dict[str, Any]:
    """Restore a step as `restore` does, but for its files, which `set_aside_damaged` has compared with the record."""
    return _restore(line, step, shapes, _read_record(line, step))


def _restore(line: Path, step: int, shapes: Trees, record: Mapping[str, Any]) -> dict[str, Any]:
    saved, folder = record["trees"], line.absolute() / str(step)
    wanted = {name: _flatten(tree) for name, tree in shapes.items()}
    for name, arrays in wanted.items():
        _require_shapes(saved.get(name, {}), arrays, line / str(step) / name)
    try:
        restored = orbax_trees.restore(folder, wanted)
    except (FileNotFoundError, ValueError) as error:  # ValueError: raised by TensorStore, which Orbax reads with
        verify(line, step)  # training may have removed the step since its files were verified
        raise Damaged(f"{line / str(step)} cannot be read ({error})") from error
    for name, arrays in restored.items():
        _require_content(saved[name], arrays, line / str(step) / name)
    return {name: _unflatten(shapes[name], arrays) for name, arrays in restored.items()}


def name_repair(line: Path) -> str:
    """Return the remedy for a damaged newest step: training goes on from the newest undamaged one, if there is one."""
    return f"{f'remove {line} and ' if len(list_steps(line)) == 1 else ''}run asdjax train again"


def verify(line: Path, step: int) -> None:
    """Raise Damaged if a file of a step is missing or is not what was saved."""
    _require_files(line, step, _read_record(line, step))


def _require_files(line: Path, step: int, record: Mapping[str, Any]) -> None:
    for name, saved in record["files"].items():
        folder = line / str(step) / name
        found = _hash_files(folder)
        for file, digest in saved.items():
            if found.get(file) != digest:
                raise Damaged(f"{folder / file} is {'not what was saved' if file in found else 'missing'}")


def set_aside_damaged(line: Path) -> int | None:
    """Rename damaged steps to STEP.damaged until the newest is undamaged, and return that; None if nothing was saved.

    Logs each that is renamed. Raises InputError if every step is damaged, and then renames none.
    """
    saved = list_steps(line)
    damages: dict[int, Damaged] = {}
    for step in reversed(saved):
        try:
            verify(line, step)
        except Damaged as damage:
            damages[step] = damage
            continue
        for damaged, damage in damages.items():
            log(f"{damage}; step {damaged} set aside, going on from step {step}")
            _set_aside(line, damaged)
        return step
    if saved:
        raise InputError(
            f"{line}: expected an undamaged step, got damage in every saved step ({damages[saved[-1]]}); remove the "
            "folder to begin this phase again"
        )
    return None


def _read_record(line: Path, step: int) -> dict[str, Any]:
    path = line / f"{step}.json"
    try:
        return verify_checksum(path.read_text())
    except (FileNotFoundError, IsADirectoryError) as error:
        raise Damaged(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Damaged(f"{path}: {error}") from error


def _model_digest(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record["trees"].get("model")).encode()).hexdigest()


def _set_aside(line: Path, step: int) -> None:
    (line / f"{step}.json").rename(line / f"{step}.json.damaged")
    if (line / str(step)).exists():
        shutil.rmtree(line / f"{step}.damaged", ignore_errors=True)
        (line / str(step)).rename(line / f"{step}.damaged")


def _flatten(tree: Any) -> dict[str, Any]:
    """Return the leaves by path, so that Orbax needs to know neither NamedTuples nor optax states."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _unflatten(like: Any, arrays: Mapping[str, Any]) -> Any:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(like)]
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[path] for path in paths])


def _describe(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {
        path: {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": _hash_array(array)}
        for path, array in arrays.items()
    }


def _hash_files(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file under a folder, by relative path."""
    digests = {}
    for path in sorted(Path(parent, name) for parent, _, names in os.walk(folder) for name in names):
        with suppress(FileNotFoundError):  # training removes old steps, maybe now
            digests[str(path.relative_to(folder))] = compute_sha256(path)
    return digests


def _hash_array(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def _require_shapes(record: Mapping[str, Any], shapes: Mapping[str, Any], folder: Path) -> None:
    """Raise Damaged naming an array that is missing or unexpected, or has another shape or dtype."""
    saved = {path: (tuple(entry["shape"]), entry["dtype"]) for path, entry in record.items()}
    wanted = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in shapes.items()}
    differing = sorted(path for path in saved.keys() | wanted.keys() if saved.get(path) != wanted.get(path))
    if differing:
        path = differing[0]
        raise Damaged(
            f"{folder}: expected {path} to be {wanted.get(path)}, got {saved.get(path)} "
            f"({len(differing)} arrays differ)"
        )


def _require_content(record: Mapping[str, Any], arrays: Mapping[str, Any], folder: Path) -> None:
    for path, array in arrays.items():
        if _hash_array(array) != record[path]["sha256"]:
            raise Damaged(f"{folder}: {path} is not what was saved")
