"""Trained auto-encoders on disk, so that none is trained twice on the same clips by the same settings.

`W/evaluation/baselines/<machine type>/` serves both splits: `autoencoder.npz` has what was learned, by path;
`autoencoder.json`, written last, tells what it was trained on and by, and the SHA-256 of the other file.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from asdjax.evaluation.baselines import autoencoder
from asdjax.evaluation.baselines.autoencoder import NAME, Learned, Training
from asdjax.evaluation.baselines.log_mel import LogMels
from asdjax.runtime.files import locked_folder, replace_text
from asdjax.runtime.progress import log

FOLDER = "baselines"
ARRAYS, RECORD = f"{NAME}.npz", f"{NAME}.json"


def trained(folder: Path, train: LogMels, training: Training, digests: Sequence[str]) -> Learned:
    """What `autoencoder.fit` gives, kept in a folder; what is kept there, and it is said, where that was trained by the
    same settings on the same clips: `digests`, in order the SHA-256 of their samples.

    Raises Diverged as `fit` does, and InputError where the folder cannot be written.
    """
    trained_by = {**training._asdict(), "clips": list(digests)}
    with locked_folder(folder):
        learned = _read(folder, trained_by)
        if learned is not None:
            log(
                f"{training.machine} {NAME}: trained before on the same clips by the same settings, taken from {folder}"
            )
            return learned
        learned = autoencoder.fit(train, training)
        _write(folder, trained_by, learned)
    return learned


def _read(folder: Path, trained_by: dict[str, Any]) -> Learned | None:
    """None where nothing is kept or it was trained otherwise; also where it is damaged, and that is said."""
    if not (folder / RECORD).exists():
        return None
    try:
        record = json.loads((folder / RECORD).read_text())
        if record["trained_by"] != trained_by:
            return None
        content = (folder / ARRAYS).read_bytes()
        if hashlib.sha256(content).hexdigest() != record["sha256"]:
            raise ValueError(f"{ARRAYS} is not what was saved")
        with np.load(io.BytesIO(content)) as arrays:
            return jax.tree.map_with_path(lambda path, _: arrays[jax.tree_util.keystr(path)], autoencoder.shapes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        log(f"{folder}: the auto-encoder kept there is damaged ({error}); training it anew")
        return None


def _write(folder: Path, trained_by: dict[str, Any], learned: Learned) -> None:
    (folder / RECORD).unlink(missing_ok=True)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(learned)}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    (folder / ARRAYS).write_bytes(content.getvalue())
    record = {"trained_by": trained_by, "sha256": hashlib.sha256(content.getvalue()).hexdigest()}
    replace_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
