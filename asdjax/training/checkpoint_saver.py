"""CheckpointSaver: saves the states of a program's runs in a thread, while the next steps are computed."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from time import monotonic
from types import TracebackType
from typing import Self

from asdjax.config.fields import Config
from asdjax.errors import InUse, Removed
from asdjax.fleet import checkpoints
from asdjax.runtime.progress import log
from asdjax.training import phase_runs
from asdjax.training.phase_runs import PhaseRun
from asdjax.training.state import TrainState


class CheckpointSaver:
    """Saves of the runs of a program, one at a time; the end of the `with` block waits for the last.

    An error of a save is raised by the next call of `start` or `wait`, or by the end of the block.
    """

    def __init__(self, config: Config, runs: Sequence[PhaseRun]) -> None:
        self._keep, self._interval_s = config.train.keep, 60 * config.train.checkpoint_every_minutes
        self._runs, self._origins = runs, [phase_runs.make_origin(run) for run in runs]
        self._known = [self._find_newest(run) for run in runs]
        self._pool = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        self._newest_s: float | None = None  # time of the newest save or, before the first, of the first steps

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._pool:
            try:
                self.wait()
            except Exception as failed:  # of any kind: it must not hide the error that ends the block
                if error is None:
                    raise
                log(f"the newest checkpoint was not saved: {failed}")

    def is_due(self) -> bool:
        """Return whether `train.checkpoint_every_minutes` have passed since the newest save or the first call."""
        now_s = monotonic()
        if self._newest_s is None:
            self._newest_s = now_s
        return now_s - self._newest_s >= self._interval_s

    def start(self, states: Mapping[int, TrainState], now: Sequence[int]) -> None:
        """Save the states of some runs, by their number, at their present steps; waits for an earlier save first.

        The states are on the host and belong to the saver from now on. Raises InUse if a newer step is there that was
        not saved here: on a disk that cannot lock, another process may train the same run.
        """
        self.wait()
        for i in states:
            if not self._runs[i].log.path.exists():
                raise Removed(
                    f"{self._runs[i].run.folder}: expected the files of this training, got none any more; restore it"
                )
            if self._find_newest(self._runs[i]) > self._known[i]:
                raise InUse(f"{self._runs[i].run.folder}: another asdjax process saves checkpoints of this run")
            self._known[i] = max(self._known[i], now[i])
            self._runs[i].log.flush()
        self._newest_s = monotonic()
        self._pending = self._pool.submit(self._save, states, tuple(now))

    @staticmethod
    def _find_newest(run: PhaseRun) -> int:
        """Return the newest step saved of a run's phase, by whatever process; 0 without one."""
        return max(checkpoints.list_steps(run.run.folder / run.phase.name), default=0)

    def wait(self) -> None:
        """Wait until everything is saved. Raises InputError if the disk is full."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def _save(self, states: Mapping[int, TrainState], now: Sequence[int]) -> None:
        for i, state in states.items():
            phase_runs.save(self._runs[i], now[i], state, self._keep, self._origins[i])
