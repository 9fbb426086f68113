"""Embedding at inference, as the evaluator runs it, compared with PyTorch."""

from typing import Any

from asdjax.config.fields import default_config
from asdjax.fleet import fleet_model
from asdjax.fleet.embed import embed_clips, list_piece_starts
from asdjax.fleet.fleet_model import ModelSpec
from asdjax.perf.bench_step import CLIP_SAMPLES, make_clips
from asdjax.perf.measure import RepeatTiming, compute_ratio, time_calls, time_in_turns
from asdjax.perf.torch_peer import TorchPeer
from asdjax.runtime import hardware

OURS, TORCH = "asdjax", "torch"

# Clips embedded at once. Seven have 63 pieces, which nearly fill a batch of 64.
CLIPS_ON_CPU, CLIPS_ON_ACCELERATOR = 7, 192


def measure_embedding(spec: ModelSpec, peer: TorchPeer | None, repeats: int | None) -> dict[str, Any]:
    """Return pieces and clips per second through all variants of a fleet, host work included.

    With a peer, also the rate of its fastest way and the lowest ratio to any of its ways.
    """
    settings = default_config().evaluate
    model = fleet_model.init_model(spec, 0, "bench")
    samples = make_clips()[: CLIPS_ON_ACCELERATOR if hardware.on_accelerator() else CLIPS_ON_CPU]
    pieces = len(samples) * len(list_piece_starts(CLIP_SAMPLES, spec.spectrogram, settings.stride_frames))

    def run() -> None:
        how = {"stride_frames": settings.stride_frames, "batch_size": settings.batch_size}
        embed_clips(spec, model, samples, what="embedding", quiet=True, **how)

    run()  # compiles
    if peer is None:
        return _make_rates(time_in_turns({OURS: time_calls(run)}, repeats)[OURS], pieces, len(samples))
    rounds = []
    for way in peer.about["ways"]:
        peer.request("prepare", variants=list(spec.variants), batch=settings.batch_size, way=way)
        theirs = peer.time("embed", pieces=pieces, batch=settings.batch_size)
        rounds.append(time_in_turns({OURS: time_calls(run), TORCH: theirs}, repeats))
    ours = RepeatTiming(tuple(seconds for times in rounds for seconds in times[OURS].seconds))
    return {
        **_make_rates(ours, pieces, len(samples)),
        "torch_pieces_per_s": max(times[TORCH].per_second(pieces) for times in rounds),
        "ratio": min(compute_ratio(times[OURS], times[TORCH]) for times in rounds),
    }


def _make_rates(timing: RepeatTiming, pieces: int, clips: int) -> dict[str, Any]:
    return {
        "pieces_per_s": timing.per_second(pieces),
        "clips_per_s": timing.per_second(clips),
        "batch": default_config().evaluate.batch_size,
    }
