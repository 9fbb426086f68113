"""Audio on the device or on the host: the same batches, the host one dispatch ahead."""

import threading
from collections.abc import Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asdjax import features
from asdjax.config.fields import default_config
from asdjax.models.variants import PARAMETER_GROUPS
from asdjax.runtime import hardware
from asdjax.training import audio_feed, batches, sampler
from asdjax.training.audio_feed import (
    DeviceFeed,
    HostFeed,
    PaddedSizes,
    find_padded_sizes,
    is_resident,
    limit_steps,
    make_waves,
    round_up,
)
from asdjax.training.dispatches import Dispatch
from asdjax.training.sampler import SamplingTable
from asdjax.training.state import TrainSpec, make_train_spec

LENGTHS = (16_000, 20_001, 15_872, 40_000, 17_918, 30_000)
DRAW_BATCHES = jax.jit(batches.draw_batches, static_argnums=0)
DISPATCHES = [Dispatch((0,), 3), Dispatch((3,), 3), Dispatch((6,), 1)]


def recordings() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(-32768, 32768, length, dtype=np.int16) for length in LENGTHS]


def spec(steps_per_dispatch: int = 3) -> TrainSpec:
    config = default_config()
    config.variants = ("resnet50_512", "mobilefacenet_1024")
    config.train.batch_size = 8
    config.train.steps_per_dispatch = steps_per_dispatch
    return make_train_spec(config, 3, PARAMETER_GROUPS, 1)


def plan_of(samples: Sequence[np.ndarray], of: TrainSpec) -> SamplingTable:
    frames = [of.model.spectrogram.frames(len(clip)) for clip in samples]
    plan = sampler.make_table([0, 0, 1, 1, 2, 2], [False, True] * 3, frames, [0, 1, 2])
    return sampler.make_target_table(plan, [0, 1])


def stack_of(samples: Sequence[np.ndarray], of: TrainSpec, *tasks: str) -> tuple[SamplingTable, jax.Array]:
    """As many tasks, each with the same clips (which a stack holds once for each)."""
    plans = [plan_of(samples, of) for _ in tasks]
    return sampler.stack_tables(plans), jnp.stack(
        [sampler.make_keys(3, task, of.variants, "phase2_full") for task in tasks]
    )


def test_the_host_cuts_what_the_device_gathers():
    samples, of, mesh = recordings(), spec(), hardware.make_meshes()[0]
    plan, keys = stack_of(samples, of, "fan")
    on_device = DeviceFeed(samples, mesh).audio(of, plan, keys, DISPATCHES)
    on_host = HostFeed(samples, mesh).audio(of, plan, keys, DISPATCHES)
    for dispatch, waves, crops in zip(DISPATCHES, on_device, on_host, strict=True):
        assert isinstance(waves, features.Waves)
        assert isinstance(crops, features.Crops)
        assert crops.samples.shape == (3, 1, 2, 2, 8, of.model.spectrogram.piece_samples)
        for place in range(dispatch.steps):
            draws = DRAW_BATCHES(of, plan_of(samples, of), keys[0], jnp.int32(dispatch.first[0] + place))
            start = features.first_sample(draws.frame, of.model.spectrogram)
            for which, clips in enumerate((draws.clip_a, draws.clip_b)):
                for v in range(2):
                    wanted = features.gather(waves, clips[v], start[v], of.model.spectrogram.piece_samples)
                    np.testing.assert_array_equal(crops.samples[place, 0, v, which], wanted)


def test_a_stack_is_fed_what_each_task_alone_would_be():
    """Each at its own step, from its own clips: the second task's are others, behind the first's."""
    first, second = recordings(), [clip[::-1].copy() for clip in recordings()[:5]]
    of, mesh = spec(1), hardware.make_meshes()[0]
    plans = [plan_of(first, of), sampler.make_table([0, 1, 2, 0, 1], [False] * 5, [30, 38, 30, 77, 33], [0, 1, 2])]
    keys = jnp.stack([sampler.make_keys(3, task, of.variants, "phase1") for task in ("fan", "pump")])
    feed = HostFeed([*first, *second], mesh)
    (together,) = feed.audio(of, sampler.stack_tables(plans), keys, [Dispatch((4, 9), 1)])
    for task, (samples, plan, step) in enumerate(zip((first, second), plans, (4, 9), strict=True)):
        (alone,) = HostFeed(samples, mesh).audio(
            of, sampler.stack_tables([plan]), keys[task : task + 1], [Dispatch((step,), 1)]
        )
        assert isinstance(together, features.Crops)
        assert isinstance(alone, features.Crops)
        np.testing.assert_array_equal(together.samples[:, task], alone.samples[:, 0])


def test_pieces_are_the_same_either_way():
    samples, of, mesh = recordings(), spec(1), hardware.make_meshes()[0]
    plan, keys = stack_of(samples, of, "fan")
    draws = DRAW_BATCHES(of, plan_of(samples, of), keys[0], jnp.int32(2))
    made = []
    for kind in (DeviceFeed, HostFeed):
        (audio,) = kind(samples, mesh).audio(of, plan, keys, [Dispatch((2,), 1)])
        of_step = features.Crops(audio.samples[0, 0]) if isinstance(audio, features.Crops) else audio
        pieces = jax.jit(batches.make_pieces, static_argnums=0)(of, of_step, draws)
        made.append([np.asarray(of_variant) for of_variant in pieces.values()])
    for on_device, on_host in zip(*made, strict=True):
        np.testing.assert_array_equal(on_host, on_device)


def test_the_next_dispatch_is_cut_while_this_one_runs(monkeypatch: pytest.MonkeyPatch):
    samples, of, mesh = recordings(), spec(), hardware.make_meshes()[0]
    plan, keys = stack_of(samples, of, "fan")
    cut, begun = HostFeed._cut, [threading.Event() for _ in DISPATCHES]

    def noted(self, *args):
        begun[DISPATCHES.index(args[-1])].set()
        return cut(self, *args)

    monkeypatch.setattr(HostFeed, "_cut", noted)
    for following, _ in enumerate(HostFeed(samples, mesh).audio(of, plan, keys, DISPATCHES), start=1):
        assert following == len(DISPATCHES) or begun[following].wait(10)


@pytest.mark.parametrize(("share", "expected"), [(2.0, True), (0.5, False)])
def test_audio_goes_to_the_device_where_it_fits(monkeypatch: pytest.MonkeyPatch, share: float, expected: bool):
    samples, config = recordings(), default_config()
    needed = 2 * (sum(LENGTHS) + len(LENGTHS) * 256)
    monkeypatch.setattr(audio_feed, "_device_bytes", lambda: share * needed / audio_feed.DEVICE_SHARE)
    assert is_resident(config, samples) is expected
    config.data.resident = "device"
    assert is_resident(config, samples)
    config.data.resident = "host"
    assert not is_resident(config, samples)


def test_room_is_that_of_the_largest_stack_that_goes_to_the_device(monkeypatch: pytest.MonkeyPatch):
    """One too large for the device stays on the host, and must not blow up what is put there for the others."""
    small, large, config = recordings(), [*recordings(), np.zeros(10**6, np.int16)], default_config()
    needed = 2 * (sum(LENGTHS) + len(LENGTHS) * 256)
    monkeypatch.setattr(audio_feed, "_device_bytes", lambda: 3 * needed / audio_feed.DEVICE_SHARE)
    stacks = [[small], [small[:2], small[2:5]], [large]]
    rows = sum(-(-length // audio_feed.PAGE_SAMPLES) for length in LENGTHS)
    room = find_padded_sizes(config, stacks)
    assert room == PaddedSizes(task_clips=7, program_clips=7, pages=round_up(rows))
    assert (
        make_waves(small, room).pages.shape
        == make_waves(small[:5], room).pages.shape
        == (room.pages, audio_feed.PAGE_SAMPLES)
    )
    config.data.resident = "device"
    assert find_padded_sizes(config, stacks).pages == round_up(rows + -(-(10**6) // audio_feed.PAGE_SAMPLES))


@pytest.mark.parametrize(
    ("number", "expected"), [(0, 0), (1, 1), (15, 15), (17, 18), (31, 32), (33, 36), (1000, 1024), (1025, 1152)]
)
def test_sizes_are_eighths_of_powers_of_two(number: int, expected: int):
    assert round_up(number) == expected


def test_at_most_an_eighth_is_padding():
    for number in range(1, 5000):
        rounded = round_up(number)
        assert number <= rounded <= number * 9 / 8
        assert round_up(rounded) == rounded


def test_a_dispatch_of_crops_stays_within_its_bytes():
    report = replace(make_train_spec(default_config(), 6, PARAMETER_GROUPS, 1), steps_per_dispatch=50)
    assert limit_steps(report, 1).steps_per_dispatch == 13  # 20.6 MB a step
    assert limit_steps(report, 7).steps_per_dispatch == 1
    assert limit_steps(replace(report, steps_per_dispatch=4), 1).steps_per_dispatch == 4
    assert limit_steps(replace(report, batch_size=48_000), 1).steps_per_dispatch == 1
