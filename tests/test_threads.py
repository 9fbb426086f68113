"""Jobs on all cores: in order, never far ahead, and left undone where nobody waits for them."""

import time

import pytest

from asdjax import threads
from asdjax.threads import in_order


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "cpu_count", lambda: 2)


def test_results_come_in_order_from_a_window_of_jobs():
    started = []
    jobs = (lambda i=i: started.append(i) or i for i in range(100))
    results = in_order(jobs)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 10
    assert list(results) == list(range(1, 100))


def test_an_error_ends_it_and_leaves_undone_what_has_not_begun():
    started = []

    def job(number: int) -> None:
        started.append(number)
        if number == 0:
            raise ValueError(number)
        time.sleep(0.1)

    with pytest.raises(ValueError, match="0"):
        list(in_order(lambda i=i: job(i) for i in range(100)))
    assert len(started) <= 4  # of the 9 in the window
