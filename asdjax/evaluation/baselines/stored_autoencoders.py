"""Trained auto-encoders stored on disk, and thus trained once for the same clips and settings.

`W/evaluation/baselines/<machine type>/` serves both splits. `autoencoder.npz` holds the learned arrays by path.
`autoencoder.json`, written last, holds settings, digests of the training clips and the SHA-256 of the other file.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import numpy as np

from asdjax.evaluation.baselines import autoencoder
from asdjax.evaluation.baselines.autoencoder import NAME, AutoencoderTraining, Learned
from asdjax.inference.log_mel import LogMels
from asdjax.runtime.files import locked_folder, replace_text
from asdjax.runtime.progress import log

FOLDER = "baselines"
ARRAYS, RECORD = f"{NAME}.npz", f"{NAME}.json"


def load_or_fit(folder: Path, train: LogMels, training: AutoencoderTraining, digests: Sequence[str]) -> Learned:
    """Load the auto-encoder stored in a folder if it has the same settings and training clips; otherwise train it.

    `digests` are the SHA-256 of the samples of the training clips, in order. Raises Diverged as `autoencoder.fit`
    does, and InputError if the folder cannot be written.
    """
    trained_by = {**asdict(training), "clips": list(digests)}
    with locked_folder(folder):
        learned = _read(folder, trained_by)
        if learned is not None:
            log(f"{training.machine} {NAME}: already trained on these clips with these settings; loaded from {folder}")
            return learned
        learned = autoencoder.fit(train, training)
        _write(folder, trained_by, learned)
    return learned


def _read(folder: Path, trained_by: dict[str, Any]) -> Learned | None:
    """Return the stored arrays; None if they are missing, were trained otherwise or (logged) are damaged."""
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
            return jax.tree.map_with_path(lambda path, _: arrays[jax.tree_util.keystr(path)], autoencoder.make_shapes())
    except (OSError, ValueError, KeyError, TypeError) as error:
        log(f"{folder}: the stored auto-encoder is damaged ({error}); training it again")
        return None


def _write(folder: Path, trained_by: dict[str, Any], learned: Learned) -> None:
    (folder / RECORD).unlink(missing_ok=True)
    arrays = {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(learned)}
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    (folder / ARRAYS).write_bytes(content.getvalue())
    record = {"trained_by": trained_by, "sha256": hashlib.sha256(content.getvalue()).hexdigest()}
    replace_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
