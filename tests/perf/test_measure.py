"""Turns, medians and ratios, with runs that report made-up seconds."""

from collections.abc import Callable

import pytest

from asdjax.perf import measure
from asdjax.perf.measure import RepeatTiming, compute_ratio, time_in_turns


def make_run(name: str, order: list[str], seconds: Callable[[], float]) -> measure.TimedRun:
    def run(times: int) -> float:
        order.append(f"{name}{times}")
        return times * seconds()

    return run


def test_rivals_take_turns_and_what_warms_a_turn_up_does_not_count():
    order, seconds_of_a = [], iter([99.0, 9.0, 9.0, 1.0, 9.0, 3.0, 9.0, 2.0])
    runs = {"a": make_run("a", order, lambda: next(seconds_of_a)), "b": make_run("b", order, lambda: 0.1)}
    times = time_in_turns(runs, 3)
    assert order == ["a1", "a1", "b1", "b1", *["a1", "a1", "b2", "b10"] * 3]
    assert times["a"] == RepeatTiming((1.0, 3.0, 2.0))
    assert times["a"].median == 2.0
    assert times["b"].seconds == pytest.approx((0.1, 0.1, 0.1))


def test_without_a_number_there_are_three_turns_however_slow_and_not_endlessly_many(monkeypatch: pytest.MonkeyPatch):
    assert len(time_in_turns({"quick": lambda times: 1.0}, None)["quick"].seconds) == measure.MAX_REPEATS
    monkeypatch.setattr(measure, "MIN_TOTAL_SECONDS", 0.0)
    assert len(time_in_turns({"slow": lambda times: 60.0}, None)["slow"].seconds) == measure.MIN_REPEATS


def test_a_ratio_is_of_turns_that_saw_the_same_machine():
    ours, theirs = RepeatTiming((1.0, 10.0, 1.0)), RepeatTiming((0.8, 8.0, 0.8))
    assert compute_ratio(ours, theirs) == pytest.approx(0.8)


def test_a_rate_is_the_median_with_least_and_most():
    figures = measure.compute_rate(RepeatTiming((0.5, 1.0, 2.0)), 10)
    assert figures == {"per_s": 10.0, "per_s_spread": [5.0, 20.0]}
