"""Timing of code: warm-up not counted, several repeats, rivals in turn so that machine drift affects all alike."""

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

MIN_REPEATS = 3
MAX_REPEATS = 20
#: Without a given number of repeats, turns continue until all together took this long.
MIN_TOTAL_SECONDS = 6.0
SECONDS_PER_TURN = 1.0

#: Runs something the given number of times and returns the seconds that this took.
TimedRun = Callable[[int], float]


class RepeatTiming(NamedTuple):
    """Seconds of one run, one value per repeat."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Return the median over repeats."""
        return median(self.seconds)

    def per_second(self, items: float) -> float:
        """Return the rate of a run that processes this many items."""
        return items / self.median


def time_in_turns(runs: Mapping[str, TimedRun], repeats: int | None = None) -> dict[str, RepeatTiming]:
    """Time each run, all taking turns.

    A turn repeats its run for SECONDS_PER_TURN. One or two uncounted runs come first: during the rivals' turns caches
    were lost and a virtual machine's host may have reclaimed freed memory. Without `repeats` there are MIN_REPEATS
    turns, and more until all together took MIN_TOTAL_SECONDS.
    """
    counts = {name: _count_runs_per_turn(run) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    begun = perf_counter()
    while not _is_enough(len(next(iter(seconds.values()))), perf_counter() - begun, repeats):
        for name, run in runs.items():
            run(min(2, counts[name]))
            seconds[name].append(run(counts[name]) / counts[name])
    return {name: RepeatTiming(tuple(values)) for name, values in seconds.items()}


def _count_runs_per_turn(run: TimedRun) -> int:
    run(1)  # also sets up, so the second run is timed
    return max(1, round(SECONDS_PER_TURN / max(run(1), 1e-6)))


def _is_enough(turns: int, seconds: float, repeats: int | None) -> bool:
    if repeats:
        return turns >= repeats
    return turns >= MAX_REPEATS or (turns >= MIN_REPEATS and seconds >= MIN_TOTAL_SECONDS)


def time_calls(function: Callable[[], object]) -> TimedRun:
    """Return a timed run of a function whose work is finished when it returns."""

    def run(times: int) -> float:
        begun = perf_counter()
        for _ in range(times):
            function()
        return perf_counter() - begun

    return run


def compute_ratio(ours: RepeatTiming, theirs: RepeatTiming) -> float:
    """Return how many times as fast ours is: the median over repeats of paired turns, which saw the same machine."""
    return median(their / our for our, their in zip(ours.seconds, theirs.seconds, strict=True))


def compute_rate(timing: RepeatTiming, items: float) -> dict[str, Any]:
    """Return items per second of a run that processes `items`: the median, and [least, most]."""
    return {
        "per_s": timing.per_second(items),
        "per_s_spread": [items / max(timing.seconds), items / min(timing.seconds)],
    }
