"""What each step looks at: a pure function of (seed, names, step), with no carried state.

A draw depends on nothing else: not on what ran before, not on the number of devices, not on which other
variants train. Phase 1 and phase 2 differ in data only (`Plan.targets`), so one compiled step serves both.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

SOURCE, TARGET = 0, 1


class SamplingTable(NamedTuple):
    """What may be drawn, as arrays, so that it is an argument of the compiled step. k classes, n clips.

    order: (n,) int32, clips sorted by class and domain; first, sizes: (k, 2) int32, where a class's source and
    target clips lie in `order` and how many they are; section: (k,) int32, the section (of a machine type) that
    a class belongs to; frames: (n,) int32, STFT frames of a clip; targets: (m,) int32, the sections that phase
    2 draws from; in phase 1 none, marked by -1 throughout.
    """

    order: jax.Array
    first: jax.Array
    sizes: jax.Array
    section: jax.Array
    frames: jax.Array
    targets: jax.Array


class Batch(NamedTuple):
    """One batch: all (b,). x = (1 - weight) * clip_a + weight * clip_b, both from frame `frame` on."""

    clip_a: jax.Array
    clip_b: jax.Array
    class_a: jax.Array
    class_b: jax.Array
    weight: jax.Array
    frame: jax.Array


def make_table(
    class_of_clip: Sequence[int],
    is_target: Sequence[bool],
    frames: Sequence[int],
    section_of_class: Sequence[int],
) -> SamplingTable:
    """The plan of phase 1 for n clips given by class, domain and STFT frames, and k classes by section."""
    k = len(section_of_class)
    cell = np.asarray(class_of_clip) * 2 + np.asarray(is_target, int)
    order = np.argsort(cell, kind="stable")
    sizes = np.bincount(cell, minlength=2 * k).reshape(k, 2)
    first = (np.cumsum(sizes.ravel()) - sizes.ravel()).reshape(k, 2)
    arrays = [order, first, sizes, section_of_class, frames, np.full(max(section_of_class) + 1, -1)]
    return SamplingTable(*(jnp.asarray(a, jnp.int32) for a in arrays))


def make_target_table(phase1: SamplingTable, sections: Sequence[int]) -> SamplingTable:
    """The plan of phase 2, which draws target clips of these sections.

    `targets` keeps its length, so that the step compiled for phase 1 serves as it is.
    """
    targets = np.full(len(phase1.targets), -1)
    targets[: len(sections)] = sections
    return phase1._replace(targets=jnp.asarray(targets, jnp.int32))


def stack_tables(plans: Sequence[SamplingTable], task_clips: int = 0, stack_clips: int = 0) -> SamplingTable:
    """Plans of as many classes each as one of leading axis (m,), over the clips of all, the first plan's first.

    The arrays have room for so many clips of a task and of the stack, at least; what is beyond the real ones is never
    drawn.
    """
    numbers = [len(table.frames) for table in plans]
    offsets = np.cumsum(numbers) - numbers
    length = max(*numbers, task_clips)
    frames = np.concatenate([table.frames for table in plans])
    frames = np.pad(frames, (0, max(len(frames), stack_clips) - len(frames)))
    padded = [
        table._replace(order=np.pad(table.order + offset, (0, length - number)), frames=frames)
        for table, offset, number in zip(plans, offsets, numbers, strict=True)
    ]
    return SamplingTable(*(jnp.asarray(np.stack(field), jnp.int32) for field in zip(*padded, strict=True)))


def make_key(seed: int, *names: str) -> jax.Array:
    """A random key of its own for every (seed, names): names are hashed, never counted."""
    key = jax.random.key(seed)
    for name in names:
        word = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
        key = jax.random.fold_in(key, word)
    return key


def make_keys(seed: int, task: str, variants: Sequence[str], phase: str) -> jax.Array:
    """Each variant's own key (v,), named by task, variant and phase."""
    return jnp.stack([make_key(seed, task, variant, phase) for variant in variants])


def draw_batch(
    key: jax.Array, step: jax.Array, table: SamplingTable, *, batch: int, piece_frames: int, max_weight: float
) -> Batch:
    """The batch of one variant's step.

    A class is drawn uniformly, then one of its clips; the partner is a clip of another class, likewise. In
    phase 2 one section is drawn for the step: its classes give target clips, all others source clips.
    """
    # one call, not one a field: each is a program of its own, and six of them took XLA ten seconds to compile
    u = jax.random.uniform(jax.random.fold_in(key, step), (7, batch))
    section = _target_section(u[0, 0], table.targets)
    class_a, class_b = _two_classes(u[1], u[2], _drawable(table, section))
    clip_a = _clip(u[3], table, class_a, section)
    clip_b = _clip(u[4], table, class_b, section)
    last = jnp.minimum(table.frames[clip_a], table.frames[clip_b]) - piece_frames
    return Batch(clip_a, clip_b, class_a, class_b, weight=max_weight * u[5], frame=_below(last + 1, u[6]))


def _below(number: jax.Array, u: jax.Array) -> jax.Array:
    """Whole numbers from 0 to number - 1, uniform but for u's 2**-23: u in [0, 1)."""
    return jnp.minimum((u * number).astype(jnp.int32), number - 1)


def _target_section(u: jax.Array, targets: jax.Array) -> jax.Array:
    """One of the sections marked (those not -1, which stand first), or -1 in phase 1."""
    return targets[_below(jnp.maximum(jnp.sum(targets >= 0), 1), u)]


def _domain(table: SamplingTable, klass: jax.Array, section: jax.Array) -> jax.Array:
    return jnp.where(table.section[klass] == section, TARGET, SOURCE)


def _drawable(table: SamplingTable, section: jax.Array) -> jax.Array:
    """Which classes have clips of the domain they are drawn from, () -> (k,) bool."""
    classes = jnp.arange(len(table.section))
    return table.sizes[classes, _domain(table, classes, section)] > 0


def _two_classes(u_a: jax.Array, u_b: jax.Array, drawable: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two different drawable classes for each row, uniformly: (b,), (b,), (k,) bool -> (b,), (b,)."""
    number = jnp.sum(drawable)
    listed = jnp.argsort(~drawable, stable=True)
    a, b = _below(number, u_a), _below(number - 1, u_b)
    return listed[a], listed[jnp.where(b >= a, b + 1, b)]


def _clip(u: jax.Array, table: SamplingTable, klass: jax.Array, section: jax.Array) -> jax.Array:
    domain = _domain(table, klass, section)
    return table.order[table.first[klass, domain] + _below(table.sizes[klass, domain], u)]
