"""Threads for many small jobs: NumPy, SciPy and file reading release the interpreter lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def count_cores() -> int:
    """Return the number of cores that this process may use; taskset or a batch system can limit it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads[T](jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Run `jobs` in one thread per core, and yield their results in order.

    The threads run ahead of the caller by a few jobs per core. Jobs that have not begun are dropped when the caller
    ends early or a job fails.
    """
    workers = count_cores()
    window: deque[Future[T]] = deque()
    pool = ThreadPoolExecutor(workers)
    try:
        for job in jobs:
            window.append(pool.submit(job))
            if len(window) > 4 * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
