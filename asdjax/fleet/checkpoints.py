"""A line's saved steps: the only file that imports orbax.

A line (phase1, phase2_full, ...) is a folder of steps. Beside each step's folder lies STEP.json with the SHA-256
of every file in it, the shape, type and SHA-256 of every array, what the line was trained on and began from, and a
SHA-256 of all that; it is written last, so that a step without it does not exist, whatever a kill left in its folder.
On the way back files and arrays are held against it: Orbax itself would restore a flipped byte.

What is saved are trees of arrays, one folder each under a step: `model` (all that an evaluation needs) and
`optimizer`.
"""

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import orbax.checkpoint as ocp

from asdjax.data.tasks import UNSAVABLE
from asdjax.errors import InputError
from asdjax.runtime.files import add_checksum, no_space_told, replace_text, sha256_of, verify_checksum
from asdjax.runtime.progress import log

Trees = Mapping[str, Any]
"""Named trees of arrays, or of their shapes."""

_one_at_a_time = threading.Lock()
"""Held while Orbax works: it numbers what goes on by one counter for the whole process, and two tasks' saves that run
at once wait for each other's signals until they time out."""

logging.getLogger("absl").setLevel(logging.CRITICAL)  # what goes wrong in Orbax's threads it raises as well


class Damaged(Exception):
    """A saved step whose arrays are not those that were saved."""


class Replaced(Exception):
    """A saved step that holds another model than expected: it was trained again since."""


class Start(NamedTuple):
    """The saved step that a line began from: its line's name, its number, the digest of its model."""

    line: str
    step: int
    digest: str


def require_savable(workdir: Path) -> None:
    """Raise InputError for a work directory whose checkpoints could never be read again."""
    if UNSAVABLE & set(str(workdir.absolute())):
        raise InputError(
            f"--workdir {workdir}: expected a path without * ? [ (Orbax, which saves checkpoints, takes them for "
            f"patterns), came {workdir.absolute()}; choose another"
        )


def steps(line: Path) -> list[int]:
    """The steps saved in a line, ascending."""
    if not line.is_dir():
        return []
    return sorted(int(file.stem) for file in line.glob("*.json") if file.stem.isdigit())


class Origin(NamedTuple):
    """What a line was trained on, as a digest of its clips and their classes, and what it began from; None: scratch."""

    clips: str
    start: Start | None


def save(line: Path, step: int, trees: Trees, keep: int, origin: Origin | None = None) -> None:
    """Save a step and forget all but the newest `keep`. When it returns, the step is on disk, whole.

    Without an `origin` nothing is known of it, and nothing asked.
    """
    folder = line.absolute() / str(step)
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left of an earlier attempt
    try:
        with _one_at_a_time, ocp.StandardCheckpointer() as checkpointer:
            for name, tree in trees.items():
                if _flat(tree):  # Orbax refuses one without arrays, such as an optimizer's that keeps no velocity
                    checkpointer.save(folder / name, _flat(tree))
            checkpointer.wait_until_finished()
    except ValueError as error:  # of TensorStore, which Orbax writes by
        advice = no_space_told(str(error), folder)
        if advice is None:
            raise
        raise advice from error
    record = {
        "step": step,
        "files": {name: _files(folder / name) for name in trees},
        "trees": {name: _digests(_flat(tree)) for name, tree in trees.items()},
        "origin": origin and {"clips": origin.clips, "start": origin.start and origin.start._asdict()},
    }
    replace_text(line / f"{step}.json", json.dumps(add_checksum(record), indent=1))
    saved = steps(line)
    kept = saved[-keep:]
    for old in saved[:-keep]:
        (line / f"{old}.json").unlink()
    for left in line.iterdir():  # what is older, and what kills left
        if left.is_dir() and left.name.isdigit() and int(left.name) not in kept:
            shutil.rmtree(left)


def read_digest(line: Path, step: int) -> str:
    """Return the SHA-256 of a saved step's model: shape, type and content of every array, as its record has them.

    Two trainings that end with the same bits have the same one. Raises Damaged where there is no whole record.
    """
    return _model_digest(_read_record(line, step))


def read_origin(line: Path, step: int) -> Origin | None:
    """Return what a saved step was trained on, as far as it is known; raises Damaged where there is no whole record."""
    found = _read_record(line, step).get("origin")
    return found and Origin(found["clips"], found["start"] and Start(**found["start"]))


def require_same_start(line: Path, step: int) -> None:
    """Raise InputError where the step that the line of a saved step began from holds another model by now.

    Where nothing of that line is left, there is nothing to mistake it for. Raises Damaged where there is no whole
    record.
    """
    start = (origin := read_origin(line, step)) and origin.start
    if start is None:
        return
    there = steps(line.parent / start.line)
    if there and (start.step not in there or read_digest(line.parent / start.line, start.step) != start.digest):
        raise InputError(
            f"{line}: expected step {start.step} of {start.line} as step {step} began from it, got another: "
            f"{start.line} was trained again since; remove {line} and run asdjax train again"
        )


def restore(line: Path, step: int, shapes: Trees, digest: str | None = None) -> dict[str, Any]:
    """The trees named in `shapes`, as they were saved, on the host, however many devices they were saved from.

    Raises Damaged where a file or array is missing or of other content than was saved, or of another shape or type;
    Replaced where a `digest`, see `digest_of`, is given and the model is another.
    """
    record = _read_record(line, step)
    if digest is not None and _model_digest(record) != digest:
        raise Replaced(f"{line}: step {step} holds another model")
    _verify_files(line, step, record)
    return _restore_verified(line, step, shapes, record)


def _restore_verified(line: Path, step: int, shapes: Trees, of_step: Mapping[str, Any]) -> dict[str, Any]:
    """`restore`, of a step whose files have just been held against its record."""
    record = of_step["trees"]
    restored = {}
    with _one_at_a_time, ocp.StandardCheckpointer() as checkpointer:
        for name, tree in shapes.items():
            _require_same(record.get(name, {}), _flat(tree), line / str(step) / name)
            wanted = jax.tree.map(_host_array, _flat(tree))
            restored[name] = checkpointer.restore(line.absolute() / str(step) / name, wanted) if wanted else {}
    for name, arrays in restored.items():
        _require_content(record[name], arrays, line / str(step) / name)
    return {name: _unflat(shapes[name], arrays) for name, arrays in restored.items()}


def verify(line: Path, step: int) -> None:
    """Raise Damaged where a file of a step is missing or is not what was saved."""
    _verify_files(line, step, _read_record(line, step))


def _verify_files(line: Path, step: int, record: Mapping[str, Any]) -> None:
    for name, saved in record["files"].items():
        folder = line / str(step) / name
        there = _files(folder)
        for file, digest in saved.items():
            if there.get(file) != digest:
                raise Damaged(f"{folder / file} is {'not what was saved' if file in there else 'missing'}")


def newest_whole(line: Path) -> int | None:
    """The newest step of a line that is whole, or None where nothing was saved.

    Damaged steps newer than it are set aside as STEP.damaged, and that is said. Raises InputError where every step
    is damaged, and leaves them as they are.
    """
    saved = steps(line)
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
            f"{line}: every saved step is damaged ({damages[saved[-1]]}); remove the folder to begin this phase anew"
        )
    return None


def restore_newest(line: Path, shapes: Trees) -> tuple[int, dict[str, Any]] | None:
    """The newest step of a line that is whole, restored, or None where nothing was saved; see `newest_whole`.

    Raises InputError where the step holds other arrays than `shapes`.
    """
    step = newest_whole(line)
    if step is None:
        return None
    try:
        return step, _restore_verified(line, step, shapes, _read_record(line, step))
    except Damaged as damage:
        raise InputError(f"{damage}; train in another --workdir") from None


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


def _host_array(leaf: Any) -> np.ndarray:
    """Has Orbax restore to the host: to devices it takes twice as long, and would ask for as many as saved it."""
    return np.empty(leaf.shape, leaf.dtype)


def _flat(tree: Any) -> dict[str, Any]:
    """Leaves by path, as one flat dictionary: neither NamedTuples nor optax states are Orbax's business."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _unflat(like: Any, arrays: Mapping[str, Any]) -> Any:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(like)]
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[path] for path in paths])


def _digests(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {path: {"shape": list(a.shape), "dtype": str(a.dtype), "sha256": _sha256(a)} for path, a in arrays.items()}


def _files(folder: Path) -> dict[str, str]:
    """SHA-256 of every file under a folder."""
    return {str(path.relative_to(folder)): sha256_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def _sha256(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def _require_same(record: Mapping[str, Any], shapes: Mapping[str, Any], where: Path) -> None:
    """Raise Damaged, naming an array that is missing, too many, or of another shape or type."""
    saved = {path: (tuple(entry["shape"]), entry["dtype"]) for path, entry in record.items()}
    wanted = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in shapes.items()}
    differing = sorted(path for path in saved.keys() | wanted.keys() if saved.get(path) != wanted.get(path))
    if differing:
        path = differing[0]
        raise Damaged(
            f"{where}: {len(differing)} arrays differ, the first {path}: saved {saved.get(path)}, "
            f"expected {wanted.get(path)}"
        )


def _require_content(record: Mapping[str, Any], arrays: Mapping[str, Any], where: Path) -> None:
    for path, array in arrays.items():
        if _sha256(array) != record[path]["sha256"]:
            raise Damaged(f"{where}: {path} is not what was saved")
