"""`asdjax bench train`: each variant alone and all six in one program, at full width, and PyTorch's beside them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from asdjax.config.fields import VARIANTS, Config
from asdjax.errors import InputError
from asdjax.perf import bench_embed, device_limits, step_profile, torch_peer
from asdjax.perf.bench_record import BenchRecord
from asdjax.perf.bench_step import Step, make_bench_config, make_bench_spec
from asdjax.perf.device_limits import Peak
from asdjax.perf.measure import LEAST_REPEATS, RepeatTiming, in_turn, ratio
from asdjax.perf.torch_loader import loader_rate, require_loader
from asdjax.perf.torch_peer import TorchPeer
from asdjax.perf.workload import make_work
from asdjax.runtime import hardware
from asdjax.runtime.progress import log
from asdjax.runtime.threads import cores
from asdjax.training.grouping import split_evenly

FLEET = "fleet"
OURS = "asdjax"


class BenchRequest(NamedTuple):
    """What to measure: variants by name, `fleet` for all six in one program; batches, where empty the usual ones;
    turns, where None as many as time allows; how many machine types to stack in one program, beside one alone; and the
    folder for traces of the programs, None for none."""

    subjects: tuple[str, ...]
    batches: tuple[int, ...]
    against_torch: bool
    repeats: int | None
    stacked: int = 1
    traces: Path | None = None
    width: float = 1.0


def bench(request: BenchRequest) -> Iterator[dict[str, Any]]:
    """Everything that the JSON holds, each time that it has grown, as minutes lie between; in the end it is `complete`.

    Raises InputError where the PyTorch counterpart or a profile is asked for and cannot be had.
    """
    precision = make_bench_spec(VARIANTS, 1, request.width).model.precision
    if request.traces:
        step_profile.require_traceable()
    with torch_peer.wanted(request.against_torch, cores()) as peer:
        if peer and set(request.subjects) != {FLEET}:
            require_loader(peer)
        record = BenchRecord(peer)
        log("measuring what the device could do at most")
        peak = device_limits.peak(precision)
        record["device"] |= {"precision": precision, **peak._asdict()}
        record |= {"complete": False, "variants": {}, FLEET: None}
        for name in request.subjects:
            members = VARIANTS if name == FLEET else (name,)
            figures: dict[str, Any] = {}
            if name == FLEET:
                record[FLEET] = figures
            else:
                record["variants"][name] = figures
            for _ in _measured(Subject(name, members, request, peer, peak), figures):
                yield record.so_far()
        record["complete"] = True
        yield record.so_far()


class Subject(NamedTuple):
    """One program, and what it is measured with."""

    name: str
    members: tuple[str, ...]
    request: BenchRequest
    peer: TorchPeer | None
    peak: Peak


class Case(NamedTuple):
    """A subject's step at a batch, compiled, and the seconds that its signal stage takes alone."""

    subject: Subject
    batch: int
    step: Step
    signal_s: float


def _batches(asked: tuple[int, ...], of_fleet: bool) -> tuple[int, ...]:
    """On a CPU all six take their smallest batch only: at 48 one of their steps takes a quarter of a minute."""
    if hardware.on_accelerator():
        return asked or (48,)
    batches = asked or (8, 48)
    return (min(batches),) if of_fleet else batches


def _measured(subject: Subject, figures: dict[str, Any]) -> Iterator[None]:
    """Fill in the figures of a program: of its largest batch, and by batch; `ratio` is the worst of all batches."""
    _, members, request, peer, _ = subject
    batches = _batches(request.batches, of_fleet=subject.name == FLEET)
    by_batch = figures["batches"] = {str(batch): {} for batch in batches}
    for batch in batches:
        yield from _batch(subject, batch, by_batch[str(batch)])
    largest = max(batches)
    figures |= {"batch": largest, **by_batch[str(largest)]}
    if peer:
        figures["ratio"] = min(of_batch["ratio"] for of_batch in by_batch.values())
    log(f"{subject.name}: embedding")
    figures["embed"] = bench_embed.measure(
        make_bench_spec(members, largest, request.width).model, peer, request.repeats
    )
    yield
    if peer and len(members) == 1:
        log(f"{subject.name}: PyTorch with a DataLoader")
        figures["torch_loader"] = loader_rate(peer, members[0], min(batches), request.repeats)
        yield


def _batch(subject: Subject, batch: int, figures: dict[str, Any]) -> Iterator[None]:
    """Beside the first of PyTorch's ways, then stacked, then beside its others, which may take minutes to compile."""
    name, members, request, peer, _ = subject
    log(f"{name}, batch {batch}: compiling, then measuring")
    step = Step(make_bench_spec(members, batch, request.width))
    signal = in_turn({"signal": step.signal.run}, request.repeats or LEAST_REPEATS)["signal"]
    case = Case(subject, batch, step, signal.median)
    measured = _against(case, peer, figures) if peer else _alone(case, figures)
    next(measured)
    yield
    if request.stacked > 1:
        log(f"{name}, batch {batch}, {request.stacked} machine types stacked: compiling, then measuring")
        figures["stacked"] = _stacked(step, members, batch, request)
        yield
    yield from measured
    if request.traces:
        log(f"{name}, batch {batch}: compiling again, then tracing")
        figures["profile"] = step_profile.of(step, request.traces / name / str(batch))
        yield


def _alone(case: Case, figures: dict[str, Any]) -> Iterator[None]:
    figures |= _figures(case, in_turn({OURS: case.step.run}, case.subject.request.repeats)[OURS])
    yield


def _run_h(config: Config, figures: dict[str, Any]) -> float:
    """Hours of phase 1 and one strategy of 2021's seven machine types, at this rate."""
    work = make_work(config)
    sizes = [split_evenly(len(fleets), config.parallel.fleets_per_program) for fleets in work.kinds]
    return work.steps_in_turn(sizes, rows=1) * figures["ms_per_step"] / 3.6e6


def _stacked(alone: Step, members: Sequence[str], batch: int, request: BenchRequest) -> dict[str, Any]:
    """Several machine types in one program, in turn with one, whose time in these turns is `alone`; `ratio` is of their
    samples a second."""
    step = Step(alone.spec, request.stacked)
    samples = request.stacked * batch * len(members)
    times = in_turn({"alone": alone.run, "stacked": step.run}, request.repeats)
    figures = {
        "machine_types": request.stacked,
        "samples_per_s": times["stacked"].per_second(samples),
        **_spread_ms(times["stacked"]),
        "bytes_per_step": step.traffic,
        "bandwidth_bytes_per_s": step.traffic / times["stacked"].median,
        "memory_bytes": _memory(step),
        "compile_s": step.compile_s,
        "alone": _spread_ms(times["alone"]),
        "ratio": request.stacked * ratio(times["stacked"], times["alone"]),
    }
    config = make_bench_config(members, batch, request.width)
    config.parallel.fleets_per_program = request.stacked
    return {**figures, "run_h": _run_h(config, figures)}


def _against(case: Case, peer: TorchPeer, figures: dict[str, Any]) -> Iterator[None]:
    """Ours in turn with each of PyTorch's ways; `ratio` is to the fastest of them."""
    subject, batch, step, _ = case
    members, request = subject.members, subject.request
    ours: list[float] = []
    theirs: dict[str, dict[str, Any]] = {}
    for way in peer.about["ways"]:
        prepared = peer.ask("prepare", variants=list(members), batch=batch, way=way)
        _require_same_size(step, prepared["parameters"], request.width)
        times = in_turn({OURS: step.run, way: peer.way("train")}, request.repeats)
        ours += times[OURS].seconds
        theirs[way] = {
            "samples_per_s": times[way].per_second(batch * len(members)),
            **_spread_ms(times[way]),
            "ratio": ratio(times[OURS], times[way]),
        }
        least = min(of_way["ratio"] for of_way in theirs.values())
        figures |= {**_figures(case, RepeatTiming(tuple(ours))), "ratio": least, "torch": theirs}
        yield


def _require_same_size(step: Step, theirs: dict[str, int], width: float) -> None:
    """Raises InputError where PyTorch's models are not ours."""
    for variant, ours in step.parameters().items():
        if width == 1 and theirs[variant] != ours:
            raise InputError(
                f"--against torch: expected {variant} with {ours} parameters, as here, came {theirs[variant]}; see "
                "that tests/perf is of the same commit as the package"
            )


def _figures(case: Case, timing: RepeatTiming) -> dict[str, Any]:
    subject, batch, step, signal_s = case
    flops_per_s = step.flops / timing.median
    bytes_per_s = step.traffic / timing.median
    figures = {
        "samples_per_s": timing.per_second(batch * len(subject.members)),
        **_spread_ms(timing),
        "repeats": len(timing.seconds),
        "steps_per_dispatch": step.spec.steps_per_dispatch,
        "flops_per_step": step.flops,
        "flops_utilisation": flops_per_s / subject.peak.flops_per_s,
        "bytes_per_step": step.traffic,
        "bandwidth_bytes_per_s": bytes_per_s,
        "bandwidth_utilisation": bytes_per_s / subject.peak.bytes_per_s,
        "memory_bytes": _memory(step),
        "compile_s": step.compile_s,
        "signal_share": signal_s / timing.median,
    }
    return {**figures, "run_h": _run_h(make_bench_config(subject.members, batch, subject.request.width), figures)}


def _memory(step: Step) -> dict[str, int]:
    """Bytes on the device, code left out."""
    return {"arguments": step.memory.arguments, "temporaries": step.memory.temporaries}


def _spread_ms(timing: RepeatTiming) -> dict[str, Any]:
    """Milliseconds a step: the median, and the least and the most."""
    return {
        "ms_per_step": 1e3 * timing.median,
        "ms_per_step_spread": [1e3 * min(timing.seconds), 1e3 * max(timing.seconds)],
    }
