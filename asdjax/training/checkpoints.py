"""A line's saved steps: the only file that imports orbax.

A line (phase1, phase2_full, ...) is a folder of steps. Beside each step's folder lies STEP.json with the shape,
type and SHA-256 of every array; it is written last, so that a step without it does not exist, whatever a kill
left in its folder. On the way back every array is held against it: Orbax itself would restore a flipped byte.

What is saved are trees of arrays, one folder each under a step: `model` (all that an evaluation needs) and
`optimizer`.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from asdjax.errors import InputError
from asdjax.progress import say

Trees = Mapping[str, Any]
"""Named trees of arrays, or of their shapes."""

logging.getLogger("absl").setLevel(logging.ERROR)


class Damaged(Exception):
    """A saved step whose arrays are not those that were saved."""


def steps(line: Path) -> list[int]:
    """The steps saved in a line, ascending."""
    if not line.is_dir():
        return []
    return sorted(int(file.stem) for file in line.glob("*.json") if file.stem.isdigit())


def save(line: Path, step: int, trees: Trees, keep: int) -> None:
    """Save a step and forget all but the newest `keep`. When it returns, the step is on disk, whole."""
    folder = line.absolute() / str(step)
    shutil.rmtree(folder, ignore_errors=True)  # what a kill left of an earlier attempt
    with ocp.StandardCheckpointer() as checkpointer:
        for name, tree in trees.items():
            checkpointer.save(folder / name, _flat(tree))
        checkpointer.wait_until_finished()
    record = {"step": step, "trees": {name: _digests(_flat(tree)) for name, tree in trees.items()}}
    _replace(line / f"{step}.json", json.dumps(record, indent=1))
    for old in steps(line)[:-keep]:
        (line / f"{old}.json").unlink()
        shutil.rmtree(line / str(old))


def restore(line: Path, step: int, shapes: Trees) -> dict[str, Any]:
    """The trees named in `shapes`, as they were saved, on the shapes' shardings if they have any.

    Raises Damaged where an array is missing, of another shape or type, or of other content than was saved.
    """
    try:
        record = json.loads((line / f"{step}.json").read_text())["trees"]
        restored = {}
        with ocp.StandardCheckpointer() as checkpointer:
            for name, tree in shapes.items():
                _require_same(record[name], _flat(tree))
                restored[name] = checkpointer.restore(line.absolute() / str(step) / name, _flat(tree))
    except (OSError, ValueError, KeyError) as error:
        raise Damaged(f"{line / str(step)}: cannot be restored ({str(error).splitlines()[0]})") from error
    for name, arrays in restored.items():
        _require_content(record[name], arrays, line / str(step) / name)
    return {name: _unflat(shapes[name], arrays) for name, arrays in restored.items()}


def restore_newest(line: Path, shapes: Trees) -> tuple[int, dict[str, Any]] | None:
    """The newest step of a line that is whole, or None where nothing was saved.

    Damaged steps newer than it are set aside as STEP.damaged, and that is said. Raises InputError where every step
    is damaged, and leaves them as they are.
    """
    saved = steps(line)
    damages: dict[int, Damaged] = {}
    for step in reversed(saved):
        try:
            restored = restore(line, step, shapes)
        except Damaged as damage:
            damages[step] = damage
            continue
        for damaged, damage in damages.items():
            say(f"{damage}; set aside, going on from step {step}")
            _set_aside(line, damaged)
        return step, restored
    if saved:
        raise InputError(
            f"{line}: every saved step is damaged ({damages[saved[-1]]}); remove the folder to begin this phase anew"
        )
    return None


def _set_aside(line: Path, step: int) -> None:
    (line / f"{step}.json").rename(line / f"{step}.json.damaged")
    if (line / str(step)).exists():
        shutil.rmtree(line / f"{step}.damaged", ignore_errors=True)
        (line / str(step)).rename(line / f"{step}.damaged")


def _flat(tree: Any) -> dict[str, Any]:
    """Leaves by path, as one flat dictionary: neither NamedTuples nor optax states are Orbax's business."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _unflat(like: Any, arrays: Mapping[str, Any]) -> Any:
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(like)]
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[path] for path in paths])


def _digests(arrays: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {path: {"shape": list(a.shape), "dtype": str(a.dtype), "sha256": _sha256(a)} for path, a in arrays.items()}


def _sha256(array: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(array)).hexdigest()


def _require_same(record: Mapping[str, Any], shapes: Mapping[str, Any]) -> None:
    """ValueError naming the arrays that are missing, too many, or of another shape or type."""
    saved = {path: (tuple(entry["shape"]), entry["dtype"]) for path, entry in record.items()}
    wanted = {path: (tuple(leaf.shape), str(leaf.dtype)) for path, leaf in shapes.items()}
    differing = sorted(path for path in saved.keys() | wanted.keys() if saved.get(path) != wanted.get(path))
    if differing:
        path = differing[0]
        raise ValueError(
            f"{len(differing)} arrays differ, the first {path}: saved {saved.get(path)}, expected {wanted.get(path)}"
        )


def _require_content(record: Mapping[str, Any], arrays: Mapping[str, Any], where: Path) -> None:
    for path, array in arrays.items():
        if _sha256(array) != record[path]["sha256"]:
            raise Damaged(f"{where}: {path} is not what was saved")


def _replace(path: Path, text: str) -> None:
    temporary = path.with_suffix(".json.new")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
