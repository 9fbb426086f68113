"""A fleet: what it is built to, what it has learned, and the state that its training changes.

batches.py draws what it learns from, objective.py says what it minimises, train_step.py compiles its step. Letters:
m tasks in a stack.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.export import register_namedtuple_serialization

from asdjax import features
from asdjax.config.fields import Config
from asdjax.models import heads, initialise, variants
from asdjax.models.heads import HeadSpec
from asdjax.models.layers import EMBEDDING
from asdjax.models.variants import Arrays
from asdjax.runtime import hardware
from asdjax.training import optimizer
from asdjax.training.optimizer import Sgd

CENTRES = "arcface/weights"
SCALE = "arcface/scale"
OF_HEAD = (CENTRES, SCALE)
"""What no embedding needs. AdaCos's centres and scale are called so too."""


class FleetSpec(NamedTuple):
    """All that the compiled step depends on besides array shapes. Hashable: equal specs share one program."""

    variants: tuple[str, ...]
    width: float
    running_variance: str
    trainable: tuple[str, ...]
    spectrogram: features.Spectrogram
    head: HeadSpec
    max_weight: float
    labels: str
    batch_size: int
    sgd: Sgd
    precision: str
    steps_per_dispatch: int

    @property
    def frozen(self) -> tuple[str, ...]:
        """The groups that do not train."""
        return tuple(group for group in optimizer.GROUPS if group not in self.trainable)

    @property
    def frozen_backbone(self) -> tuple[str, ...]:
        """The groups whose batch statistics stand still too."""
        return tuple(group for group in self.frozen if group != "arcface")


def choose_precision(config: Config) -> str:
    """What networks compute in here: as configured, or the device's usual one."""
    if config.train.precision == "auto":
        return "bfloat16" if hardware.on_accelerator() else "float32"
    return config.train.precision


def make_spec(config: Config, classes: int, trainable: tuple[str, ...]) -> FleetSpec:
    """The spec of a fleet over so many classes that trains these groups."""
    margin = config.arcface
    return FleetSpec(
        variants=tuple(config.variants),
        width=config.width,
        running_variance=config.normalisation.running_variance,
        trainable=trainable,
        spectrogram=features.make_spectrogram(config),
        head=HeadSpec(config.loss, classes, margin.subcentres, margin.margin_radians, margin.scale),
        max_weight=config.mixup.max_weight,
        labels=config.mixup.labels,
        batch_size=config.train.batch_size,
        sgd=Sgd(config.optimizer.momentum, config.optimizer.weight_decay, config.optimizer.clip_norm),
        precision=choose_precision(config),
        steps_per_dispatch=config.train.steps_per_dispatch or (50 if hardware.on_accelerator() else 1),
    )


@functools.partial(register_namedtuple_serialization, serialized_name="asdjax.Model")
class Model(NamedTuple):
    """What is learned: by variant, then by path. Parameters include the class centres, `arcface/weights`; statistics
    the scale of a head that adapts it, `arcface/scale`."""

    parameters: dict[str, Arrays]
    statistics: dict[str, Arrays]

    def only(self, variants: Sequence[str]) -> "Model":
        """Some of the variants."""
        return Model(*({variant: arrays[variant] for variant in variants} for arrays in self))


def initial_model(spec: FleetSpec, seed: int, task: str) -> Model:
    """Fresh parameters and statistics of every variant: a function of (seed, task, variant, path) alone."""
    shapes = abstract_model(spec)
    model = Model(*({v: initialise.fill(arrays[v], seed, task, v) for v in spec.variants} for arrays in shapes))
    for statistics in model.statistics.values():
        if SCALE in statistics:
            statistics[SCALE] = jnp.float32(heads.make_head(spec.head).first_scale)
    return model


def abstract_model(spec: FleetSpec) -> Model:
    """A model's shapes and types."""
    centres = {CENTRES: jax.ShapeDtypeStruct((spec.head.centres, EMBEDDING), jnp.float32)}
    scale = {SCALE: jax.ShapeDtypeStruct((), jnp.float32)} if heads.make_head(spec.head).rescaled else {}
    backbones = {variant: declare(spec, variant) for variant in spec.variants}
    return Model(
        {variant: backbone.parameters | centres for variant, backbone in backbones.items()},
        {variant: backbone.statistics | scale for variant, backbone in backbones.items()},
    )


@functools.cache
def declare(spec: FleetSpec, variant: str) -> variants.Backbone:
    """A variant's backbone at the spec's width and precision, its arrays as shapes."""
    return variants.declare(
        variant,
        frames=spec.spectrogram.piece_frames,
        c_in=spec.spectrogram.channels(variants.piece_height(variant)),
        width=spec.width,
        dtype=jnp.dtype(spec.precision),
        running=variants.RunningAverages(spec.frozen_backbone, spec.running_variance),
    )


def backbone(spec: FleetSpec, model: Model, variant: str) -> variants.Backbone:
    """A variant's backbone with what it has learned, the head's arrays left out."""
    arrays = ({p: leaf for p, leaf in of[variant].items() if p not in OF_HEAD} for of in model)
    return variants.Backbone(declare(spec, variant).graph, *arrays)


class FleetState(NamedTuple):
    """All that a step changes, or could: arrays by variant, then by path; of a stack, with a leading axis (m,)."""

    trainable: dict[str, Arrays]
    frozen: dict[str, Arrays]
    statistics: dict[str, Arrays]
    velocity: dict[str, optax.OptState]


def init_state(spec: FleetSpec, model: Model) -> FleetState:
    """The state at a phase's first step: the model as given, no velocity yet, frozen leaves without one."""
    trainable, frozen, velocity = {}, {}, {}
    for variant, arrays in model.parameters.items():
        trainable[variant], frozen[variant] = optimizer.partition(arrays, spec.trainable)
        velocity[variant] = optimizer.make_optimizer(spec.sgd).init(trainable[variant])
    return FleetState(trainable, frozen, model.statistics, velocity)


def abstract_state(spec: FleetSpec) -> FleetState:
    """A state's shapes and types."""
    return jax.eval_shape(functools.partial(init_state, spec), abstract_model(spec))


def get_model(state: FleetState) -> Model:
    """All that was learned, whether it still trains or not."""
    return Model({v: {**state.trainable[v], **state.frozen[v]} for v in state.trainable}, state.statistics)


def stack_states(states: Sequence[FleetState]) -> FleetState:
    """States of as many tasks as one of leading axis (m,), on the host."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)
