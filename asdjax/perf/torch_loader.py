"""PyTorch as published systems feed it: a DataLoader that reads and transforms whole clips for each piece."""

import tempfile
from pathlib import Path
from typing import Any

import soundfile

from asdjax.config.fields import default_config
from asdjax.errors import InputError
from asdjax.perf.bench_step import CLASSES, clips
from asdjax.perf.measure import LEAST_REPEATS, in_turn
from asdjax.perf.torch_peer import TorchPeer
from asdjax.runtime.threads import cores

EAGER = "eager"


def require_loader(peer: TorchPeer) -> None:
    """Raise InputError where its interpreter cannot read clips, before anything is measured."""
    if not peer.about["librosa"]:
        raise InputError(
            "--against torch: expected librosa beside torch in $TORCH_PYTHON, as a DataLoader reads whole clips by it, "
            f"came none; install it by: {peer.interpreter} -m pip install librosa"
        )


def loader_rate(peer: TorchPeer, variant: str, batch: int, repeats: int | None) -> dict[str, Any]:
    """Samples a second of eager training of one variant that is fed so."""
    peer.ask("prepare", variants=[variant], batch=batch, way=EAGER)
    with tempfile.TemporaryDirectory() as folder:
        for i, samples in enumerate(clips()):
            path = Path(folder, f"section_{i % CLASSES:02d}_source_train_normal_{i:04d}.wav")
            soundfile.write(path, samples, default_config().signal.sample_rate_hz)
        peer.ask("load", folder=folder, workers=cores())
        timing = in_turn({"loader": peer.way("train_loaded")}, repeats or LEAST_REPEATS)["loader"]
        peer.ask("unload")
    return {"batch": batch, "samples_per_s": timing.per_second(batch)}
