"""MetricMonitor: checks every loss and gradient of a phase, and logs some of them."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.errors import Diverged
from asdjax.models.variants import piece_height
from asdjax.training import batches
from asdjax.training.dispatches import Dispatch
from asdjax.training.phase_runs import PhaseRun
from asdjax.training.sampler import SamplingTable
from asdjax.training.state import TrainSpec
from asdjax.training.step import StepMetrics
from asdjax.training.timing import StepTimer


class Pending(NamedTuple):
    """The metrics of a dispatch that was started and not yet checked."""

    dispatch: Dispatch
    metrics: StepMetrics


class MonitorNote(NamedTuple):
    """A note for the progress bar, and lines to show below it."""

    note: str
    details: Sequence[str]


class MetricMonitor:
    """The metrics of a phase of m runs, dispatch by dispatch."""

    def __init__(
        self,
        spec: TrainSpec,
        phase_runs: Sequence[PhaseRun],
        table: SamplingTable,
        keys: jax.Array,
        timer: StepTimer,
    ) -> None:
        self._spec, self._runs, self._table, self._keys, self._timer = spec, phase_runs, table, keys, timer
        self._pending: list[Pending] = []
        self._steps, self._run_steps = 0, 0

    def wait(self) -> bool:
        """Wait until all dispatches but the newest are computed; return whether there were any.

        The host runs at most one dispatch ahead of the device, as crops take the device's memory.
        """
        if len(self._pending) < 2:
            return False
        jax.block_until_ready(self._pending[-2].metrics)
        return True

    def add(self, dispatch: Dispatch, metrics: StepMetrics) -> None:
        """Add the metrics of a dispatch that was started."""
        self._pending.append(Pending(dispatch, metrics))
        self._steps += dispatch.steps
        left = (run.phase.steps - first for run, first in zip(self._runs, dispatch.first, strict=True))
        self._run_steps += sum(min(dispatch.steps, steps) for steps in left)

    def require_finite(self) -> None:
        """Check every step since the last call.

        Raises Diverged for the first loss or gradient that is not finite, and logs the clips of its batch. Steps of a
        finished run, which are computed next to the others, do not count.
        """
        last = np.array([run.phase.steps for run in self._runs])
        for dispatch, metrics in self._pending:
            values = np.stack([metrics.loss, metrics.gradient_norm], axis=-1)
            rows = np.arange(len(values))[:, None]
            counts = (rows < dispatch.steps) & (rows + np.array(dispatch.first) < last)
            for row, run, variant, kind in np.argwhere(~np.isfinite(values) & counts[..., None, None])[:1].tolist():
                self._raise_diverged(("loss", "gradient")[kind], run, variant, dispatch.first[run] + row)
        self._pending = self._pending[-2:]

    def _raise_diverged(self, what: str, i: int, variant: int, step: int) -> None:
        run, name = self._runs[i], self._spec.variants[variant]
        steps = jnp.full(len(self._runs), step, jnp.int32)
        batch = jax.device_get(batches.compiled_draws(self._spec)(self._table, self._keys, steps))
        clips = [str(clip.path) for other in self._runs for clip in other.trained.task.clips]
        pairs = [[clips[a], clips[b]] for a, b in zip(batch.clip_a[i, variant], batch.clip_b[i, variant], strict=True)]
        run.log.event("diverged", run.phase.name, step + 1, what=what, variant=name, clips=pairs)
        raise Diverged(
            f"{run.run.name} {run.phase.name} step {step + 1}: the {what} of {name} is not finite; its batch mixed "
            f"{pairs[0][0]} with {pairs[0][1]} and {len(pairs) - 1} more pairs (see {run.log.path}); the last "
            "checkpoint is intact; try a smaller optimizer.learning_rate in a new work directory",
            run.run.name,
        )

    def log(self, due: Sequence[int], now: Sequence[int]) -> MonitorNote:
        """Log the newest step of some runs."""
        dispatch, metrics = self._pending[-1]
        timing = self._timer.next_interval()
        rows = []
        for i in due:
            run, at = self._runs[i], now[i] - dispatch.first[i] - 1
            row = {what: np.asarray(values)[at, i] for what, values in metrics._asdict().items()}
            run.log.metrics(
                run.phase.name,
                now[i],
                **{what: self._by_variant(values) for what, values in row.items()},
                learning_rate=float(run.phase.rates[now[i] - 1]),
                step_seconds=round(timing.step_seconds / self._steps, 6),
                share={what: round(share, 4) for what, share in timing.shares.items()},
            )
            rows.append(row)
        pieces = self._run_steps * len(self._spec.variants) * self._spec.batch_size
        self._steps, self._run_steps = 0, 0
        loss, accuracy = (
            self._by_variant(np.mean([row[what] for row in rows], axis=0)) for what in ("loss", "accuracy")
        )
        return _make_note(loss, accuracy, pieces / max(timing.step_seconds, 1e-9))

    def _by_variant(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self._spec.variants, values.tolist(), strict=True))


def _make_note(loss: Mapping[str, float], accuracy: Mapping[str, float], pieces_per_second: float) -> MonitorNote:
    """Return a note on all variants, and a line per height with each backbone's loss and accuracy."""
    mean_loss, mean_accuracy = (sum(values.values()) / len(values) for values in (loss, accuracy))
    lines: dict[int, list[str]] = {}
    for name in loss:
        text = f"{name.rsplit('_', 1)[0]} {loss[name]:.2f} {100 * accuracy[name]:.0f} %"
        lines.setdefault(piece_height(name), []).append(text)
    note = f"now {pieces_per_second:.0f} pieces/s, loss {mean_loss:.2f}, acc. {100 * mean_accuracy:.0f} %"
    return MonitorNote(note, [f"{height:4}: {', '.join(texts)}" for height, texts in lines.items()])
