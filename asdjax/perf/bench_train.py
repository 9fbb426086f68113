"""`asdjax bench train`: each variant alone and all six in one program, compared with PyTorch on request."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asdjax.config.fields import VARIANTS, Config
from asdjax.errors import InputError
from asdjax.perf import bench_embed, clone_tools, device_limits, torch_peer
from asdjax.perf.bench_record import BenchRecord
from asdjax.perf.bench_step import BenchStep, make_bench_config, make_bench_spec
from asdjax.perf.device_limits import Peak
from asdjax.perf.measure import MIN_REPEATS, RepeatTiming, compute_ratio, time_in_turns
from asdjax.perf.torch_peer import TorchPeer
from asdjax.perf.workload import make_work
from asdjax.runtime import hardware
from asdjax.runtime.progress import log
from asdjax.runtime.threads import count_cores
from asdjax.training.programs import split_evenly

FLEET = "fleet"
OURS = "asdjax"


@dataclass(frozen=True, kw_only=True)
class BenchRequest:
    """Measurements to make.

    subjects: variants by name, and FLEET for all six in one program. batches: empty for the default ones. repeats: None
    for as many as time allows. fleets_per_program: if above one, a program of as many fleets is measured too, in turn
    with one fleet. traces: folder for a trace of each program, None for no traces. width: 1 for full-size networks.
    """

    subjects: tuple[str, ...]
    batches: tuple[int, ...] = ()
    against_torch: bool = False
    repeats: int | None = None
    fleets_per_program: int = 1
    traces: Path | None = None
    width: float = 1.0


@dataclass(frozen=True, kw_only=True)
class BenchSubject:
    """One program to measure: its name and variants, and what it is measured with."""

    name: str
    variants: tuple[str, ...]
    request: BenchRequest
    peer: TorchPeer | None
    peak: Peak


@dataclass(frozen=True, kw_only=True)
class BenchCase:
    """A subject's compiled step at one batch size, and the seconds of its signal stage alone."""

    subject: BenchSubject
    batch: int
    step: BenchStep
    signal_s: float


def bench(request: BenchRequest) -> Iterator[dict[str, Any]]:
    """Yield the benchmark result each time that it has grown, since minutes pass in between.

    Its "complete" is True in the last. Raises InputError, before anything is measured, if the PyTorch counterpart or a
    profile is requested but not available.
    """
    precision = make_bench_spec(VARIANTS, 1, request.width).model.precision
    if request.traces:
        clone_tools.load_tool("step_profile", "--profile").require_traceable()
    with torch_peer.start(count_cores()) if request.against_torch else nullcontext() as peer:
        if peer and set(request.subjects) != {FLEET}:
            clone_tools.load_tool("torch_loader", "--against torch").require_librosa(peer)
        record = BenchRecord(peer)
        log("measuring the peak rates of the device")
        peak = device_limits.find_peak(precision)
        record["device"] |= {"precision": precision, **peak._asdict()}
        record |= {"complete": False, "variants": {}, FLEET: None}
        for name in request.subjects:
            variants = VARIANTS if name == FLEET else (name,)
            figures: dict[str, Any] = {}
            if name == FLEET:
                record[FLEET] = figures
            else:
                record["variants"][name] = figures
            subject = BenchSubject(name=name, variants=variants, request=request, peer=peer, peak=peak)
            for _ in _measure_subject(subject, figures):
                yield record.refresh()
        record["complete"] = True
        yield record.refresh()


def _choose_batches(subject: BenchSubject) -> tuple[int, ...]:
    """Return the batch sizes. On a CPU all six take the smallest only, because larger ones take long."""
    if hardware.on_accelerator():
        return subject.request.batches or (48,)
    batches = subject.request.batches or (8, 48)
    return (min(batches),) if subject.name == FLEET else batches


def _measure_subject(subject: BenchSubject, figures: dict[str, Any]) -> Iterator[None]:
    """Fill in a program's figures: by batch, and those of the largest batch.

    Its `ratio` is the lowest of all batches.
    """
    request, peer = subject.request, subject.peer
    batches = _choose_batches(subject)
    by_batch = figures["batches"] = {str(batch): {} for batch in batches}
    for batch in batches:
        yield from _measure_batch(subject, batch, by_batch[str(batch)])
    largest = max(batches)
    figures |= {"batch": largest, **by_batch[str(largest)]}
    if peer:
        figures["ratio"] = min(batch_figures["ratio"] for batch_figures in by_batch.values())
    log(f"{subject.name}: embedding")
    spec = make_bench_spec(subject.variants, largest, request.width)
    figures["embed"] = bench_embed.measure_embedding(spec.model, peer, request.repeats)
    yield
    if peer and len(subject.variants) == 1:
        log(f"{subject.name}: PyTorch with a DataLoader")
        torch_loader = clone_tools.load_tool("torch_loader", "--against torch")
        figures["torch_loader"] = torch_loader.measure_loader(peer, subject.name, min(batches), request.repeats)
        yield


def _measure_batch(subject: BenchSubject, batch: int, figures: dict[str, Any]) -> Iterator[None]:
    """Fill in the figures of one batch size.

    PyTorch's compiled ways are last but for the profile, because they may take minutes to compile.
    """
    name, request = f"{subject.name}, batch {batch}", subject.request
    log(f"{name}: compiling, then measuring")
    step = BenchStep(make_bench_spec(subject.variants, batch, request.width))
    signal = time_in_turns({"signal": step.signal.run}, request.repeats or MIN_REPEATS)["signal"]
    case = BenchCase(subject=subject, batch=batch, step=step, signal_s=signal.median)
    measured = _compare_with_torch(case, subject.peer, figures) if subject.peer else _measure_alone(case, figures)
    next(measured)
    yield
    if request.fleets_per_program > 1:
        log(f"{name}, {request.fleets_per_program} fleets in one program: compiling, then measuring")
        figures["fleets_per_program"] = _measure_several_fleets(case)
        yield
    yield from measured
    if request.traces:
        log(f"{name}: compiling again, then tracing")
        step_profile = clone_tools.load_tool("step_profile", "--profile")
        figures["profile"] = step_profile.trace_step(step, request.traces / subject.name / str(batch))
        yield


def _measure_alone(case: BenchCase, figures: dict[str, Any]) -> Iterator[None]:
    figures |= _make_figures(case, time_in_turns({OURS: case.step.run}, case.subject.request.repeats)[OURS])
    yield


def _compare_with_torch(case: BenchCase, peer: TorchPeer, figures: dict[str, Any]) -> Iterator[None]:
    """Measure ours in turn with each of PyTorch's ways; `ratio` is to the fastest of them."""
    variants, request = case.subject.variants, case.subject.request
    ours: list[float] = []
    theirs: dict[str, dict[str, Any]] = {}
    for way in peer.about["ways"]:
        prepared = peer.request("prepare", variants=list(variants), batch=case.batch, way=way)
        _require_same_size(case.step, prepared["parameters"], request.width)
        times = time_in_turns({OURS: case.step.run, way: peer.time("train")}, request.repeats)
        ours += times[OURS].seconds
        theirs[way] = {
            "samples_per_s": times[way].per_second(case.batch * len(variants)),
            **_make_spread(times[way]),
            "ratio": compute_ratio(times[OURS], times[way]),
        }
        lowest = min(way_figures["ratio"] for way_figures in theirs.values())
        figures |= {**_make_figures(case, RepeatTiming(tuple(ours))), "ratio": lowest, "torch": theirs}
        yield


def _require_same_size(step: BenchStep, theirs: dict[str, int], width: float) -> None:
    """Raise InputError if PyTorch's models have other numbers of parameters than ours."""
    for variant, ours in step.count_parameters().items():
        if width == 1 and theirs[variant] != ours:
            raise InputError(
                f"--against torch: expected {variant} with {ours} parameters as in asdjax, got {theirs[variant]}; use "
                "tests/perf of the same commit as the package"
            )


def _measure_several_fleets(case: BenchCase) -> dict[str, Any]:
    """Measure several fleets in one program in turn with one fleet.

    `one_fleet` has the latter's times in these turns, `ratio` is of their samples per second.
    """
    request, variants = case.subject.request, case.subject.variants
    fleets = request.fleets_per_program
    step = BenchStep(make_bench_spec(variants, case.batch, request.width, fleets), fleets)
    times = time_in_turns({"one": case.step.run, "several": step.run}, request.repeats)
    figures = {
        "fleets": fleets,
        "samples_per_s": times["several"].per_second(fleets * case.batch * len(variants)),
        **_make_spread(times["several"]),
        "bytes_per_step": step.traffic,
        "bandwidth_bytes_per_s": step.traffic / times["several"].median,
        "memory_bytes": _make_memory(step),
        "compile_s": step.compile_s,
        "one_fleet": _make_spread(times["one"]),
        "ratio": fleets * compute_ratio(times["several"], times["one"]),
    }
    config = make_bench_config(variants, case.batch, request.width)
    config.parallel.fleets_per_program = fleets
    return {**figures, "run_h": _estimate_hours(config, figures)}


def _make_figures(case: BenchCase, timing: RepeatTiming) -> dict[str, Any]:
    step, subject = case.step, case.subject
    bytes_per_s = step.traffic / timing.median
    figures = {
        "samples_per_s": timing.per_second(case.batch * len(subject.variants)),
        **_make_spread(timing),
        "repeats": len(timing.seconds),
        "steps_per_dispatch": step.spec.steps_per_dispatch,
        "flops_per_step": step.flops,
        "flops_utilisation": step.flops / timing.median / subject.peak.flops_per_s,
        "bytes_per_step": step.traffic,
        "bandwidth_bytes_per_s": bytes_per_s,
        "bandwidth_utilisation": bytes_per_s / subject.peak.bytes_per_s,
        "memory_bytes": _make_memory(step),
        "compile_s": step.compile_s,
        "signal_share": case.signal_s / timing.median,
    }
    config = make_bench_config(subject.variants, case.batch, subject.request.width)
    return {**figures, "run_h": _estimate_hours(config, figures)}


def _make_memory(step: BenchStep) -> dict[str, int]:
    """Return the bytes on the device, code left out."""
    return {"arguments": step.memory.arguments, "temporaries": step.memory.temporaries}


def _make_spread(timing: RepeatTiming) -> dict[str, Any]:
    """Return milliseconds per step: the median, and [least, most]."""
    return {
        "ms_per_step": 1e3 * timing.median,
        "ms_per_step_spread": [1e3 * min(timing.seconds), 1e3 * max(timing.seconds)],
    }


def _estimate_hours(config: Config, figures: dict[str, Any]) -> float:
    """Return the hours of phase 1 and one strategy of 2021's seven machine types at this rate."""
    work = make_work(config)
    sizes = [split_evenly(len(fleets), config.parallel.fleets_per_program) for fleets in work.kinds]
    return work.consecutive_steps(sizes, device_groups=1) * figures["ms_per_step"] / 3.6e6
