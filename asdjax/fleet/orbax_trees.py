"""Trees of arrays on disk, by Orbax. No other module imports orbax."""

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore

#: Arrays of a tree, or their shapes, by path.
FlatTree = Mapping[str, Any]

# Orbax numbers its operations by one counter per process. Two saves at once would wait for each other's signals until
# they time out.
_lock = threading.Lock()

logging.getLogger("absl").setLevel(logging.CRITICAL)  # Orbax also raises the errors that its threads log


class _TransactionHandler(ocp.type_handlers.NumpyHandler):
    """Orbax's handler of arrays, which writes those of a tree in one transaction.

    Without it TensorStore commits them in batches, each with files, fsyncs and renames of its own: three times as many
    file operations (tests/perf/README.md). The transaction holds the encoded arrays until it is written.
    """

    async def _background_serialize(
        self, values: Sequence[np.ndarray], infos: Sequence[Any], args: Sequence[Any] | None = None
    ) -> None:
        self._transaction = tensorstore.Transaction(atomic=True)
        await super()._background_serialize(values, infos, args)
        await self._transaction.commit_async()

    async def _open_and_write(self, value: np.ndarray, tspec: dict[str, Any], ts_context: tensorstore.Context) -> None:
        # an array of a new tree is not on the disk yet: each look for it would read the database's manifest
        spec = tensorstore.Spec(tspec | {"recheck_cached_metadata": False, "recheck_cached_data": False})
        array = await tensorstore.open(spec, create=True, open=True, context=ts_context, transaction=self._transaction)
        await array.write(value, can_reference_source_data_indefinitely=True)


def save(folder: Path, trees: Mapping[str, FlatTree]) -> None:
    """Write each tree into a new folder of its name in `folder`.

    A tree without arrays is left out, because Orbax refuses it. Raises ValueError, from TensorStore, if the disk is
    full.
    """
    for name, tree in trees.items():
        if not tree:
            continue
        handlers = ocp.type_handlers.create_type_handler_registry((np.ndarray, _TransactionHandler()))
        alone = _act_alone()
        handler = ocp.PyTreeCheckpointHandler(
            use_ocdbt=True, type_handler_registry=handlers, multiprocessing_options=alone
        )
        with _lock, ocp.Checkpointer(handler, multiprocessing_options=alone) as checkpointer:
            checkpointer.save(folder / name, {path: np.asarray(array) for path, array in tree.items()})


def restore(folder: Path, shapes: Mapping[str, FlatTree]) -> dict[str, dict[str, np.ndarray]]:
    """Read the trees named in `shapes` from their folders in `folder` to the host."""
    with _lock, ocp.StandardCheckpointer(multiprocessing_options=_act_alone()) as checkpointer:
        return {
            name: checkpointer.restore(folder / name, jax.tree.map(_host_array, tree)) if tree else {}
            for name, tree in shapes.items()
        }


def _act_alone() -> ocp.options.MultiprocessingOptions:
    """Return options by which Orbax waits for no other process of a program: arrays are whole in each of them."""
    own = jax.process_index()
    return ocp.options.MultiprocessingOptions(primary_host=own, active_processes={own})


def _host_array(leaf: Any) -> np.ndarray:
    """Return an array that has Orbax restore to the host.

    Restoring to devices is slower, and needs as many devices as saved the array.
    """
    return np.empty(leaf.shape, leaf.dtype)
