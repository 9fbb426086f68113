"""Many small jobs on all cores: threads, as NumPy, SciPy and reading let go of the interpreter lock."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def cores() -> int:
    """Processor cores that this process may use: fewer than the machine has under taskset or a batch system."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_threads[T](jobs: Iterable[Callable[[], T]]) -> Iterator[T]:
    """Results of `jobs` in their order, run by threads that are never more than a window ahead.

    Where the caller ends early, or is interrupted, jobs that have not begun are left undone.
    """
    workers = cores()
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
