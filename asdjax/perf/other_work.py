"""How much of the cores other programs took while something was measured: what spoils a measurement unseen."""

from collections.abc import Sequence
from pathlib import Path

from asdjax.runtime.threads import cores


class OtherWork:
    """Counts from when it is made."""

    def __init__(self, own: Sequence[int]) -> None:
        """own: the processes whose work is measured, with the children that they have waited for."""
        self._own = own
        self._begun = self._now()

    def share(self) -> float | None:
        """Of all cores since then, 0 to 1; None where Linux does not tell."""
        now = self._now()
        if self._begun is None or now is None:
            return None
        all_ticks, busy, own = (after - before for before, after in zip(self._begun, now, strict=True))
        return min(max((busy - own) / all_ticks, 0.0), 1.0) if all_ticks else None

    def _now(self) -> tuple[int, int, int] | None:
        """Clock ticks of all cores, those they were busy, and those that were ours."""
        try:
            lines = Path("/proc/stat").read_text().splitlines()
            if sum(line.startswith("cpu") for line in lines) - 1 != cores():
                return None  # of a larger machine than this process may use
            ticks = [int(word) for word in lines[0].split()[1:9]]
            idle = ticks[3] + ticks[4]
            return sum(ticks), sum(ticks) - idle, sum(map(_ticks_of, self._own))
        except (OSError, ValueError, IndexError):
            return None


def _ticks_of(process: int) -> int:
    """utime, stime, cutime and cstime (proc_pid_stat(5))."""
    after_name = Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()
    return sum(map(int, after_name[11:15]))
