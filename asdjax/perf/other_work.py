"""The share of the cores that other programs took during a measurement."""

from collections.abc import Sequence
from pathlib import Path

from asdjax.runtime.threads import count_cores


class OtherWork:
    """A counter of other programs' processor time since it was made."""

    def __init__(self, own: Sequence[int]) -> None:
        """Begin to count.

        own: ids of the measured processes; children that they have waited for are included.
        """
        self._own = own
        self._begun = self._read_ticks()

    def share(self) -> float | None:
        """Return other programs' share of all cores since then, 0 to 1; None if Linux does not report it."""
        now = self._read_ticks()
        if self._begun is None or now is None:
            return None
        total, busy, own = (after - before for before, after in zip(self._begun, now, strict=True))
        return min(max((busy - own) / total, 0.0), 1.0) if total else None

    def _read_ticks(self) -> tuple[int, int, int] | None:
        """Return clock ticks: of all cores, busy ones, and those of our own processes."""
        try:
            lines = Path("/proc/stat").read_text().splitlines()
            if sum(line.startswith("cpu") for line in lines) - 1 != count_cores():
                return None  # counts cores that this process may not use
            ticks = [int(word) for word in lines[0].split()[1:9]]
            idle = ticks[3] + ticks[4]
            return sum(ticks), sum(ticks) - idle, sum(map(_read_process_ticks, self._own))
        except (OSError, ValueError, IndexError):
            return None


def _read_process_ticks(process: int) -> int:
    """Return utime + stime + cutime + cstime (proc_pid_stat(5))."""
    after_name = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:15]))
