"""A variant's small arrays laid end to end, so that one kernel updates many of them. Skip it on a first reading.

A GPU takes longer to start a kernel than to update most of these arrays. On other platforms layouts are empty and
nothing is flattened. Measurements: tests/perf/README.md.

Letters: m runs in one program.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from asdjax.models.variants import Arrays
from asdjax.training.state import TrainState

#: Elements of the largest array that is flattened.
MOST_ELEMENTS = 2**16
#: Arrays in a flat one, at most: XLA fuses at most about ninety operands into one kernel.
MOST_ARRAYS = 64


class Slot(NamedTuple):
    """The place of an array in a flat one: its path, its shape, and the first of its elements."""

    path: str
    shape: tuple[int, ...]
    first: int


#: Flat arrays by path; a path ends as those of its arrays do, which decides weight decay.
FlatLayout = Mapping[str, tuple[Slot, ...]]


def make_layout(arrays: Arrays, platform: str) -> FlatLayout:
    """Return the layout of a variant's arrays (m, ...); it is empty except on a GPU."""
    if platform != "gpu":
        return {}
    by_word = defaultdict(list)
    for path in sorted(arrays):
        if math.prod(arrays[path].shape[1:]) <= MOST_ELEMENTS:
            by_word[path.rsplit("/", 1)[-1]].append((path, arrays[path].shape[1:]))
    return {
        f"flat/{i}/{word}": _make_slots(found[i : i + MOST_ARRAYS])
        for word, found in by_word.items()
        for i in range(0, len(found), MOST_ARRAYS)
    }


def _make_slots(arrays: list[tuple[str, tuple[int, ...]]]) -> tuple[Slot, ...]:
    first, slots = 0, []
    for path, shape in arrays:
        slots.append(Slot(path, shape, first))
        first += math.prod(shape)
    return tuple(slots)


def flatten(layout: FlatLayout, arrays: Arrays) -> Arrays:
    """Return the arrays with those of each layout entry as one; a leading axis stays."""
    flattened = dict(arrays)
    for name, slots in layout.items():
        leaves = ((flattened.pop(slot.path), slot.shape) for slot in slots)
        flat = [leaf.reshape(*leaf.shape[: leaf.ndim - len(shape)], math.prod(shape)) for leaf, shape in leaves]
        flattened[name] = jnp.concatenate(flat, axis=-1)
    return flattened


def unflatten(layout: FlatLayout, arrays: Arrays) -> Arrays:
    """Return the arrays by their own paths again."""
    unflattened = dict(arrays)
    for name, slots in layout.items():
        flat = unflattened.pop(name)
        for path, shape, first in slots:
            part = jax.lax.slice_in_dim(flat, first, first + math.prod(shape), axis=-1)
            unflattened[path] = part.reshape(*flat.shape[:-1], *shape)
    return unflattened


def flatten_state(layouts: Mapping[str, FlatLayout], state: TrainState) -> TrainState:
    """Return a state with its trainable parameters, their average and velocity flattened."""
    return _convert(flatten, layouts, state)


def unflatten_state(layouts: Mapping[str, FlatLayout], state: TrainState) -> TrainState:
    """Return a state with its trainable parameters, their average and velocity by their own paths again."""
    return _convert(unflatten, layouts, state)


def _convert(
    convert: Callable[[FlatLayout, Arrays], Arrays], layouts: Mapping[str, FlatLayout], state: TrainState
) -> TrainState:
    def convert_all(arrays: dict[str, Any]) -> dict[str, Any]:
        is_arrays = lambda node: isinstance(node, dict)  # noqa: E731
        return {v: jax.tree.map(partial(convert, layouts[v]), of_v, is_leaf=is_arrays) for v, of_v in arrays.items()}

    average = state.average._replace(parameters=convert_all(state.average.parameters))
    return state._replace(trainable=convert_all(state.trainable), velocity=convert_all(state.velocity), average=average)
