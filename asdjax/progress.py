"""How far a long wait has come: a bar on a terminal, a line now and then elsewhere; both on standard error."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from time import monotonic

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 20.0

_BAR = "{desc} {n_fmt}/{total_fmt} {bar} {elapsed}<{remaining}, {rate_noinv_fmt}{postfix}"
"""What matters first: a narrow terminal cuts the end off."""


def say(line: str) -> None:
    """One line to the user that does not tear a bar in two; it is no matter if nobody is there to read it."""
    with suppress(BrokenPipeError):
        tqdm.write(line, file=sys.stderr)


class Progress:
    """Something countable that takes a while."""

    def __init__(self, what: str, total: int, unit: str, done: int, quiet: bool) -> None:
        self._quiet = quiet
        self.what, self.total, self.unit, self.done = what, total, unit, done
        self._begun = self._spoke = monotonic()
        self._first: tuple[float, int] | None = None  # when, and how many: the rate is since then
        self._mentioned = False
        self._bar = tqdm(
            desc=what,
            total=total,
            initial=done,
            unit=f" {unit}",
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
            bar_format=_BAR,
            leave=not quiet,
        )
        self._below: list[tqdm] = []

    def mention(self, note: str) -> None:
        """Say at once what the wait is for that now begins."""
        if self._bar.disable:
            say(f"{self.what}: {note}")
        else:
            self._bar.set_postfix_str(note)
            self._mentioned = True

    def advance(self, count: int = 1, note: str = "", details: Sequence[str] = ()) -> None:
        """So many more are done; `note` is shown behind the rate, each of `details` on a line below."""
        self.done += count
        self._first = self._first or (monotonic(), self.done)
        self._show(details)
        if note or self._mentioned:
            self._bar.set_postfix_str(note, refresh=False)
            self._mentioned = False
        self._bar.update(count)
        if self._bar.disable and monotonic() - self._spoke >= SECONDS_BETWEEN_LINES:
            self._spoke = monotonic()
            say(self._line(note))
            for line in details:
                say(f"  {line}")

    def _show(self, details: Sequence[str]) -> None:
        """On a terminal; what stands there stays until there is something new."""
        if self._bar.disable:
            return
        while len(self._below) < len(details):
            self._below.append(tqdm(bar_format="  {desc}", dynamic_ncols=True, leave=False))
        for line, text in zip(self._below, details, strict=False):
            line.set_description_str(text)

    def _line(self, note: str) -> str:
        since, at = self._first or (self._begun, self.done)
        rate = (self.done - at) / max(monotonic() - since, 1e-9)
        left = f"{rate:.3g} a second, {tqdm.format_interval((self.total - self.done) / rate)} left" if rate else ""
        parts = [", ".join(filter(None, (f"{self.what}: {self.done} of {self.total} {self.unit}s", left))), note]
        return "; ".join(part for part in parts if part)

    def close(self) -> None:
        """Leave the finished bar standing, or say how long it took."""
        if self._bar.disable and not self._quiet:
            seconds = monotonic() - self._begun
            say(f"{self.what}: {self.done} of {self.total} {self.unit}s in {seconds:.1f} s")
        for line in reversed(self._below):
            line.close()
        self._bar.close()


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
            shown.advance()
