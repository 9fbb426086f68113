"""`asdjax bench signal`: crops to pieces a second, mixup included, against librosa and PyTorch."""

import functools
from typing import Any

import librosa
import numpy as np

from asdjax.config.fields import default_config
from asdjax.perf import torch_peer
from asdjax.perf.bench_record import BenchRecord
from asdjax.perf.bench_step import SignalStage, clips, make_bench_spec, make_inputs
from asdjax.perf.measure import Way, clocked, in_turn, rate, ratio
from asdjax.perf.torch_peer import TorchPeer
from asdjax.runtime import hardware
from asdjax.runtime.progress import log
from asdjax.runtime.threads import cores, map_in_threads

VARIANT = "mobilefacenet_1024"
"""Whose pieces are made: those of full height, which are the most work."""
CLIPS = 48
OURS, TORCH, LIBROSA, LIBROSA_THREADS = "asdjax", "torch.stft", "librosa.stft", "librosa.stft, all cores"


def bench(batches: tuple[int, ...], against_torch: bool, repeats: int | None) -> dict[str, Any]:
    """Everything that the JSON holds: by batch, each rival's rate and ours over it.

    Ours and PyTorch's draw, cut, mix, transform and standardise the samples under pieces; librosa's is the STFT alone,
    of whole clips of 10 s. `ratio` is our pieces a second over what a rival has of its own unit.
    """
    asked = batches or ((48,) if hardware.on_accelerator() else (8, 48))
    with torch_peer.wanted(against_torch, cores()) as peer:
        record = BenchRecord(peer)
        record["batches"] = {str(batch): _batch(batch, peer, repeats) for batch in asked}
        return record.so_far()


def _batch(batch: int, peer: TorchPeer | None, repeats: int | None) -> dict[str, Any]:
    log(f"signal, batch {batch}: measuring")
    spec = make_bench_spec((VARIANT,), batch, 1.0)
    stage = SignalStage(spec, make_inputs(spec))
    ways: dict[str, Way] = {OURS: stage.run}
    if peer:
        ways[TORCH] = peer.way("signal", batch=batch)
    waves = [clip.astype(np.float32) / 32768 for clip in clips()[:CLIPS]]
    ways[LIBROSA] = clocked(lambda: [_whole(wave) for wave in waves])
    ways[LIBROSA_THREADS] = clocked(lambda: list(map_in_threads(functools.partial(_whole, wave) for wave in waves)))
    times = in_turn(ways, repeats)
    units = {name: (CLIPS, "clips/s") if name in (LIBROSA, LIBROSA_THREADS) else (batch, "pieces/s") for name in ways}
    return {
        name: {
            "unit": unit,
            **rate(times[name], number),
            "ratio": ratio(times[OURS], times[name]) * batch / number,
        }
        for name, (number, unit) in units.items()
    }


def _whole(wave: np.ndarray) -> np.ndarray:
    """As method.md has it, of a clip (s,)."""
    settings = default_config().signal
    return librosa.stft(
        wave, n_fft=settings.n_fft, hop_length=settings.hop_samples, window="hann", center=True, pad_mode="constant"
    )
