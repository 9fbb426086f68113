"""Audio on the device or on the host: the same batches, the host one dispatch ahead."""

import threading
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asdjax import parallel, signal
from asdjax.config import default
from asdjax.training import feed, fleet, optimizer, sampler
from asdjax.training.feed import DeviceFeed, HostFeed, is_resident, steps_at_once
from asdjax.training.fleet import FleetSpec

LENGTHS = (16_000, 20_001, 15_872, 40_000, 17_918, 30_000)
STEPS = 7


def recordings() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(-32768, 32768, length, dtype=np.int16) for length in LENGTHS]


def spec(steps_per_dispatch: int = 3) -> FleetSpec:
    config = default()
    config.variants = ("resnet50_512", "mobilefacenet_1024")
    config.train.batch_size = 8
    config.train.steps_per_dispatch = steps_per_dispatch
    return fleet.spec_of(config, 3, optimizer.GROUPS)


def plan_of(samples: Sequence[np.ndarray], of: FleetSpec) -> sampler.Plan:
    frames = [of.spectrogram.frames(len(clip)) for clip in samples]
    plan = sampler.plan([0, 0, 1, 1, 2, 2], [False, True] * 3, frames, [0, 1, 2])
    return sampler.fine_tuning(plan, [0, 1])


def counts(step: int) -> int:
    return min(3, STEPS - step)


def test_the_host_cuts_what_the_device_gathers():
    samples, of, mesh = recordings(), spec(), parallel.data_mesh()
    plan, keys = plan_of(samples, of), sampler.streams(3, "fan", of.variants, "phase2_full")
    with (
        DeviceFeed(samples, mesh).phase(of, plan, keys, counts) as on_device,
        HostFeed(samples, mesh).phase(of, plan, keys, counts) as on_host,
    ):
        for first in range(0, STEPS, 3):
            waves, crops = on_device(first, counts(first)), on_host(first, counts(first))
            assert isinstance(waves, signal.Waves)
            assert isinstance(crops, signal.Crops)
            assert crops.samples.shape == (3, 2, 2, 8, of.spectrogram.piece_samples)
            for place in range(counts(first)):
                draws = fleet.draw_batches(of, plan, keys, jnp.int32(first + place))
                start = signal.first_sample(draws.frame, of.spectrogram)
                for which, clips in enumerate((draws.clip_a, draws.clip_b)):
                    for v in range(2):
                        wanted = signal.gather(waves, clips[v], start[v], of.spectrogram.piece_samples)
                        np.testing.assert_array_equal(crops.samples[place, v, which], wanted)


def test_pieces_are_the_same_either_way():
    samples, of, mesh = recordings(), spec(1), parallel.data_mesh()
    plan, keys = plan_of(samples, of), sampler.streams(3, "fan", of.variants, "phase1")
    draws = fleet.draw_batches(of, plan, keys, jnp.int32(2))
    made = []
    for kind in (DeviceFeed, HostFeed):
        with kind(samples, mesh).phase(of, plan, keys, lambda step: 0) as take:
            pieces = jax.jit(fleet.make_pieces, static_argnums=0)(of, take(2, 1), draws, 0)
            made.append([np.asarray(of_variant) for of_variant in pieces])
    for on_device, on_host in zip(*made, strict=True):
        np.testing.assert_array_equal(on_host, on_device)


def test_the_next_dispatch_is_cut_while_this_one_runs(monkeypatch: pytest.MonkeyPatch):
    samples, of, mesh = recordings(), spec(), parallel.data_mesh()
    plan, keys = plan_of(samples, of), sampler.streams(0, "fan", of.variants, "phase1")
    cut, begun = HostFeed._cut, {first: threading.Event() for first in range(0, STEPS, 3)}

    def noted(self, *args):
        begun[args[-2]].set()
        return cut(self, *args)

    monkeypatch.setattr(HostFeed, "_cut", noted)
    with HostFeed(samples, mesh).phase(of, plan, keys, counts) as take:
        for first in begun:
            take(first, counts(first))
            following = first + counts(first)
            assert following == STEPS or begun[following].wait(10)


@pytest.mark.parametrize(("share", "expected"), [(2.0, True), (0.5, False)])
def test_audio_goes_to_the_device_where_it_fits(monkeypatch: pytest.MonkeyPatch, share: float, expected: bool):
    samples, config = recordings(), default()
    needed = 2 * (sum(LENGTHS) + len(LENGTHS) * 256)
    monkeypatch.setattr(feed, "_device_bytes", lambda: share * needed / feed.DEVICE_SHARE)
    assert is_resident(config, samples) is expected
    config.data.resident = "device"
    assert is_resident(config, samples)
    config.data.resident = "host"
    assert not is_resident(config, samples)


def test_a_dispatch_of_crops_stays_within_its_bytes():
    report = fleet.spec_of(default(), 6, optimizer.GROUPS)._replace(steps_per_dispatch=50)
    assert steps_at_once(report) == 13  # 20.6 MB a step
    assert steps_at_once(report._replace(steps_per_dispatch=4)) == 4
    assert steps_at_once(report._replace(batch_size=48_000)) == 1
