"""Progress of long waits on standard error: a bar on a terminal, a line at intervals elsewhere."""

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
SECONDS_BETWEEN_TICKS = 1.0  # of a bar's clock while the count stays the same

_LINE = "{desc} {n_fmt}/{total_fmt}%s {elapsed}<{remaining}, {rate_noinv_fmt}"
_LINE_WITH_BAR, _LINE_WITHOUT_BAR = _LINE % " {bar}", _LINE % ""
_MIN_BAR_COLUMNS = 4  # with the space before it
_ECHO_COLUMNS = 2  # kept free behind a bar for the ^C that a terminal shows, which would wrap

_silent, _prefix = False, ""


def silence(prefix: str) -> None:
    """Print nothing from now on but what `report` gets, with a prefix: another process prints the progress."""
    global _silent, _prefix
    _silent, _prefix = True, prefix


def log(line: str) -> None:
    """Print one line to standard error as `report`, unless this process is silent."""
    if not _silent:
        report(line)


def report(line: str) -> None:
    """Print one line to standard error, above a progress bar if there is one; ignore a closed pipe."""
    line = f"{_prefix}{line}"
    with suppress(BrokenPipeError):
        tqdm.write(escape_unencodable(line, sys.stderr), file=sys.stderr)


def escape_unencodable(text: str, stream: Any) -> str:
    """Return a text with the characters that a stream's encoding lacks escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    try:
        text.encode(encoding, getattr(stream, "errors", None) or "strict")
    except UnicodeEncodeError:
        return text.encode(encoding, "backslashreplace").decode(encoding)
    return text


def wrap(text: str, width: int) -> list[str]:
    """Return a text in lines of at most `width` characters, broken only after commas if that is enough."""
    whole = text.replace(", ", ",\n").replace(" ", "\xa0").replace("\n", " ")
    lines = textwrap.wrap(whole, width, subsequent_indent="\xa0" * 6, break_on_hyphens=False)
    if any(len(part) > width - 6 for part in whole.split(" ")):
        lines = textwrap.wrap(text, width, subsequent_indent=" " * 6, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]


class _Bar(tqdm):
    """Bar with a rate from elsewhere, whose name is shortened on a narrow terminal."""

    def __init__(self, rate: Callable[[], float], **options: Any) -> None:
        self._rate = rate
        super().__init__(**options)

    @property
    def format_dict(self) -> Any:
        """Return the values for tqdm's format of the line."""
        values = {**super().format_dict, "rate": self._rate()}
        if values.get("ncols"):
            values["ncols"] -= _ECHO_COLUMNS
            without_name = {**values, "prefix": "", "bar_format": _LINE_WITHOUT_BAR, "ncols": None}
            free = values["ncols"] - len(self.format_meter(**without_name)) - _MIN_BAR_COLUMNS
            values["prefix"] = _shorten(self.desc, max(free, 8))
        return values


def _shorten(name: str, width: int) -> str:
    """Return a name without its middle: it begins with the machine type and ends with the phase."""
    head = (width - 1) // 3
    return name if len(name) <= width else f"{name[:head]}…{name[head + 1 - width :]}"


class _Ticker:
    """Thread that calls a function at intervals until it is stopped."""

    def __init__(self, seconds: float, function: Callable[[], None]) -> None:
        self._seconds, self._function = seconds, function
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)
        self._thread.start()

    def _tick(self) -> None:
        while not self._ended.wait(self._seconds):
            with suppress(OSError):  # the terminal may be closed
                self._function()

    def stop(self) -> None:
        """Stop, and return when the function does not run any more."""
        self._ended.set()
        self._thread.join()


class Progress:
    """Progress of one countable task: bar and notes on a terminal, log lines elsewhere."""

    def __init__(self, what: str, total: int, unit: str, done: int, quiet: bool) -> None:
        self._quiet, self._on_terminal = quiet, sys.stderr.isatty() and not _silent
        self._has_logged = False
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._start = self._last_line = monotonic()
        self._first: tuple[float, int] | None = None  # time and count of the first update: the rate is since then
        self._ticker: _Ticker | None = None
        self._notes: Sequence[str] = ()
        self._bar = _Bar(
            self._rate,
            desc=what,
            total=total,
            initial=done,
            unit=f" {unit}",
            disable=not self._on_terminal,
            dynamic_ncols=True,
            bar_format=_LINE_WITH_BAR,
            leave=not quiet,
        )
        self._bars_below: list[tqdm] = []

    def set_status(self, note: str) -> None:
        """Show the reason of the wait that begins now, and show until the next update that it goes on."""
        self._stop_ticking()
        self._notes = (note,)
        if self._on_terminal:
            self._show_notes()
            self._ticker = _Ticker(SECONDS_BETWEEN_TICKS, self._refresh)
        else:
            log(f"{self.what}: {note}")
            self._ticker = _Ticker(SECONDS_BETWEEN_LINES, self._log_waiting)

    def update(self, count: int = 1, note: str = "", details: Sequence[str] = ()) -> None:
        """Add `count`; show `note` below the bar, then each of `details`, until there is a new note."""
        self._stop_ticking()
        self.done += count
        self._first = self._first or (monotonic(), self.done)
        if note:
            self._notes = (note, *details)
        self._show_notes()
        self._bar.update(count)
        if not self._on_terminal and monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = monotonic()
            self._log_progress()

    def _stop_ticking(self) -> None:
        if self._ticker:
            self._ticker.stop()
            self._ticker, self._notes = None, ()

    def _log_waiting(self) -> None:
        log(f"{self.what}: still at it after {monotonic() - self._start:.0f} s ({self._notes[0]})")

    def _log_progress(self) -> None:
        self._has_logged = True
        note, *details = self._notes or ("",)
        log("; ".join(filter(None, (self._format_count(), note))))
        for line in details:
            log(f"  {line}")

    def _format_count(self) -> str:
        rate = self._rate()
        left = f"{rate:.3g} a second, {tqdm.format_interval((self.total - self.done) / rate)} left" if rate else ""
        return ", ".join(filter(None, (f"{self.what}: {self.done} of {self.total} {self.unit}s", left)))

    def _rate(self) -> float:
        """Return the rate since the first update, which may have compiled; 0 before."""
        start, done = self._first or (self._start, self.done)
        return (self.done - done) / max(monotonic() - start, 1e-9)

    def _refresh(self) -> None:
        self._show_notes()
        self._bar.refresh()

    def _show_notes(self) -> None:
        """Show the newest notes on a terminal, in lines of its present width."""
        if not self._on_terminal:
            return
        lines = [line for text in self._notes for line in wrap(text, _count_columns())]
        while len(self._bars_below) < len(lines):
            self._bars_below.append(tqdm(bar_format="  {desc}", dynamic_ncols=True, leave=False))
        for bar, line in zip(self._bars_below, lines + [""] * (len(self._bars_below) - len(lines)), strict=True):
            if bar.desc != line:
                bar.set_description_str(line)

    def close(self) -> None:
        """Leave the bar and its newest note on the terminal; elsewhere log the duration if there was an update."""
        self._stop_ticking()
        note = self._notes[0] if self._notes else ""
        for bar in reversed(self._bars_below):
            bar.close()
        self._bar.close()
        if self._quiet and not self._has_logged:  # a logged count also needs its last line
            return
        if self._on_terminal:
            for line in wrap(note, _count_columns()):
                log(f"  {line}")
        elif self._first:
            count = f"{self.what}: {self.done} of {self.total} {self.unit}s in {monotonic() - self._start:.1f} s"
            log("; ".join(filter(None, (count, note))))


def _count_columns() -> int:
    """Return the characters in a line below a bar: without the indentation, and a column for the cursor."""
    try:
        columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        columns = 80
    return max(columns - 3, 20)


@contextmanager
def progress(what: str, total: int, unit: str, done: int = 0, *, quiet: bool = False) -> Iterator[Progress]:
    """Return a `Progress` that is closed after the block; a `quiet` one leaves nothing of a short wait."""
    bar = Progress(what, total, unit, done, quiet)
    try:
        yield bar
    finally:
        bar.close()


def track[T](items: Iterable[T], what: str, total: int, unit: str, *, quiet: bool = False) -> Iterator[T]:
    """Yield the items, with progress."""
    with progress(what, total, unit, quiet=quiet) as bar:
        for item in items:
            yield item
            bar.update()
