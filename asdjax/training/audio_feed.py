"""The audio of a step: all clips on the device, or the crops of a dispatch, cut by the host one dispatch ahead.

Skip it on a first reading. Both give the same batches, as the host uses the same sampler.

Letters: m runs in one program, v variants, b batch, s samples.
"""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from asdjax import features
from asdjax.config.fields import Config
from asdjax.runtime import hardware, processes
from asdjax.runtime.progress import log
from asdjax.runtime.threads import count_cores
from asdjax.training import batches
from asdjax.training.batches import Audio
from asdjax.training.dispatches import Dispatch
from asdjax.training.sampler import Batch, SamplingTable
from asdjax.training.state import TrainSpec

#: Row length of the audio on the device. Half a row is padding for each clip: 0.2 % of a 10 s clip.
PAGE_SAMPLES = 512

#: Share of the device's memory for audio. The rest is for weights and activations.
DEVICE_SHARE = 0.4

#: Approximate bytes of a dispatch's crops. The device holds three dispatches' crops at a time.
CROPS_BYTES = 2**28


class PaddedSizes(NamedTuple):
    """Least lengths of a step's arrays, so that one compiled step serves programs with unequal clips.

    They are the clips of a task, the clips of a program, and the pages of its audio.
    """

    task_clips: int = 0
    program_clips: int = 0
    pages: int = 0


NO_PADDING = PaddedSizes()

HostDraws = Callable[[Sequence[int]], Batch]


def is_resident(config: Config, samples: Sequence[np.ndarray]) -> bool:
    """Return whether all audio of some clips goes to the device."""
    if config.data.resident != "auto":
        return config.data.resident == "device"
    return count_audio_bytes(map(len, samples)) <= DEVICE_SHARE * _device_bytes()


def count_audio_bytes(lengths: Iterable[int]) -> int:
    """Return the approximate bytes on the device of clips with these lengths in samples."""
    return 2 * sum(length + PAGE_SAMPLES // 2 for length in lengths)


def find_padded_sizes(config: Config, programs: Iterable[Sequence[Sequence[np.ndarray]]]) -> PaddedSizes:
    """Return sizes that fit every program, given as the clips int16 (s,) of each of its runs.

    They are rounded up, so that processes that train unlike parts of a work directory compile the same program. Pages
    count only for programs whose audio goes to the device.
    """
    padded = NO_PADDING
    for runs in programs:
        samples = [clip for run in runs for clip in run]
        pages = count_pages(samples) if is_resident(config, samples) else 0
        need = PaddedSizes(max(map(len, runs)), len(samples), pages)
        padded = PaddedSizes(*map(max, padded, need))
    return PaddedSizes(*map(round_up, padded))


def round_up(number: int) -> int:
    """Return the next number that is a power of two or some eighths more; at most an eighth above `number`."""
    step = 2 ** max(0, number.bit_length() - 4)
    return -(-number // step) * step


def _device_bytes() -> float:
    """Return the memory of a device; of a program of several processes the smallest, as all must decide alike."""
    own = hardware.memory_limit() or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(processes.gather("memory", own))


def find_crops_shape(spec: TrainSpec, runs: int) -> tuple[int, ...]:
    """Return the shape of a dispatch's crops: (steps, m, v, 2, b, s)."""
    samples = spec.model.spectrogram.piece_samples
    return (spec.steps_per_dispatch, runs, len(spec.variants), 2, spec.batch_size, samples)


def limit_steps(spec: TrainSpec, runs: int) -> TrainSpec:
    """Return the spec with as many steps per dispatch as the memory for crops allows."""
    _, *step_shape = find_crops_shape(spec, runs)
    step_bytes = 2 * int(np.prod(step_shape))
    return replace(spec, steps_per_dispatch=max(1, min(spec.steps_per_dispatch, CROPS_BYTES // step_bytes)))


class DeviceFeed:
    """All clips on the device. Nothing is copied during training."""

    def __init__(self, samples: Sequence[np.ndarray], mesh: Mesh, padded: PaddedSizes = NO_PADDING) -> None:
        self._waves = hardware.replicate(make_waves(samples, padded), mesh)

    def audio(
        self, spec: TrainSpec, table: SamplingTable, keys: jax.Array, dispatches: Iterable[Dispatch]
    ) -> Generator[Audio]:
        """Yield the audio of each dispatch, in order."""
        del spec, table, keys
        yield from (self._waves for _ in dispatches)


class HostFeed:
    """Clips on the host, mapped from the store. Each dispatch's crops are cut while the previous dispatch runs."""

    def __init__(self, samples: Sequence[np.ndarray], mesh: Mesh) -> None:
        self._samples, self._mesh = samples, mesh
        log("the audio stays on the host, which cuts the crops of each step")

    def audio(
        self, spec: TrainSpec, table: SamplingTable, keys: jax.Array, dispatches: Iterable[Dispatch]
    ) -> Generator[Audio]:
        """Yield the crops of each dispatch, in order; `table` and `keys` (m, v) are those of m runs."""
        draws = host_draws(spec, table, keys)
        ready: Future[features.Crops] | None = None
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(count_cores()) as cutters:
            for dispatch in dispatches:
                following = ahead.submit(self._cut, spec, draws, cutters, dispatch)
                if ready:
                    yield ready.result()
                ready = following
            if ready:
                yield ready.result()

    def _cut(
        self, spec: TrainSpec, draws: HostDraws, cutters: ThreadPoolExecutor, dispatch: Dispatch
    ) -> features.Crops:
        runs, v = len(dispatch.first), len(spec.variants)
        out = np.zeros(find_crops_shape(spec, runs), np.int16)
        rows = hardware.own_rows(spec.batch_size, self._mesh)
        jobs = []
        for i in range(dispatch.steps):
            batch = draws([first + i for first in dispatch.first])
            for which in np.ndindex(runs, v):
                of_variant = Batch(*(field[which] for field in batch))
                jobs.append(cutters.submit(_cut_batch, self._samples, of_variant, rows, spec, out[i][which]))
        for job in jobs:
            job.result()
        return features.Crops(hardware.split_crops(out, self._mesh))


def host_draws(spec: TrainSpec, table: SamplingTable, keys: jax.Array) -> HostDraws:
    """Return a function from the runs' steps to their batches (m, v, b), numpy arrays computed on the host's CPU."""
    cpu = hardware.get_cpu()
    table, keys = jax.device_put((table, keys), cpu)

    def draw(steps: Sequence[int]) -> Batch:
        with jax.default_device(cpu):
            return jax.device_get(batches.compiled_draws(spec)(table, keys, jnp.asarray(steps, jnp.int32)))

    return draw


def _cut_batch(
    samples: Sequence[np.ndarray], batch: Batch, rows: Sequence[int], spec: TrainSpec, out: np.ndarray
) -> None:
    """Write the crops of some rows of one variant's batch (b,) to `out` (2, b, s)."""
    starts = [features.first_sample(frame, spec.model.spectrogram) for frame in np.asarray(batch.frame).tolist()]
    for which, clips in enumerate((batch.clip_a, batch.clip_b)):
        for row in rows:
            out[which, row] = features.crop(samples[int(clips[row])], starts[row], out.shape[-1])


def make_waves(samples: Sequence[np.ndarray], padded: PaddedSizes = NO_PADDING) -> features.Waves:
    """Return clips int16 (s,) as the pages that `features.gather` reads, on the host."""
    rows = _rows(samples)
    first = np.cumsum(rows) - rows
    pages = np.zeros((max(int(rows.sum()), padded.pages), PAGE_SAMPLES), np.int16)
    for clip, row, number in zip(samples, first, rows, strict=True):
        pages[row : row + number].reshape(-1)[: len(clip)] = clip
    first_page, length = np.zeros((2, max(len(samples), padded.program_clips)), np.int32)
    first_page[: len(samples)] = first
    length[: len(samples)] = [len(clip) for clip in samples]
    return features.Waves(pages, first_page, length)  # pyright: ignore[reportArgumentType]


def count_pages(samples: Sequence[np.ndarray]) -> int:
    """Return the number of pages of all clips."""
    return int(_rows(samples).sum())


def _rows(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Return the number of pages of each clip, (n,)."""
    return np.array([-(-len(clip) // PAGE_SAMPLES) for clip in samples])
