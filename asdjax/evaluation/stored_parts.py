"""Runs whose embeddings and scores were made by `asdjax evaluate --part`, for the evaluation of all runs to gather.

W/evaluation/<split>/prepared/<run>/ has a folder for each evaluated checkpoint line, as embeddings/ has, and key.json,
which is written last. It holds a digest of all that embeddings and scores depend on, so that an evaluation takes only
what it would have made itself.
"""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from asdjax.config.fields import Config
from asdjax.errors import InUse
from asdjax.evaluation.checkpoint_selection import SelectedCheckpoint
from asdjax.evaluation.score_runs import TaskClips
from asdjax.fleet import fleet_model
from asdjax.runtime.files import LOCK, add_checksum, locked_folder, replace_text, verify_checksum

FOLDER = "prepared"
_KEY = "key.json"

# groups of fields that neither embeddings nor scores of models depend on
_WITHOUT_EFFECT = ("baselines", "data", "parallel", "seed")
# fields of config.evaluate that begin so, as well
_OF_SYSTEMS = ("ensemble", "sensitivity", "system", "threshold")


def make_key(config: Config, selected: Sequence[SelectedCheckpoint], recorded: TaskClips) -> str:
    """Return a digest of all that the embeddings and scores of a run depend on."""
    fields = {name: value for name, value in config.to_dict().items() if name not in _WITHOUT_EFFECT}
    fields["evaluate"] = {name: value for name, value in fields["evaluate"].items() if not name.startswith(_OF_SYSTEMS)}
    clips = {
        part: [(asdict(clip), recording.sha256) for clip, recording in zip(*of_part, strict=True)]
        for part, of_part in recorded.items()
    }
    content = [fields, fleet_model.choose_precision(config), [tuple(one) for one in selected], clips]
    return hashlib.sha256(json.dumps(content, default=str).encode()).hexdigest()


def exists(evaluation: Path, run: str) -> bool:
    """Return whether a run is prepared, with whatever key."""
    return (evaluation / FOLDER / run / _KEY).exists()


def is_prepared(evaluation: Path, run: str, key: str) -> bool:
    """Return whether a run is prepared with this key."""
    try:
        return verify_checksum((evaluation / FOLDER / run / _KEY).read_text())["key"] == key
    except (OSError, ValueError, KeyError):
        return False


@contextlib.contextmanager
def preparing(evaluation: Path, run: str, key: str) -> Iterator[Path]:
    """Lock and empty the folder of a run, yield it to be filled, then write its key.

    Raises InUse if another process is at work on the run.
    """
    with locked_folder(evaluation / FOLDER / run, wait=False) as folder:
        (folder / _KEY).unlink(missing_ok=True)
        for entry in folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != LOCK:  # left from a kill
                entry.unlink()
        yield folder
        replace_text(folder / _KEY, json.dumps(add_checksum({"key": key})) + "\n")


def take(evaluation: Path, run: str, key: str, into: Path) -> bool:
    """Link or copy a prepared run's folders into the new folder `into`; return False if it is not prepared so.

    Raises InUse if another process is at work on the run.
    """
    if not exists(evaluation, run):
        return False
    with locked_folder(evaluation / FOLDER / run, wait=False) as folder:
        if not is_prepared(evaluation, run, key):
            return False
        shutil.copytree(folder, into, ignore=shutil.ignore_patterns(_KEY, LOCK), copy_function=_link_or_copy)
        return True


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a disk without hard links
        shutil.copy2(source, target)


def remove(evaluation: Path, keys: Mapping[str, str]) -> None:
    """Remove prepared runs with these keys, as far as no other process is at work on them."""
    for run, key in keys.items():
        with contextlib.suppress(OSError, InUse), locked_folder(evaluation / FOLDER / run, wait=False) as folder:
            if is_prepared(evaluation, run, key):
                shutil.rmtree(folder)
    with contextlib.suppress(OSError):
        (evaluation / FOLDER).rmdir()
