"""`asdjax bench signal`: crops to pieces per second, mixup included, compared with librosa and PyTorch."""

import functools
from contextlib import nullcontext
from typing import Any

import librosa
import numpy as np

from asdjax.config.fields import default_config
from asdjax.perf import torch_peer
from asdjax.perf.bench_record import BenchRecord
from asdjax.perf.bench_step import SignalStage, make_bench_spec, make_clips, make_inputs
from asdjax.perf.measure import TimedRun, compute_rate, compute_ratio, time_calls, time_in_turns
from asdjax.perf.torch_peer import TorchPeer
from asdjax.runtime import hardware
from asdjax.runtime.progress import log
from asdjax.runtime.threads import count_cores, map_in_threads

# A variant with pieces of full height, which take the most work.
VARIANT = "mobilefacenet_1024"
CLIPS = 48
OURS, TORCH, LIBROSA, LIBROSA_THREADS = "asdjax", "torch.stft", "librosa.stft", "librosa.stft, all cores"


def bench(batches: tuple[int, ...], against_torch: bool, repeats: int | None) -> dict[str, Any]:
    """Return the benchmark result: for each batch, each rival's rate and the ratio of ours to it.

    Ours and PyTorch's draw, cut, mix, transform and standardise the samples under pieces. librosa's is the STFT alone,
    of whole clips of 10 s. `ratio` is our pieces per second over the rival's rate in its own unit.
    """
    batches = batches or ((48,) if hardware.on_accelerator() else (8, 48))
    with torch_peer.start(count_cores()) if against_torch else nullcontext() as peer:
        record = BenchRecord(peer)
        record["batches"] = {str(batch): _measure_batch(batch, peer, repeats) for batch in batches}
        return record.refresh()


def _measure_batch(batch: int, peer: TorchPeer | None, repeats: int | None) -> dict[str, Any]:
    log(f"signal, batch {batch}: measuring")
    spec = make_bench_spec((VARIANT,), batch, 1.0)
    stage = SignalStage(spec, make_inputs(spec))
    runs: dict[str, TimedRun] = {OURS: stage.run}
    if peer:
        runs[TORCH] = peer.time("signal", batch=batch)
    waves = [clip.astype(np.float32) / 32768 for clip in make_clips()[:CLIPS]]
    transforms = [functools.partial(_transform_clip, wave) for wave in waves]
    runs[LIBROSA] = time_calls(lambda: [transform() for transform in transforms])
    runs[LIBROSA_THREADS] = time_calls(lambda: list(map_in_threads(transforms)))
    times = time_in_turns(runs, repeats)
    units = {name: (CLIPS, "clips/s") if name in (LIBROSA, LIBROSA_THREADS) else (batch, "pieces/s") for name in runs}
    return {
        name: {
            "unit": unit,
            **compute_rate(times[name], items),
            "ratio": compute_ratio(times[OURS], times[name]) * batch / items,
        }
        for name, (items, unit) in units.items()
    }


def _transform_clip(wave: np.ndarray) -> np.ndarray:
    """Return the STFT of a clip (s,) with the report's settings."""
    settings = default_config().signal
    return librosa.stft(
        wave, n_fft=settings.n_fft, hop_length=settings.hop_samples, window="hann", center=True, pad_mode="constant"
    )
