"""Embedding at inference, as the evaluator runs it, and PyTorch's beside it."""

from typing import Any

from asdjax.config.fields import default_config
from asdjax.fleet import fleet_model
from asdjax.fleet.embed import embed_clips, piece_starts
from asdjax.fleet.fleet_model import ModelSpec
from asdjax.perf.bench_step import CLIP_SAMPLES, clips
from asdjax.perf.measure import RepeatTiming, clocked, in_turn, ratio
from asdjax.perf.torch_peer import TorchPeer
from asdjax.runtime import hardware

OURS, TORCH = "asdjax", "torch"
ON_CPU, ON_ACCELERATOR = 7, 192
"""Clips embedded at once: 63 pieces fill a batch of 64 but for one."""


def measure(spec: ModelSpec, peer: TorchPeer | None, repeats: int | None) -> dict[str, Any]:
    """Pieces and clips a second through all of a fleet's variants, host work included.

    With a counterpart, the rate of the fastest of its ways, and the least ratio to any.
    """
    settings = default_config().evaluate
    model = fleet_model.initial_model(spec, 0, "bench")
    samples = clips()[: ON_ACCELERATOR if hardware.on_accelerator() else ON_CPU]
    pieces = len(samples) * len(piece_starts(CLIP_SAMPLES, spec.spectrogram, settings.stride_frames))

    def run() -> None:
        how = {"stride_frames": settings.stride_frames, "batch_size": settings.batch_size}
        embed_clips(spec, model, samples, what="embedding", quiet=True, **how)

    run()  # compiles
    if peer is None:
        return _rates(in_turn({OURS: clocked(run)}, repeats)[OURS], pieces, len(samples))
    rounds = []
    for way in peer.about["ways"]:
        peer.ask("prepare", variants=list(spec.variants), batch=settings.batch_size, way=way)
        theirs = peer.way("embed", pieces=pieces, batch=settings.batch_size)
        rounds.append(in_turn({OURS: clocked(run), TORCH: theirs}, repeats))
    ours = RepeatTiming(tuple(seconds for times in rounds for seconds in times[OURS].seconds))
    return {
        **_rates(ours, pieces, len(samples)),
        "torch_pieces_per_s": max(times[TORCH].per_second(pieces) for times in rounds),
        "ratio": min(ratio(times[OURS], times[TORCH]) for times in rounds),
    }


def _rates(timing: RepeatTiming, pieces: int, clips: int) -> dict[str, Any]:
    return {
        "pieces_per_s": timing.per_second(pieces),
        "clips_per_s": timing.per_second(clips),
        "batch": default_config().evaluate.batch_size,
    }
