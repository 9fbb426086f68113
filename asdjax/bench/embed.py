"""Embedding at inference, as the evaluator runs it, and PyTorch's beside it."""

from typing import Any

from asdjax import parallel
from asdjax.bench.measure import Way, clocked, in_turn, ratio
from asdjax.bench.step import CLIP_SAMPLES, clips
from asdjax.bench.torch_peer import TorchPeer
from asdjax.config import default
from asdjax.training import fleet
from asdjax.training.embed import embed_clips, piece_starts
from asdjax.training.fleet import FleetSpec

OURS, TORCH = "asdjax", "torch"
ON_CPU, ON_ACCELERATOR = 7, 192
"""Clips embedded at once: 63 pieces fill a batch of 64 but for one."""


def measure(spec: FleetSpec, peer: TorchPeer | None, repeats: int | None) -> dict[str, Any]:
    """Pieces and clips a second through all of a fleet's variants, host work included.

    With a counterpart, which must have been prepared with the same variants, the ratio to it.
    """
    settings = default().evaluate
    model = fleet.initial_model(spec, 0, "bench")
    samples = clips()[: ON_ACCELERATOR if parallel.on_accelerator() else ON_CPU]
    pieces = len(samples) * len(piece_starts(CLIP_SAMPLES, spec.spectrogram, settings.stride_frames))

    def run() -> None:
        how = {"stride_frames": settings.stride_frames, "batch_size": settings.batch_size}
        embed_clips(spec, model, samples, what="embedding", quiet=True, **how)

    run()  # compiles
    ways: dict[str, Way] = {OURS: clocked(run)}
    if peer:
        ways[TORCH] = peer.way("embed", pieces=pieces, batch=settings.batch_size)
    times = in_turn(ways, repeats)
    figures: dict[str, Any] = {
        "pieces_per_s": times[OURS].per_second(pieces),
        "clips_per_s": times[OURS].per_second(len(samples)),
    }
    if peer:
        figures["torch_pieces_per_s"] = times[TORCH].per_second(pieces)
        figures["ratio"] = ratio(times[OURS], times[TORCH])
    return figures
