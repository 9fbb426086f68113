"""StopVotes: the processes of one program agree after every dispatch whether to stop or to save.

Skip it on a first reading. A process without others does what it wants at once.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from asdjax.runtime import processes
from asdjax.runtime.hardware import DATA_AXIS


class Wishes(NamedTuple):
    """The wishes of a process after a dispatch: to stop after a signal, and to save, as a save is due by the clock."""

    stop: bool
    save: bool


class StopVotes:
    """Votes after each dispatch: all processes know one dispatch later what any of them wished.

    A vote is an all-reduce that the devices run behind the dispatch, so that nothing waits for it.
    """

    def __init__(self, mesh: Mesh) -> None:
        self._split = NamedSharding(mesh, PartitionSpec(DATA_AXIS))
        self._rows = sum(device.process_index == jax.process_index() for device in mesh.devices.flat)
        self._size = mesh.size
        self._count = processes.compile_together(jax.jit(_count, out_shardings=NamedSharding(mesh, PartitionSpec())))
        self._before: jax.Array | None = None
        self._wished_save = False

    def cast(self, own: Wishes, behind: jax.Array) -> Wishes:
        """Vote, and return what any process wished one dispatch ago; `behind` is an array that a dispatch returned."""
        if processes.count() == 1:
            return own
        # the clock is reset one dispatch later, when the save begins
        self._wished_save = own.save and not self._wished_save
        own = own._replace(save=self._wished_save)
        rows = np.full((self._rows, len(own)), own, np.int32)
        votes = jax.make_array_from_process_local_data(self._split, rows, (self._size, len(own)))
        before, self._before = self._before, self._count(votes, behind)
        return Wishes(False, False) if before is None else Wishes(*np.asarray(before).astype(bool).tolist())


def _count(votes: jax.Array, behind: jax.Array) -> jax.Array:
    """Return the largest of the votes (devices, w) of each kind, (w,), after `behind` is computed."""
    votes, _ = jax.lax.optimization_barrier((votes, behind))
    return jnp.max(votes, axis=0)
