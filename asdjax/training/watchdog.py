"""Watchdog: ends a process whose dispatches do not end any more, as a stuck device or disk raises no error."""

import faulthandler
import os
import statistics
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import TracebackType
from typing import Self

# dispatches of usual length that a process waits for one
_DISPATCHES = 30

_MOST_REMEMBERED = 100


class Watchdog:
    """Thread that ends the process with code 1 when no dispatch has ended for `patience_s` within the block.

    It waits longer if dispatches usually take long, and it does not count the first, which compiles, nor the time in
    which the process itself was stopped, as by Ctrl-Z. The stacks of all threads go to standard error.
    """

    def __init__(self, what: str, patience_s: float) -> None:
        self._what, self._patience_s = what, patience_s
        self._newest_s: float | None = None  # time of the newest end of a dispatch
        self._silent_s = 0.0  # since then
        self._durations_s: list[float] = []
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    def beat(self) -> None:
        """Note that a dispatch has ended."""
        now_s = monotonic()
        if self._newest_s is not None:
            self._durations_s = [*self._durations_s[1 - _MOST_REMEMBERED :], now_s - self._newest_s]
        self._newest_s, self._silent_s = now_s, 0.0

    @contextmanager
    def suspended(self) -> Iterator[None]:
        """Count no time within the block, which may take as long as it likes."""
        self._newest_s = None
        yield
        self._newest_s, self._silent_s = monotonic(), 0.0

    def _limit_s(self) -> float:
        usual_s = statistics.median(self._durations_s) if self._durations_s else 0.0
        return max(self._patience_s, _DISPATCHES * usual_s)

    def _watch(self) -> None:
        interval_s, before_s = min(1.0, self._patience_s / 10), monotonic()
        while not self._ended.wait(interval_s):
            now_s = monotonic()
            self._silent_s += min(now_s - before_s, 2 * interval_s)  # more: the process was stopped
            before_s = now_s
            if self._newest_s is None:
                self._silent_s = 0.0
            elif self._silent_s > self._limit_s():
                self._end()

    def _end(self) -> None:
        line = (
            f"{self._what}: no step has ended for {self._silent_s:.0f} s (config.parallel.patience_minutes); ending, "
            "as a device, a disk or another process seems stuck; the threads were at:"
        )
        try:  # without the locks of a progress bar, which a stuck thread may hold; the terminal may be closed
            os.write(2, f"\n{line}\n".encode(errors="backslashreplace"))
            faulthandler.dump_traceback(2, all_threads=True)
        finally:
            os._exit(1)
