"""Log-mel statistics of clips stored on disk, and thus computed once for all evaluations of a work directory.

`W/evaluation/baselines/<machine type>/log_mel_statistics.npz` serves both splits. It holds `digests` (n,), the SHA-256
of each clip's samples, and `statistics` (n, 2, m) float32, mean and standard deviation at `sample_rate_hz`.
"""

import io
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from asdjax.data.access import Recording
from asdjax.inference.log_mel import BANDS
from asdjax.inference.log_mel_statistics import compute_statistics
from asdjax.runtime.files import locked_folder
from asdjax.runtime.progress import log, track
from asdjax.runtime.threads import map_in_threads

FILE = "log_mel_statistics.npz"


def load_statistics(folder: Path, recordings: Sequence[Recording], sample_rate_hz: int, what: str) -> np.ndarray:
    """Return the log-mel statistics of each clip, (n, 2, m). Those missing from the folder are computed and stored.

    `what` names the progress bar. Raises InputError if the folder cannot be written.
    """
    with locked_folder(folder):
        known = _read(folder / FILE, sample_rate_hz)
        missing = {recording.sha256: recording.samples for recording in recordings if recording.sha256 not in known}
        if missing:
            computed = map_in_threads(
                partial(compute_statistics, samples, sample_rate_hz) for samples in missing.values()
            )
            shown = track(computed, what, len(missing), "clip", quiet=True)
            known |= dict(zip(missing, shown, strict=True))
            _write(folder / FILE, known, sample_rate_hz)
    return np.array([known[recording.sha256] for recording in recordings], np.float32).reshape(-1, 2, BANDS)


def are_stored(folder: Path, recordings: Sequence[Recording], sample_rate_hz: int) -> bool:
    """Return whether `load_statistics` has nothing to compute for these recordings."""
    return {recording.sha256 for recording in recordings} <= _read(folder / FILE, sample_rate_hz).keys()


def _read(file: Path, sample_rate_hz: int) -> dict[str, np.ndarray]:
    """Return statistics by digest; none if the file is missing, of another sample rate or (logged) damaged."""
    if not file.exists():
        return {}
    try:
        with np.load(io.BytesIO(file.read_bytes())) as arrays:
            if arrays["sample_rate_hz"] != sample_rate_hz:
                return {}
            statistics = np.asarray(arrays["statistics"], np.float32).reshape(-1, 2, BANDS)
            return dict(zip(arrays["digests"].tolist(), statistics, strict=True))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        log(f"{file}: damaged ({error}); computing its statistics again")
        return {}


def _write(file: Path, known: dict[str, np.ndarray], sample_rate_hz: int) -> None:
    partial_file = file.with_name(f"partial.{FILE}")
    try:
        np.savez(
            partial_file,
            allow_pickle=False,
            sample_rate_hz=np.int64(sample_rate_hz),
            digests=np.array(list(known)),
            statistics=np.array(list(known.values())),
        )
        partial_file.replace(file)
    finally:
        partial_file.unlink(missing_ok=True)
