"""Tests of jobs on all cores: in order, little ahead of the caller, and dropped if the caller ends early."""

import os
import threading
import time
from collections.abc import Callable

import pytest

from asdjax.runtime import threads
from asdjax.runtime.threads import map_in_threads


@pytest.fixture
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "count_cores", lambda: 2)


@pytest.mark.usefixtures("two_cores")
def test_results_come_in_order_from_a_window_of_jobs():
    started = []
    jobs = (lambda i=i: started.append(i) or i for i in range(100))
    results = map_in_threads(jobs)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 10
    assert list(results) == list(range(1, 100))


@pytest.mark.usefixtures("two_cores")
def test_an_error_ends_it_and_leaves_undone_what_has_not_begun():
    started = []

    def job(number: int) -> None:
        started.append(number)
        if number == 0:
            raise ValueError(number)
        time.sleep(0.1)

    with pytest.raises(ValueError, match="0"):
        list(map_in_threads(lambda i=i: job(i) for i in range(100)))
    assert len(started) <= 4  # of the 9 in the window


def test_a_process_that_may_use_one_core_starts_one_thread(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3}, raising=False)
    workers = set()

    def job() -> None:
        workers.add(threading.current_thread())
        time.sleep(0.01)

    jobs: list[Callable[[], None]] = [job] * 10
    list(map_in_threads(jobs))
    assert len(workers) == 1
