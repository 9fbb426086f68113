"""What is drawn: by whom, from where, how often; and that nothing else has a say in it."""

import functools
import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from asdjax.training import sampler
from asdjax.training.sampler import SamplingTable

PIECE_FRAMES = 32
STEPS = 300


@jax.jit
def draws(key: jax.Array, steps: jax.Array, plan: SamplingTable, max_weight: float) -> sampler.Batch:
    """Of many steps at once: fields (step, b)."""
    draw = functools.partial(sampler.draw_batch, batch=16, piece_frames=PIECE_FRAMES, max_weight=max_weight)
    return jax.vmap(lambda step: draw(key, step, plan))(steps)


# five classes of four sections: clips of the source and of the target
SOURCE = (5, 2, 0, 9, 1)
TARGET = (2, 0, 3, 0, 1)
SECTION = (0, 0, 1, 2, 3)
CLIPS = [(k, i >= SOURCE[k]) for k in range(5) for i in range(SOURCE[k] + TARGET[k])]
CLASS_OF_CLIP, IS_TARGET = np.random.default_rng(0).permutation(CLIPS).T
IS_TARGET = IS_TARGET.astype(bool)
FRAMES = np.random.default_rng(1).integers(PIECE_FRAMES, 40, len(CLIPS))


def phase1() -> SamplingTable:
    return sampler.make_table(CLASS_OF_CLIP.tolist(), IS_TARGET.tolist(), FRAMES.tolist(), SECTION)


def phase2() -> SamplingTable:
    return sampler.make_target_table(phase1(), [0, 1, 3])


def drawn(plan: SamplingTable, seed: int = 0) -> Any:
    """The Draw of STEPS steps, on the host: fields (step, b)."""
    key = sampler.make_key(seed, "fan", "resnet50_512", "phase1")
    return jax.device_get(draws(key, jnp.arange(STEPS), plan, 0.5))


def assert_uniform(values: np.ndarray, among: list[int]) -> None:
    assert set(np.unique(values)) == set(among)
    assert len(among) == 1 or stats.chisquare([np.sum(values == value) for value in among]).pvalue > 0.001


BOTH_PHASES = pytest.mark.parametrize("plan_of", [phase1, phase2])


def test_a_step_s_draw_does_not_depend_on_the_steps_before_it() -> None:
    key, plan = sampler.make_key(0, "fan", "resnet50_512", "phase1"), phase1()
    forwards, backwards = draws(key, jnp.arange(STEPS), plan, 0.5), draws(key, jnp.arange(STEPS)[::-1], plan, 0.5)
    for ahead, back in zip(forwards, backwards, strict=True):
        np.testing.assert_array_equal(ahead, back[::-1])


def test_a_variant_s_stream_does_not_depend_on_the_variants_beside_it() -> None:
    among = sampler.make_keys(3, "fan", ("a", "b", "c"), "phase1")
    alone = sampler.make_keys(3, "fan", ("b",), "phase1")
    np.testing.assert_array_equal(jax.random.key_data(among[1]), jax.random.key_data(alone[0]))


def test_seed_task_variant_phase_and_step_each_give_other_draws() -> None:
    names = [(0, "fan", "a", "phase1"), (1, "fan", "a", "phase1"), (0, "pump", "a", "phase1")]
    names += [(0, "fan", "b", "phase1"), (0, "fan", "a", "phase2_full"), (0, "a", "fan", "phase1")]
    weights = [draws(sampler.make_key(*name), jnp.arange(STEPS), phase1(), 0.5).weight for name in names]
    different = {row.tobytes() for row in np.asarray(weights).reshape(-1, 16)}
    assert len(different) == STEPS * len(names)


@BOTH_PHASES
def test_classes_are_those_of_the_clips_and_a_partner_is_of_another(plan_of: Callable[[], SamplingTable]) -> None:
    draw = drawn(plan_of())
    np.testing.assert_array_equal(CLASS_OF_CLIP[draw.clip_a], draw.class_a)
    np.testing.assert_array_equal(CLASS_OF_CLIP[draw.clip_b], draw.class_b)
    assert np.all(draw.class_a != draw.class_b)


@BOTH_PHASES
def test_a_piece_lies_within_both_clips_and_anywhere_in_them(plan_of: Callable[[], SamplingTable]) -> None:
    draw = drawn(plan_of())
    room = np.minimum(FRAMES[draw.clip_a], FRAMES[draw.clip_b]) - PIECE_FRAMES
    assert np.all((draw.frame >= 0) & (draw.frame <= room))
    for last in np.unique(room):
        assert_uniform(draw.frame[room == last], list(range(last + 1)))


def test_weights_are_uniform_from_zero_to_below_a_half() -> None:
    weight = drawn(phase1()).weight.ravel()
    assert weight.min() >= 0
    assert weight.max() < 0.5
    assert stats.kstest(weight, stats.uniform(0, 0.5).cdf).pvalue > 0.001


def test_without_mixup_all_weights_are_zero() -> None:
    np.testing.assert_array_equal(draws(jax.random.key(0), jnp.arange(STEPS), phase1(), 0.0).weight, 0.0)


def test_phase_1_draws_source_clips_of_the_classes_that_have_some_each_class_as_often() -> None:
    draw = drawn(phase1())
    assert not np.any(IS_TARGET[draw.clip_a] | IS_TARGET[draw.clip_b])
    assert_uniform(draw.class_a, [0, 1, 3, 4])
    assert_uniform(draw.class_b, [0, 1, 3, 4])
    for clip, klass in ((draw.clip_a, draw.class_a), (draw.clip_b, draw.class_b)):
        for k in (0, 1, 3, 4):
            assert_uniform(clip[klass == k], np.flatnonzero((k == CLASS_OF_CLIP) & ~IS_TARGET).tolist())


def test_every_other_class_is_a_partner_as_often() -> None:
    draw = drawn(phase1())
    pairs = list(itertools.permutations([0, 1, 3, 4], 2))
    numbered = np.array([pairs.index(pair) for pair in zip(draw.class_a.ravel(), draw.class_b.ravel(), strict=True)])
    assert_uniform(numbered, list(range(len(pairs))))


def test_phase_2_draws_one_section_a_step_from_its_target_clips_and_all_others_from_source() -> None:
    draw = drawn(phase2())
    clips = np.concatenate([draw.clip_a, draw.clip_b], axis=1)
    sections = np.asarray(SECTION)[CLASS_OF_CLIP[clips]]
    of_steps = [set(row[from_target]) for row, from_target in zip(sections, IS_TARGET[clips], strict=True)]
    assert all(len(of_step) == 1 for of_step in of_steps)
    section = np.array([next(iter(of_step)) for of_step in of_steps])
    np.testing.assert_array_equal(IS_TARGET[clips], sections == section[:, None])
    assert_uniform(section, [0, 1, 3])
    assert set(np.unique(clips)) == set(range(len(CLIPS)))


def test_both_phases_are_arguments_of_one_shape_for_one_compiled_step() -> None:
    assert jax.eval_shape(lambda plan: plan, phase1()) == jax.eval_shape(lambda plan: plan, phase2())
