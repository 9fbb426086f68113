"""The models of a fleet: what they depend on, their arrays, and how both are made.

Training and scoring share this file. It knows nothing of optimizers, batches or phases.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.export import register_namedtuple_serialization

from asdjax import features
from asdjax.config.fields import Config
from asdjax.models import heads, initialise, variants
from asdjax.models.heads import HeadSpec
from asdjax.models.layers import EMBEDDING
from asdjax.models.variants import Arrays
from asdjax.runtime import hardware

CENTRES = "arcface/weights"
SCALE = "arcface/scale"
#: Arrays that embeddings do not need. AdaCos keeps its centres and scale under the same paths.
HEAD_PATHS = (CENTRES, SCALE)


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Settings that decide what a fleet's models compute. Hashable: equal specs share compiled programs."""

    variants: tuple[str, ...]
    width: float
    running_variance: str
    spectrogram: features.Spectrogram
    head: HeadSpec
    precision: str


def choose_precision(config: Config) -> str:
    """Return the dtype that networks compute in: the configured one, or for `auto` the device's usual one."""
    if config.train.precision == "auto":
        return "bfloat16" if hardware.on_accelerator() else "float32"
    return config.train.precision


def make_spec(config: Config, classes: int) -> ModelSpec:
    """Return the spec of a fleet with a number of classes."""
    margin = config.arcface
    return ModelSpec(
        variants=tuple(config.variants),
        width=config.width,
        running_variance=config.normalisation.running_variance,
        spectrogram=features.make_spectrogram(config),
        head=HeadSpec(config.loss, classes, margin.subcentres, margin.margin_radians, margin.scale),
        precision=choose_precision(config),
    )


@functools.partial(register_namedtuple_serialization, serialized_name="asdjax.Model")
class Model(NamedTuple):
    """Learned arrays by variant, then by path.

    `parameters` include the class centres, `arcface/weights`; `statistics` include the scale of a head that adapts it,
    `arcface/scale`.
    """

    parameters: dict[str, Arrays]
    statistics: dict[str, Arrays]

    def only(self, variants: Sequence[str]) -> "Model":
        """Return the model with some of its variants."""
        return Model(*({variant: arrays[variant] for variant in variants} for arrays in self))


def init_model(spec: ModelSpec, seed: int, task: str) -> Model:
    """Return untrained arrays of every variant: a function of (seed, task, variant, path) alone."""
    shapes = describe_model(spec)
    model = Model(*({v: initialise.fill(arrays[v], seed, task, v) for v in spec.variants} for arrays in shapes))
    for statistics in model.statistics.values():
        if SCALE in statistics:
            statistics[SCALE] = jnp.float32(heads.make_head(spec.head).first_scale)
    return model


def describe_model(spec: ModelSpec) -> Model:
    """Return a model's shapes and dtypes."""
    centres = {CENTRES: jax.ShapeDtypeStruct((spec.head.centres, EMBEDDING), jnp.float32)}
    scale = {SCALE: jax.ShapeDtypeStruct((), jnp.float32)} if heads.make_head(spec.head).rescale else {}
    backbones = {variant: declare(spec, variant) for variant in spec.variants}
    return Model(
        {variant: backbone.parameters | centres for variant, backbone in backbones.items()},
        {variant: backbone.statistics | scale for variant, backbone in backbones.items()},
    )


@functools.cache
def declare(spec: ModelSpec, variant: str, frozen: tuple[str, ...] = ()) -> variants.Backbone:
    """Return a variant's backbone with shapes for arrays.

    Parameter groups in `frozen` normalise with their running averages, also in training, and keep them.
    """
    return variants.declare(
        variant,
        frames=spec.spectrogram.piece_frames,
        c_in=spec.spectrogram.channels(variants.piece_height(variant)),
        width=spec.width,
        dtype=jnp.dtype(spec.precision),
        running=variants.RunningAverages(frozen, spec.running_variance),
    )


def make_backbone(spec: ModelSpec, model: Model, variant: str, frozen: tuple[str, ...] = ()) -> variants.Backbone:
    """Return a variant's backbone with its learned arrays, those of the head left out."""
    parameters, statistics = (
        {path: leaf for path, leaf in arrays[variant].items() if path not in HEAD_PATHS} for arrays in model
    )
    return variants.Backbone(declare(spec, variant, frozen).graph, parameters, statistics)


def get_scale(spec: ModelSpec, statistics: Arrays) -> jax.Array:
    """Return the scale () of a variant's head."""
    return statistics.get(SCALE, jnp.float32(heads.make_head(spec.head).first_scale))
