"""StepTimer: the seconds that training spends on compiling, waiting for audio, saving, and steps."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from types import TracebackType
from typing import NamedTuple, Self

import jax

# prefix of JAX's events for tracing, lowering and compiling (or finding a program in the cache)
_COMPILE_EVENTS = "/jax/core/compile/"


class Timing(NamedTuple):
    """Seconds since the previous interval began, and the share of each kind of wait."""

    seconds: float
    shares: dict[str, float]

    @property
    def step_seconds(self) -> float:
        """Return the seconds of steps and their data: all but compiling, saving and held-out clips."""
        return self.seconds * (1 - sum(share for what, share in self.shares.items() if what != "data"))


class StepTimer:
    """Seconds of this thread within a `with` block, by kind."""

    KINDS = ("data", "compile", "checkpoint", "holdout")

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        self._spent: dict[str, float] = defaultdict(float)
        self._interval_began = perf_counter()
        jax.monitoring.register_event_duration_secs_listener(self._add_event)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        jax.monitoring.unregister_event_duration_listener(self._add_event)

    def _add_event(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith(_COMPILE_EVENTS) and threading.get_ident() == self._thread:
            self._spent["compile"] += duration_secs

    @contextmanager
    def on(self, kind: str) -> Iterator[None]:
        """Count the seconds of a block as `kind`, one of KINDS, except those spent compiling."""
        begun, compiling = perf_counter(), self._spent["compile"]
        try:
            yield
        finally:
            self._spent[kind] += perf_counter() - begun - (self._spent["compile"] - compiling)

    def next_interval(self) -> Timing:
        """Return the timing since the previous call, or since the block began."""
        now = perf_counter()
        seconds = max(now - self._interval_began, 1e-9)
        timing = Timing(seconds, {kind: self._spent[kind] / seconds for kind in self.KINDS})
        self._interval_began, self._spent = now, defaultdict(float)
        return timing
