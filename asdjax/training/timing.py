"""Where the time of training goes: compiling, waiting for audio, saving; the rest are steps."""

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from types import TracebackType
from typing import NamedTuple, Self

import jax

_COMPILING = "/jax/core/compile/"
"""What JAX's events of tracing, lowering and compiling (or finding in the cache) are called."""


class Timing(NamedTuple):
    """Seconds since the lap before, and which part of them each kind of wait took."""

    seconds: float
    shares: dict[str, float]

    @property
    def of_steps(self) -> float:
        """Seconds that were neither spent compiling nor saving nor on held-out clips: of steps, and their data."""
        return self.seconds * (1 - sum(share for what, share in self.shares.items() if what != "data"))


class StepTimer:
    """Seconds of this thread, within a `with` block, by what they go to."""

    KINDS = ("data", "compile", "checkpoint", "holdout")

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        self._spent: dict[str, float] = defaultdict(float)
        self._begun = perf_counter()
        jax.monitoring.register_event_duration_secs_listener(self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        jax.monitoring.unregister_event_duration_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event.startswith(_COMPILING) and threading.get_ident() == self._thread:
            self._spent["compile"] += duration_secs

    @contextmanager
    def on(self, what: str) -> Iterator[None]:
        """What is within goes to `what`, one of KINDS; what of it was compiling goes there."""
        begun, compiling = perf_counter(), self._spent["compile"]
        try:
            yield
        finally:
            self._spent[what] += perf_counter() - begun - (self._spent["compile"] - compiling)

    def lap(self) -> Timing:
        """The time since this was last asked, or since the block began."""
        now = perf_counter()
        seconds = max(now - self._begun, 1e-9)
        lap = Timing(seconds, {what: self._spent[what] / seconds for what in self.KINDS})
        self._begun, self._spent = now, defaultdict(float)
        return lap
