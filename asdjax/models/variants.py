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

#: Constructors by name: (height, frames, c_in, *, width, dtype) -> module.
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
#: Arrays, or their shapes, by path, such as "early/layers/0/conv/kernel". The first word is the group to freeze.
Arrays = dict[str, Any]


class Backbone(NamedTuple):
    """Backbone split into its module graph, its parameters and its batch statistics."""

    graph: nnx.GraphDef
    parameters: Arrays
    statistics: Arrays


class RunningAverages(NamedTuple):
    """Rules for the running averages of a backbone's batch normalisations.

    The groups named in `frozen` ("early", "late", "embedding") normalise with their running averages, and so leave them
    unchanged while the rest trains. `variance` is `config.normalisation.running_variance`.
    """

    frozen: tuple[str, ...] = ()
    variance: str = "biased"


UPDATE_ALL = RunningAverages()


def piece_height(variant: str) -> int:
    """Return the rows of a variant's pieces, 1024 or 512."""
    return int(variant.rsplit("_", 1)[1])


def declare(
    variant: str,
    *,
    frames: int,
    c_in: int = 1,
    width: float = 1.0,
    dtype: DTypeLike = jnp.float32,
    running: RunningAverages = UPDATE_ALL,
) -> Backbone:
    """Return a backbone whose arrays are shapes only; `initialise.fill` gives them values."""
    backbone, _ = variant.rsplit("_", 1)
    model = BACKBONES[backbone](piece_height(variant), frames, c_in, width=width, dtype=dtype)
    for group in running.frozen:
        getattr(model, group).eval()
    model.set_attributes(layers.BatchNorm, unbiased=running.variance == "unbiased")
    graph, *states = nnx.split(model, nnx.Param, nnx.BatchStat)
    return Backbone(graph, *(jax.tree.map(_shape, _flatten(state)) for state in states))


def forward(backbone: Backbone, pieces: jax.Array) -> tuple[jax.Array, Arrays]:
    """Embed pieces by batch statistics, (b, f, t, c) -> (b, 128) float32; also return the updated statistics."""
    model = _assemble(backbone)
    embeddings = model(pieces)
    return embeddings.astype(jnp.float32), _flatten(nnx.state(model, nnx.BatchStat))


def embed(backbone: Backbone, pieces: jax.Array) -> jax.Array:
    """Embed pieces by running averages, (b, f, t, c) -> (b, 128) float32."""
    model = _assemble(backbone)
    model.eval()
    return model(pieces).astype(jnp.float32)


def _shape(array: np.ndarray) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype)


def _assemble(backbone: Backbone) -> nnx.Module:
    arrays = {**backbone.parameters, **backbone.statistics}
    return nnx.merge(backbone.graph, _nest(arrays))


def _flatten(state: nnx.State) -> Arrays:
    return {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(state)}


def _nest(arrays: Arrays) -> dict:
    tree: dict = {}
    for path, array in arrays.items():
        *parents, leaf = (int(word) if word.isdigit() else word for word in path.split("/"))
        branch = tree
        for word in parents:
            branch = branch.setdefault(word, {})
        branch[leaf] = array
    return tree
