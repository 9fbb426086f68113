"""A variant's small arrays laid end to end, so that what descent does to each it does to all of them at once.

For a GPU, which takes longer to begin a kernel than to go through most of these arrays: on an H200 descent's were 1,090
of a fleet's 8,004 kernels, and took 3.8 of 38.3 ms, where reading and writing all that it moves takes 0.3. Matrix
products read their kernels where they lie, and all that are packed become bfloat16 at once.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from asdjax.fleet.fleet_model import FleetState
from asdjax.models.variants import Arrays

SMALL = 2**16
"""Elements of the largest array that is packed."""

AT_ONCE = 64
"""Arrays in a pack at most: XLA fuses no more than some ninety operands into one kernel."""

Pack = tuple[tuple[str, tuple[int, ...], int], ...]
"""Arrays that lie in one, in order: path and shape of each, and where it begins."""

Packs = dict[str, Pack]
"""Of one variant, by a path that ends as theirs do, which is what weight decay goes by."""


def packs_of(arrays: Arrays) -> Packs:
    """What is packed of a variant's arrays (m, ...), m those of a stack."""
    by_word = defaultdict(list)
    for path in sorted(arrays):
        if math.prod(arrays[path].shape[1:]) <= SMALL:
            by_word[path.rsplit("/", 1)[-1]].append((path, arrays[path].shape[1:]))
    return {
        f"packed/{i}/{word}": _pack(found[i : i + AT_ONCE])
        for word, found in by_word.items()
        for i in range(0, len(found), AT_ONCE)
    }


def _pack(arrays: list[tuple[str, tuple[int, ...]]]) -> Pack:
    begin, places = 0, []
    for path, shape in arrays:
        places.append((path, shape, begin))
        begin += math.prod(shape)
    return tuple(places)


def packed(packs: Packs, arrays: Arrays) -> Arrays:
    """The arrays of a pack as one, the others as they are; a stack's axis stays."""
    made = dict(arrays)
    for name, pack in packs.items():
        leaves = ((made.pop(path), shape) for path, shape, _ in pack)
        flat = [leaf.reshape(*leaf.shape[: leaf.ndim - len(shape)], math.prod(shape)) for leaf, shape in leaves]
        made[name] = jnp.concatenate(flat, axis=-1)
    return made


def unpacked(packs: Packs, arrays: Arrays) -> Arrays:
    """Each by its own path again."""
    made = dict(arrays)
    for name, pack in packs.items():
        whole = made.pop(name)
        for path, shape, begin in pack:
            part = jax.lax.slice_in_dim(whole, begin, begin + math.prod(shape), axis=-1)
            made[path] = part.reshape(*whole.shape[:-1], *shape)
    return made


def repacked(form: Callable[[Packs, Arrays], Arrays], packs: dict[str, Packs], state: FleetState) -> FleetState:
    """What a state's descent moves, parameters and velocity, as `packed` or `unpacked` has it."""

    def of_variants(arrays: dict[str, Any]) -> dict[str, Any]:
        return {v: jax.tree.map(functools.partial(form, packs[v]), of, is_leaf=_is_arrays) for v, of in arrays.items()}

    return state._replace(trainable=of_variants(state.trainable), velocity=of_variants(state.velocity))


def _is_arrays(node: Any) -> bool:
    return isinstance(node, dict)
