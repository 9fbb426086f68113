"""Samples of the clips in a report: from the store, and of accepted clips from W/feedback/."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from asdjax.config.fields import Config
from asdjax.data import feedback, store
from asdjax.data.access import store_folder


def load_samples(workdir: Path, config: Config, machine: str, digests: Mapping[Path, str]) -> dict[Path, np.ndarray]:
    """Return the samples of clips, int16 (s,), given by path with the SHA-256 of their samples.

    Raises InputError if the sound of a clip is no longer there, or is damaged.
    """
    accepted = feedback.read_judgements(workdir, "accept", machine, undone=True)
    wanted = [
        judgement._replace(clips=tuple(clip for clip in judgement.clips if clip.sha256 in digests.values()))
        for judgement in accepted
    ]
    by_digest = {one.sha256: one.samples for one in feedback.read_clips(workdir, wanted).recordings}
    stored = {path: sha256 for path, sha256 in digests.items() if sha256 not in by_digest}
    found = store.load_samples(store_folder(config, workdir), machine, stored) if stored else {}
    return {path: found[path] if path in found else by_digest[sha256] for path, sha256 in digests.items()}
