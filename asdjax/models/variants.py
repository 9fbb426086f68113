"""The six variants by name: three backbones, each on pieces of two heights."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from asdjax.models import layers
from asdjax.models.efficientnet import EfficientNetB0
from asdjax.models.mobilefacenet import MobileFaceNet
from asdjax.models.resnet import ResNet50

BACKBONES: dict[str, Callable[..., nnx.Module]] = {
    "mobilefacenet": MobileFaceNet,
    "resnet50": ResNet50,
    "efficientnet_b0": EfficientNetB0,
}
HEIGHTS = (1024, 512)
#: The first word of every parameter's path. `late` begins at the backbone's last residual sum, `embedding` is its
#: embedding layer, `arcface` the class centres.
PARAMETER_GROUPS = ("early", "late", "embedding", "arcface")
VARIANTS = tuple(f"{backbone}_{height}" for backbone in BACKBONES for height in HEIGHTS)
Arrays = dict[str, Any]
"""Arrays (or their shapes) by path, such as "early/layers/0/conv/kernel"; freezing goes by the first word."""


class Backbone(NamedTuple):
    """A backbone taken apart: how to put it together, its parameters, its batch statistics."""

    graph: nnx.GraphDef
    parameters: Arrays
    statistics: Arrays


class RunningAverages(NamedTuple):
    """How a backbone's running averages are kept.

    `frozen` names groups ("early", "late", "embedding") that normalise with theirs, and so leave them as they are, also
    while the rest trains; `variance` is `config.normalisation.running_variance`.
    """

    frozen: tuple[str, ...] = ()
    variance: str = "biased"


ALL_MOVE = RunningAverages()


def piece_height(variant: str) -> int:
    """Rows of the pieces that a variant looks at: 1024 or 512."""
    return int(variant.rsplit("_", 1)[1])


def declare(
    variant: str,
    *,
    frames: int,
    c_in: int = 1,
    width: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    running: RunningAverages = ALL_MOVE,
) -> Backbone:
    """Return a backbone whose arrays are shapes only; `initialise.fill` makes them real."""
    backbone, _ = variant.rsplit("_", 1)

    model = BACKBONES[backbone](piece_height(variant), frames, c_in, width=width, dtype=dtype)
    for group in running.frozen:
        getattr(model, group).eval()
    model.set_attributes(layers.BatchNorm, unbiased=running.variance == "unbiased")
    graph, *of_kinds = nnx.split(model, nnx.Param, nnx.BatchStat)
    return Backbone(graph, *(jax.tree.map(_shape, _flat(arrays)) for arrays in of_kinds))


def forward(backbone: Backbone, pieces: jax.Array) -> tuple[jax.Array, Arrays]:
    """Embeddings (b, 128) float32 of pieces (b, f, t, c), with batch statistics, and the statistics after it."""
    model = _assembled(backbone)
    embeddings = model(pieces)
    return embeddings.astype(jnp.float32), _flat(nnx.state(model, nnx.BatchStat))


def embed(backbone: Backbone, pieces: jax.Array) -> jax.Array:
    """Embeddings (b, 128) float32 of pieces (b, f, t, c), normalised with the running averages."""
    model = _assembled(backbone)
    model.eval()
    return model(pieces).astype(jnp.float32)


def _shape(array: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _assembled(backbone: Backbone) -> nnx.Module:
    arrays = {**backbone.parameters, **backbone.statistics}
    return nnx.merge(backbone.graph, _nested(arrays))


def _flat(state: nnx.State) -> Arrays:
    return {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def _nested(arrays: Arrays) -> dict:
    tree: dict = {}
    for path, array in arrays.items():
        *parents, leaf = (int(word) if word.isdigit() else word for word in path.split("/"))
        branch = tree
        for word in parents:
            branch = branch.setdefault(word, {})
        branch[leaf] = array
    return tree
