"""PyTorch fed as in published systems: a DataLoader that reads and transforms whole clips for each piece.

`asdjax bench train --against torch` loads it.
"""

import tempfile
from pathlib import Path
from typing import Any

import soundfile

from asdjax.config.fields import default_config
from asdjax.errors import InputError
from asdjax.perf.bench_step import CLASSES, make_clips
from asdjax.perf.measure import MIN_REPEATS, time_in_turns
from asdjax.perf.torch_peer import TorchPeer
from asdjax.runtime.threads import count_cores

EAGER = "eager"


def require_librosa(peer: TorchPeer) -> None:
    """Raise InputError if the peer cannot read clips. Call it before anything is measured."""
    if not peer.about["librosa"]:
        raise InputError(
            "--against torch: expected librosa next to torch in $TORCH_PYTHON, with which a DataLoader reads clips, "
            f"got none; install it by: {peer.interpreter} -m pip install librosa"
        )


def measure_loader(peer: TorchPeer, variant: str, batch: int, repeats: int | None) -> dict[str, Any]:
    """Return {"batch", "samples_per_s"} of eager training of one variant fed by a DataLoader."""
    peer.request("prepare", variants=[variant], batch=batch, way=EAGER)
    with tempfile.TemporaryDirectory() as folder:
        for i, samples in enumerate(make_clips()):
            path = Path(folder, f"section_{i % CLASSES:02d}_source_train_normal_{i:04d}.wav")
            soundfile.write(path, samples, default_config().signal.sample_rate_hz)
        peer.request("load", folder=folder, workers=count_cores())
        timing = time_in_turns({"loader": peer.time("train_loaded")}, repeats or MIN_REPEATS)["loader"]
        peer.request("unload")
    return {"batch": batch, "samples_per_s": timing.per_second(batch)}
