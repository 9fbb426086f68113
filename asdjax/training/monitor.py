"""What a training tells while it goes: every loss looked at, some of them logged."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.errors import Diverged
from asdjax.fleet.fleet_model import FleetSpec
from asdjax.models.variants import piece_height
from asdjax.training import batches
from asdjax.training.audio_feed import Dispatch
from asdjax.training.phase_runs import PhaseRun
from asdjax.training.sampler import SamplingTable
from asdjax.training.step import StepMetrics
from asdjax.training.timing import StepTimer


class Pending(NamedTuple):
    """What a dispatch computed, before anybody has looked at it."""

    dispatch: Dispatch
    metrics: StepMetrics


class MonitorNote(NamedTuple):
    """A note for the progress bar, and lines to stand below it."""

    note: str
    details: Sequence[str]


class MetricMonitor:
    """Of one phase of a stack: the metrics of its dispatches, as they come."""

    def __init__(
        self, spec: FleetSpec, lanes: Sequence[PhaseRun], plan: SamplingTable, keys: jax.Array, clock: StepTimer
    ) -> None:
        self._spec, self._lanes, self._plan, self._keys, self._clock = spec, lanes, plan, keys, clock
        self._unseen: list[Pending] = []
        self._steps, self._lane_steps = 0, 0

    def wait(self) -> None:
        """Until all dispatches but the newest are computed: the host runs one ahead of the device, no more, as crops
        take the device's memory."""
        if len(self._unseen) > 1:
            jax.block_until_ready(self._unseen[-2].metrics)

    def add(self, dispatch: Dispatch, metrics: StepMetrics) -> None:
        """A dispatch was begun."""
        self._unseen.append(Pending(dispatch, metrics))
        self._steps += dispatch.steps
        left = (lane.phase.steps - first for lane, first in zip(self._lanes, dispatch.first, strict=True))
        self._lane_steps += sum(min(dispatch.steps, steps) for steps in left)

    def require_finite(self) -> None:
        """Look at every step since this was last asked.

        Raises Diverged for the first whose loss or gradient is not finite, and tells the journal which clips it drew.
        What a task that is done computes beside the others counts for nothing.
        """
        last = np.array([lane.phase.steps for lane in self._lanes])
        for dispatch, metrics in self._unseen:
            values = np.stack([metrics.loss, metrics.gradient_norm], axis=-1)
            places = np.arange(len(values))[:, None]
            counts = (places < dispatch.steps) & (places + np.array(dispatch.first) < last)
            for place, task, variant, kind in np.argwhere(~np.isfinite(values) & counts[..., None, None])[:1].tolist():
                self._diverged(("loss", "gradient")[kind], task, variant, dispatch.first[task] + place)
        self._unseen = self._unseen[-2:]

    def _diverged(self, what: str, task: int, variant: int, step: int) -> None:
        lane, name = self._lanes[task], self._spec.variants[variant]
        steps = jnp.full(len(self._lanes), step, jnp.int32)
        draws = jax.device_get(batches.compiled_draws(self._spec)(self._plan, self._keys, steps))
        clips = [str(clip.path) for of in self._lanes for clip in of.trained.task.clips]
        pairs = [
            [clips[a], clips[b]] for a, b in zip(draws.clip_a[task, variant], draws.clip_b[task, variant], strict=True)
        ]
        lane.journal.event("diverged", lane.phase.name, step + 1, what=what, variant=name, clips=pairs)
        raise Diverged(
            f"{lane.run.name} {lane.phase.name} step {step + 1}: the {what} of {name} is not finite; its batch mixed "
            f"{pairs[0][0]} with {pairs[0][1]} and {len(pairs) - 1} more pairs (see {lane.journal.path}); the last "
            "checkpoint stands; a smaller --config.optimizer.learning_rate in a new --workdir may help"
        )

    def log(self, lanes: Sequence[int], now: Sequence[int]) -> MonitorNote:
        """Write down the newest step of some lanes."""
        dispatch, metrics = self._unseen[-1]
        lap = self._clock.lap()
        rows = []
        for i in lanes:
            lane, place = self._lanes[i], now[i] - dispatch.first[i] - 1
            row = {what: np.asarray(values)[place, i] for what, values in metrics._asdict().items()}
            lane.journal.metrics(
                lane.phase.name,
                now[i],
                **{what: self._by_variant(values) for what, values in row.items()},
                learning_rate=float(lane.phase.rates[now[i] - 1]),
                step_seconds=round(lap.of_steps / self._steps, 6),
                share={what: round(share, 4) for what, share in lap.shares.items()},
            )
            rows.append(row)
        pieces = self._lane_steps * len(self._spec.variants) * self._spec.batch_size
        self._steps, self._lane_steps = 0, 0
        loss, accuracy = (
            self._by_variant(np.mean([row[what] for row in rows], axis=0)) for what in ("loss", "accuracy")
        )
        return _told(loss, accuracy, pieces / max(lap.of_steps, 1e-9))

    def _by_variant(self, values: np.ndarray) -> dict[str, float]:
        return dict(zip(self._spec.variants, values.tolist(), strict=True))


def _told(loss: Mapping[str, float], accuracy: Mapping[str, float], pieces_a_second: float) -> MonitorNote:
    """A note on all variants, then a line for each height with each backbone's loss and accuracy."""
    mean_loss, mean_accuracy = (sum(values.values()) / len(values) for values in (loss, accuracy))
    lines: dict[int, list[str]] = {}
    for name in loss:
        shown = f"{name.rsplit('_', 1)[0]} {loss[name]:.2f} {100 * accuracy[name]:.0f} %"
        lines.setdefault(piece_height(name), []).append(shown)
    note = f"now {pieces_a_second:.0f} pieces/s, loss {mean_loss:.2f}, acc. {100 * mean_accuracy:.0f} %"
    return MonitorNote(note, [f"{height:4}: {', '.join(shown)}" for height, shown in lines.items()])
