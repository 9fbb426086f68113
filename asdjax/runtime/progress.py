"""How far a long wait has come: a bar on a terminal, a line now and then elsewhere; both on standard error."""

import os
import sys
import textwrap
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 20.0
SECONDS_BETWEEN_TICKS = 1.0
"""Of a bar's clock while nothing advances."""

_LINE = "{desc} {n_fmt}/{total_fmt}%s {elapsed}<{remaining}, {rate_noinv_fmt}"
_BAR, _BARE = _LINE % " {bar}", _LINE % ""
_LEAST_BAR = 4
"""Columns, with the space before it."""
_ECHO = 2
"""Columns left free behind a bar for the ^C that a terminal shows, which would wrap."""


def log(line: str) -> None:
    """Print one line to standard error that does not tear a bar in two; a closed pipe is no error."""
    with suppress(BrokenPipeError):
        tqdm.write(shown(line, sys.stderr), file=sys.stderr)


def shown(text: str, stream: Any) -> str:
    """Return a text as a stream can show it: what its encoding lacks, as in names in another one, is escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding, getattr(stream, "errors", None) or "strict")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def wrapped(text: str, width: int) -> list[str]:
    """A text in lines of `width` characters, broken behind commas only where that is enough."""
    whole = text.replace(", ", ",\n").replace(" ", "\xa0").replace("\n", " ")
    lines = textwrap.wrap(whole, width, subsequent_indent="\xa0" * 6, break_on_hyphens=False)
    if any(len(part) > width - 6 for part in whole.split(" ")):
        lines = textwrap.wrap(text, width, subsequent_indent=" " * 6, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


class _Bar(tqdm):
    """A bar whose rate is told by whoever counts, and whose name gives way where the terminal is narrow."""

    def __init__(self, rate: Callable[[], float], **options: Any) -> None:
        self._rate = rate
        super().__init__(**options)

    @property
    def format_dict(self) -> Any:
        """What tqdm fills its line with."""
        told = {**super().format_dict, "rate": self._rate()}
        if told.get("ncols"):
            told["ncols"] -= _ECHO
            others = len(self.format_meter(**{**told, "prefix": "", "bar_format": _BARE, "ncols": None}))
            told["prefix"] = _shortened(self.desc, max(told["ncols"] - others - _LEAST_BAR, 8))
        return told


def _shortened(name: str, width: int) -> str:
    """What is in the middle is missed least: a name begins with the machine type and ends with the phase."""
    head = (width - 1) // 3
    return name if len(name) <= width else f"{name[:head]}…{name[head + 1 - width :]}"


class _Ticker:
    """Does something every so many seconds, in a thread of its own, until it is stopped."""

    def __init__(self, seconds: float, what: Callable[[], None]) -> None:
        self._seconds, self._what = seconds, what
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._thread.start()

    def _tick(self) -> None:
        while not self._ended.wait(self._seconds):
            with suppress(OSError):  # the terminal may be gone
                self._what()

    def stop(self) -> None:
        """When it returns, nothing is done any more."""
        self._ended.set()
        self._thread.join()


class Progress:
    """Something countable that takes a while."""

    def __init__(self, what: str, total: int, unit: str, done: int, quiet: bool) -> None:
        self._quiet, self._watched = quiet, sys.stderr.isatty()
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._begun = self._spoke = monotonic()
        self._first: tuple[float, int] | None = None  # when, and how many: the rate is since then
        self._ticker: _Ticker | None = None
        self._told: Sequence[str] = ()
        self._bar = _Bar(
            self._rate,
            desc=what,
            total=total,
            initial=done,
            unit=f" {unit}",
            disable=not self._watched,
            dynamic_ncols=True,
            bar_format=_BAR,
            leave=not quiet,
        )
        self._below: list[tqdm] = []

    def set_status(self, note: str) -> None:
        """Say at once what the wait is for that now begins, and that it goes on, until the first advance."""
        self._stop_ticking()
        self._told = (note,)
        if self._watched:
            self._show()
            self._ticker = _Ticker(SECONDS_BETWEEN_TICKS, self._refresh)
        else:
            log(f"{self.what}: {note}")
            self._ticker = _Ticker(SECONDS_BETWEEN_LINES, self._say_still)

    def update(self, count: int = 1, note: str = "", details: Sequence[str] = ()) -> None:
        """So many more are done; `note` is shown below the bar, then each of `details`, until there is a new note."""
        self._stop_ticking()
        self.done += count
        self._first = self._first or (monotonic(), self.done)
        if note:
            self._told = (note, *details)
        self._show()
        self._bar.update(count)
        if not self._watched and monotonic() - self._spoke >= SECONDS_BETWEEN_LINES:
            self._spoke = monotonic()
            self._say_newest()

    def _stop_ticking(self) -> None:
        """What was mentioned has come to its end."""
        if self._ticker:
            self._ticker.stop()
            self._ticker, self._told = None, ()

    def _say_still(self) -> None:
        log(f"{self.what}: still at it after {monotonic() - self._begun:.0f} s ({self._told[0]})")

    def _say_newest(self) -> None:
        note, *details = self._told or ("",)
        log("; ".join(filter(None, (self._line(), note))))
        for line in details:
            log(f"  {line}")

    def _line(self) -> str:
        rate = self._rate()
        left = f"{rate:.3g} a second, {tqdm.format_interval((self.total - self.done) / rate)} left" if rate else ""
        return ", ".join(filter(None, (f"{self.what}: {self.done} of {self.total} {self.unit}s", left)))

    def _rate(self) -> float:
        """Since the first advance, which may have compiled; 0 before."""
        since, at = self._first or (self._begun, self.done)
        return (self.done - at) / max(monotonic() - since, 1e-9)

    def _refresh(self) -> None:
        self._show()
        self._bar.refresh()

    def _show(self) -> None:
        """What was told last, on a terminal, in lines of its present width."""
        if not self._watched:
            return
        lines = [line for text in self._told for line in wrapped(text, _room())]
        while len(self._below) < len(lines):
            self._below.append(tqdm(bar_format="  {desc}", dynamic_ncols=True, leave=False))
        for bar, line in zip(self._below, lines + [""] * (len(self._below) - len(lines)), strict=True):
            if bar.desc != line:
                bar.set_description_str(line)

    def close(self) -> None:
        """Leave the finished bar standing with the newest note, or say how long it took, if it has advanced at all."""
        self._stop_ticking()
        note = self._told[0] if self._told else ""
        for line in reversed(self._below):
            line.close()
        self._bar.close()
        if self._quiet:
            return
        if self._watched:
            for line in wrapped(note, _room()):
                log(f"  {line}")
        elif self._first:
            took = f"{self.what}: {self.done} of {self.total} {self.unit}s in {monotonic() - self._begun:.1f} s"
            log("; ".join(filter(None, (took, note))))


def _room() -> int:
    """Characters in a line below a bar: the terminal's width less indentation, and a column that the cursor needs."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        columns = 80
    return max(columns - 3, 20)


@contextmanager
def progress(what: str, total: int, unit: str, done: int = 0, *, quiet: bool = False) -> Iterator[Progress]:
    """A `Progress` that is closed whatever happens; a `quiet` one says nothing at its end."""
    shown = Progress(what, total, unit, done, quiet)
    try:
        yield shown
    finally:
        shown.close()


def track[T](items: Iterable[T], what: str, total: int, unit: str, *, quiet: bool = False) -> Iterator[T]:
    """The items, counted as they pass."""
    with progress(what, total, unit, quiet=quiet) as shown:
        for item in items:
            yield item
            shown.update()
