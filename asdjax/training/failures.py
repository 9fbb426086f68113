"""Errors that cost some runs while the others are trained: bad data, divergence, another process at work on them."""

from collections.abc import Sequence
from pathlib import Path

from asdjax.errors import Diverged, InputError, Interrupted, InUse
from asdjax.fleet import metric_log
from asdjax.runtime.interrupts import GO_ON
from asdjax.runtime.progress import log

#: Names of runs, and the error that they failed by.
Failure = tuple[Sequence[str], InputError | Diverged]


class Failures:
    """The runs of a work directory that failed, each with its error, of a number of runs.

    Nothing is written before `record`, and never without `writes`.
    """

    def __init__(self, workdir: Path, runs: int, failures: Sequence[Failure], *, writes: bool = True) -> None:
        self._workdir, self._runs, self._writes = workdir, runs, writes
        self._failures: list[Failure] = []
        self._recording = False
        for names, error in failures:
            self.add(names, error)

    def record(self) -> None:
        """Write the failures to the metric logs of their runs, those until now and those to come."""
        self._recording = True
        for names, error in self._failures:
            self._write(names, error)

    def add(self, names: Sequence[str], error: InputError | Diverged) -> None:
        """Add the error of some runs; it is logged now if the process has other runs, and else when it is raised.

        Its traceback is dropped: the frames hold arrays on the device, whose memory other runs need.
        """
        error.__traceback__ = error.__cause__ = error.__context__ = None
        self._failures.append((names, error))
        if self._runs > len(names):
            log(f"{', '.join(names)}: left out: {error}")
        if self._recording:
            self._write(names, error)

    def _write(self, names: Sequence[str], error: InputError | Diverged) -> None:
        if self._writes and not isinstance(error, InUse):  # else another process writes the log
            for name in names:
                metric_log.append_failure(
                    self._workdir / name, str(error), code=3 if isinstance(error, Diverged) else 2
                )

    def raise_worst(self) -> None:
        """Raise an error if any run failed; see `raise_worst`."""
        raise_worst(self._failures)


def raise_worst(failures: Sequence[Failure]) -> None:
    """Raise an error if any run failed.

    It is Interrupted if another process is at work on one, as the command has to be run again. Otherwise it is Diverged
    before InputError.
    """
    busy = [name for names, error in failures if isinstance(error, InUse) for name in names]
    failed = sum(len(names) for names, _ in failures) - len(busy)
    if busy:
        others = f" ({failed} other runs failed)" if failed else ""
        raise Interrupted(f"{', '.join(busy)}: another asdjax process is at work there; {GO_ON}{others}")
    errors = sorted((error for _, error in failures), key=lambda error: not isinstance(error, Diverged))
    if errors:
        others = f" (and {failed - 1} more of the runs failed)" if failed > 1 else ""
        raise type(errors[0])(f"{errors[0]}{others}")
