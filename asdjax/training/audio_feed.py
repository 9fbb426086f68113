"""Where the step finds its audio: all of it on the device, or the crops of a dispatch, cut by the host one ahead.

Both give the same batches: the host asks the same sampler.
"""

import os
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from asdjax import features
from asdjax.config.fields import Config
from asdjax.fleet.fleet_model import FleetSpec
from asdjax.runtime import hardware
from asdjax.runtime.progress import log
from asdjax.runtime.threads import cores
from asdjax.training import batches
from asdjax.training.batches import Audio
from asdjax.training.sampler import Batch, SamplingTable

PAGE_SAMPLES = 512
"""Row length of the audio on the device: half a row is wasted per clip, 0.2 % of a 10 s clip."""

DEVICE_SHARE = 0.4
"""Of the device's memory, what audio may take: the rest is for weights and activations."""

CROPS_BYTES = 2**28
"""Of a dispatch's crops, about; the device holds three at a time: computed, waiting, on their way."""


class PaddedSizes(NamedTuple):
    """Lengths that the arrays of a step have at least, so that one compiled step serves stacks of unequal clips: the
    clips of a task, those of a stack, the pages of their audio."""

    task_clips: int = 0
    stack_clips: int = 0
    pages: int = 0


NO_PADDING = PaddedSizes()

HostDraws = Callable[[Sequence[int]], Batch]


class Dispatch(NamedTuple):
    """One call of the compiled program: each task's first step (m,), and how many steps it runs at most."""

    first: tuple[int, ...]
    steps: int


def is_resident(config: Config, samples: Sequence[np.ndarray]) -> bool:
    """Whether the audio of these clips goes to the device whole."""
    if config.data.resident != "auto":
        return config.data.resident == "device"
    return audio_bytes(map(len, samples)) <= DEVICE_SHARE * _device_bytes()


def audio_bytes(lengths: Iterable[int]) -> int:
    """Of clips of so many samples on the device, about."""
    return 2 * sum(length + PAGE_SAMPLES // 2 for length in lengths)


def find_padded_sizes(config: Config, stacks: Iterable[Sequence[Sequence[np.ndarray]]]) -> PaddedSizes:
    """Room for each of these stacks, given as the clips int16 (s,) of their tasks.

    Pages for those only whose audio goes to the device: what does not fit there must not set the size of what does.
    """
    room = NO_PADDING
    for tasks in stacks:
        samples = [clip for task in tasks for clip in task]
        pages = count_pages(samples) if is_resident(config, samples) else 0
        need = PaddedSizes(max(map(len, tasks)), len(samples), pages)
        room = PaddedSizes(*map(max, room, need))
    return room


def _device_bytes() -> float:
    return hardware.memory_limit() or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def crops_shape(spec: FleetSpec, tasks: int) -> tuple[int, ...]:
    """Of a dispatch's crops for so many stacked tasks: (steps, m, v, 2, b, s)."""
    each = (len(spec.variants), 2, spec.batch_size, spec.spectrogram.piece_samples)
    return (steps_at_once(spec, tasks), tasks, *each)


def steps_at_once(spec: FleetSpec, tasks: int) -> int:
    """How many steps' crops a dispatch of so many stacked tasks may hold."""
    of_step = tasks * len(spec.variants) * 2 * spec.batch_size * spec.spectrogram.piece_samples * 2
    return max(1, min(spec.steps_per_dispatch, CROPS_BYTES // of_step))


class DeviceFeed:
    """All clips on the device; nothing moves while training goes."""

    def __init__(self, samples: Sequence[np.ndarray], mesh: Mesh, room: PaddedSizes = NO_PADDING) -> None:
        self._waves = hardware.replicated(make_waves(samples, room), mesh)

    def audio(
        self, spec: FleetSpec, plan: SamplingTable, keys: jax.Array, dispatches: Iterable[Dispatch]
    ) -> Generator[Audio]:
        """What each dispatch is to be given, in their order; see HostFeed."""
        del spec, plan, keys
        yield from (self._waves for _ in dispatches)


class HostFeed:
    """Clips on the host, mapped from the store; each dispatch's crops are cut while the one before it runs."""

    def __init__(self, samples: Sequence[np.ndarray], mesh: Mesh) -> None:
        self._samples, self._mesh = samples, mesh
        log("the audio stays on the host, which cuts the crops of each step")

    def audio(
        self, spec: FleetSpec, plan: SamplingTable, keys: jax.Array, dispatches: Iterable[Dispatch]
    ) -> Generator[Audio]:
        """What each dispatch is to be given, in their order; plan and keys (m, v) are of a stack of m tasks."""
        draws = host_draws(spec, plan, keys)
        ready: Future[features.Crops] | None = None
        with ThreadPoolExecutor(1) as ahead, ThreadPoolExecutor(cores()) as cutters:
            for dispatch in dispatches:
                following = ahead.submit(self._cut, spec, draws, cutters, dispatch)
                if ready:
                    yield ready.result()
                ready = following
            if ready:
                yield ready.result()

    def _cut(
        self, spec: FleetSpec, draws: HostDraws, cutters: ThreadPoolExecutor, dispatch: Dispatch
    ) -> features.Crops:
        tasks, v = len(dispatch.first), len(spec.variants)
        out = np.zeros(crops_shape(spec, tasks), np.int16)
        jobs = []
        for place in range(dispatch.steps):
            draw = draws([first + place for first in dispatch.first])
            for which in np.ndindex(tasks, v):
                of_variant = Batch(*(field[which] for field in draw))
                jobs.append(cutters.submit(_cut_batch, self._samples, of_variant, spec, out[place][which]))
        for job in jobs:
            job.result()
        return features.Crops(hardware.split_crops(out, self._mesh))


def host_draws(spec: FleetSpec, plan: SamplingTable, keys: jax.Array) -> HostDraws:
    """Each task's step -> their variants' batches as numpy arrays (m, v, b), computed on the host's own processor."""
    cpu = hardware.processor()
    plan, keys = jax.device_put((plan, keys), cpu)

    def draws(steps: Sequence[int]) -> Batch:
        with jax.default_device(cpu):
            return jax.device_get(batches.compiled_draws(spec)(plan, keys, jnp.asarray(steps, jnp.int32)))

    return draws


def _cut_batch(samples: Sequence[np.ndarray], draw: Batch, spec: FleetSpec, out: np.ndarray) -> None:
    """One variant's batch (b,) -> out (2, b, s)."""
    starts = [features.first_sample(frame, spec.spectrogram) for frame in np.asarray(draw.frame).tolist()]
    for which, clips in enumerate((draw.clip_a, draw.clip_b)):
        for row, (clip, start) in enumerate(zip(np.asarray(clips).tolist(), starts, strict=True)):
            out[which, row] = features.crop(samples[clip], start, out.shape[-1])


def make_waves(samples: Sequence[np.ndarray], room: PaddedSizes = NO_PADDING) -> features.Waves:
    """Clips int16 (s,) as the pages that `signal.gather` reads, still on the host."""
    rows = _rows(samples)
    first = np.cumsum(rows) - rows
    pages = np.zeros((max(int(rows.sum()), room.pages), PAGE_SAMPLES), np.int16)
    for clip, row, number in zip(samples, first, rows, strict=True):
        pages[row : row + number].reshape(-1)[: len(clip)] = clip
    first_page, length = np.zeros((2, max(len(samples), room.stack_clips)), np.int32)
    first_page[: len(samples)] = first
    length[: len(samples)] = [len(clip) for clip in samples]
    return features.Waves(pages, first_page, length)  # pyright: ignore[reportArgumentType]


def count_pages(samples: Sequence[np.ndarray]) -> int:
    """How many pages all of them take."""
    return int(_rows(samples).sum())


def _rows(samples: Sequence[np.ndarray]) -> np.ndarray:
    """How many pages each clip takes."""
    return np.array([-(-len(clip) // PAGE_SAMPLES) for clip in samples])
