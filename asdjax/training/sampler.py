"""The sampler: every step's batch as a pure function of (seed, names, step), with no carried state.

A batch does not depend on earlier steps, on the number of devices, or on the other variants. Both phases use the same
sampling, and differ only in `SamplingTable.targets`. A strategy that trains all parameters (`full`) therefore reuses
the program of phase 1.

Letters: b batch, n clips, k classes, v variants, m runs in one program.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.runtime.random_keys import make_key

SOURCE, TARGET = 0, 1


class SamplingTable(NamedTuple):
    """All training clips of a task by class and domain, as arrays, so that they are an argument of the compiled step.

    order: (n,) int32, clips sorted by class and domain. first, sizes: (k, 2) int32, position in `order` and number of
    the source and target clips of a class. section: (k,) int32, the section (of a machine type) of a class. frames:
    (n,) int32, STFT frames of a clip. targets: int32, one entry per section, the sections that phase 2 draws from,
    then -1; all -1 in phase 1.
    """

    order: jax.Array
    first: jax.Array
    sizes: jax.Array
    section: jax.Array
    frames: jax.Array
    targets: jax.Array


class Batch(NamedTuple):
    """One batch, all (b,): x = (1 - weight) * clip_a + weight * clip_b, both from frame `frame` on."""

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
    """Return the table of phase 1 for n clips by class, domain and STFT frames, and k classes by section."""
    k = len(section_of_class)
    cell = np.asarray(class_of_clip) * 2 + np.asarray(is_target, int)
    order = np.argsort(cell, kind="stable")
    sizes = np.bincount(cell, minlength=2 * k).reshape(k, 2)
    first = (np.cumsum(sizes.ravel()) - sizes.ravel()).reshape(k, 2)
    arrays = [order, first, sizes, section_of_class, frames, np.full(max(section_of_class) + 1, -1)]
    return SamplingTable(*(jnp.asarray(array, jnp.int32) for array in arrays))


def make_target_table(phase1: SamplingTable, sections: Sequence[int]) -> SamplingTable:
    """Return the table of phase 2, which draws target clips of some sections.

    `targets` keeps its length, so that the program compiled for phase 1 can serve phase 2.
    """
    targets = np.full(len(phase1.targets), -1)
    targets[: len(sections)] = sections
    return phase1._replace(targets=jnp.asarray(targets, jnp.int32))


def stack_tables(tables: Sequence[SamplingTable], task_clips: int = 0, program_clips: int = 0) -> SamplingTable:
    """Return tables with equal numbers of classes as one with a leading axis (m,), over the clips of all runs.

    The clips of the first table come first. Arrays are padded to `task_clips` and `program_clips` at least; padding is
    never drawn.
    """
    numbers = [len(table.frames) for table in tables]
    offsets = np.cumsum(numbers) - numbers
    length = max(*numbers, task_clips)
    frames = np.concatenate([table.frames for table in tables])
    frames = np.pad(frames, (0, max(len(frames), program_clips) - len(frames)))
    padded = [
        table._replace(order=np.pad(table.order + offset, (0, length - number)), frames=frames)
        for table, offset, number in zip(tables, offsets, numbers, strict=True)
    ]
    return SamplingTable(*(jnp.asarray(np.stack(field), jnp.int32) for field in zip(*padded, strict=True)))


def make_keys(seed: int, task: str, variants: Sequence[str], phase: str) -> jax.Array:
    """Return each variant's own key (v,), named by task, variant and phase."""
    return jnp.stack([make_key(seed, task, variant, phase) for variant in variants])


def draw_batch(
    key: jax.Array, step: jax.Array, table: SamplingTable, *, batch: int, piece_frames: int, max_weight: float
) -> Batch:
    """Return the batch of one variant's step.

    A class is drawn uniformly, then one of its clips. The partner is a clip of another class, drawn likewise. Phase 1
    draws source clips only. In phase 2 one section is drawn for the step: its classes give target clips, all others
    source clips.
    """
    # one call for all fields: separate calls are separate programs, which take longer to compile
    u = jax.random.uniform(jax.random.fold_in(key, step), (7, batch))
    section = _draw_target_section(u[0, 0], table.targets)
    class_a, class_b = _draw_two_classes(u[1], u[2], _drawable(table, section))
    clip_a = _draw_clip(u[3], table, class_a, section)
    clip_b = _draw_clip(u[4], table, class_b, section)
    last = jnp.minimum(table.frames[clip_a], table.frames[clip_b]) - piece_frames
    return Batch(clip_a, clip_b, class_a, class_b, weight=max_weight * u[5], frame=_draw_below(last + 1, u[6]))


def _draw_below(number: jax.Array, u: jax.Array) -> jax.Array:
    """Return integers from 0 to number - 1, uniform up to the 2**-23 resolution of u in [0, 1)."""
    return jnp.minimum((u * number).astype(jnp.int32), number - 1)


def _draw_target_section(u: jax.Array, targets: jax.Array) -> jax.Array:
    """Return one of the target sections (entries other than -1, which come first), or -1 in phase 1."""
    return targets[_draw_below(jnp.maximum(jnp.sum(targets >= 0), 1), u)]


def _domain(table: SamplingTable, class_index: jax.Array, section: jax.Array) -> jax.Array:
    return jnp.where(table.section[class_index] == section, TARGET, SOURCE)


def _drawable(table: SamplingTable, section: jax.Array) -> jax.Array:
    """Return the classes that have clips of the domain to draw from, () -> (k,) bool."""
    classes = jnp.arange(len(table.section))
    return table.sizes[classes, _domain(table, classes, section)] > 0


def _draw_two_classes(u_a: jax.Array, u_b: jax.Array, drawable: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return two different drawable classes for each row, uniformly: (b,), (b,), (k,) bool -> (b,), (b,)."""
    number = jnp.sum(drawable)
    listed = jnp.argsort(~drawable, stable=True)
    a, b = _draw_below(number, u_a), _draw_below(number - 1, u_b)
    return listed[a], listed[jnp.where(b >= a, b + 1, b)]


def _draw_clip(u: jax.Array, table: SamplingTable, class_index: jax.Array, section: jax.Array) -> jax.Array:
    domain = _domain(table, class_index, section)
    return table.order[table.first[class_index, domain] + _draw_below(table.sizes[class_index, domain], u)]
