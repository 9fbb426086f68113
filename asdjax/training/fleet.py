"""The variants' states and their one compiled step.

Letters: v variants, b batch, k classes.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from asdjax import parallel, signal
from asdjax.config import Config
from asdjax.models import arcface, initialise, variants
from asdjax.models.layers import EMBEDDING
from asdjax.models.variants import Arrays
from asdjax.training import optimizer, sampler
from asdjax.training.sampler import Draw, Plan

CENTRES = "arcface/weights"


class FleetSpec(NamedTuple):
    """All that the compiled step depends on besides array shapes. Hashable: equal specs share one program."""

    variants: tuple[str, ...]
    width: float
    classes: int
    trainable: tuple[str, ...]
    spectrogram: signal.Spectrogram
    subcentres: int
    margin_radians: float
    scale: float
    max_weight: float
    labels: str
    batch_size: int
    learning_rate: float
    momentum: float
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


class FleetState(NamedTuple):
    """All that a step changes, or could: arrays by variant, then by path."""

    trainable: dict[str, Arrays]
    frozen: dict[str, Arrays]
    statistics: dict[str, Arrays]
    optimizer: optax.OptState


class Metrics(NamedTuple):
    """Per step of a dispatch and variant, (steps, v) float32: mixup loss; share of rows whose nearest centre is
    the heavier clip's class."""

    loss: jax.Array
    accuracy: jax.Array


Audio = signal.Waves | signal.Crops
"""All clips on the device, or the crops of one dispatch; the same batches come of both."""

RunSteps = Callable[[FleetState, Audio, Plan, jax.Array, jax.Array, jax.Array], tuple[FleetState, Metrics]]


def spec_of(config: Config, classes: int, trainable: tuple[str, ...]) -> FleetSpec:
    """The spec of a fleet over so many classes that trains these groups."""
    accelerated = parallel.on_accelerator()
    precision = config.train.precision
    return FleetSpec(
        variants=tuple(config.variants),
        width=config.width,
        classes=classes,
        trainable=trainable,
        spectrogram=signal.spectrogram_of(config),
        subcentres=config.arcface.subcentres,
        margin_radians=config.arcface.margin_radians,
        scale=config.arcface.scale,
        max_weight=config.mixup.max_weight,
        labels=config.mixup.labels,
        batch_size=config.train.batch_size,
        learning_rate=config.optimizer.learning_rate,
        momentum=config.optimizer.momentum,
        precision=("bfloat16" if accelerated else "float32") if precision == "auto" else precision,
        steps_per_dispatch=config.train.steps_per_dispatch or (50 if accelerated else 1),
    )


class Model(NamedTuple):
    """What is learned: by variant, then by path. Parameters include the class centres, `arcface/weights`."""

    parameters: dict[str, Arrays]
    statistics: dict[str, Arrays]


def initial_model(spec: FleetSpec, seed: int, task: str) -> Model:
    """Fresh parameters and statistics of every variant: a function of (seed, task, variant, path) alone."""
    shapes = abstract_model(spec)
    return Model(*({v: initialise.fill(arrays[v], seed, task, v) for v in spec.variants} for arrays in shapes))


def abstract_model(spec: FleetSpec) -> Model:
    """A model's shapes and types."""
    centres = jax.ShapeDtypeStruct((spec.classes * spec.subcentres, EMBEDDING), jnp.float32)
    backbones = {variant: declare(spec, variant) for variant in spec.variants}
    return Model(
        {variant: {**backbone.parameters, CENTRES: centres} for variant, backbone in backbones.items()},
        {variant: backbone.statistics for variant, backbone in backbones.items()},
    )


def abstract_state(spec: FleetSpec) -> FleetState:
    """A state's shapes and types."""
    return jax.eval_shape(functools.partial(begin, spec), abstract_model(spec))


@functools.cache
def declare(spec: FleetSpec, variant: str) -> variants.Backbone:
    """A variant's backbone at the spec's width and precision, its arrays as shapes."""
    return variants.declare(
        variant,
        frames=spec.spectrogram.piece_frames,
        c_in=spec.spectrogram.channels(variants.height_of(variant)),
        width=spec.width,
        dtype=jnp.dtype(spec.precision),
        frozen=spec.frozen_backbone,
    )


def backbone(spec: FleetSpec, model: Model, variant: str) -> variants.Backbone:
    """A variant's backbone with what it has learned, the class centres left out."""
    parameters = {path: leaf for path, leaf in model.parameters[variant].items() if path != CENTRES}
    return variants.Backbone(declare(spec, variant).graph, parameters, model.statistics[variant])


def begin(spec: FleetSpec, model: Model) -> FleetState:
    """The state at a phase's first step: the model as given, the optimizer fresh, frozen leaves without one."""
    trainable, frozen = {}, {}
    for variant, arrays in model.parameters.items():
        trainable[variant], frozen[variant] = optimizer.partition(arrays, spec.trainable)
    return FleetState(trainable, frozen, model.statistics, _sgd(spec).init(trainable))


def model_of(state: FleetState) -> Model:
    """All that was learned, whether it still trains or not."""
    return Model({v: {**state.trainable[v], **state.frozen[v]} for v in state.trainable}, state.statistics)


def _sgd(spec: FleetSpec) -> optax.GradientTransformation:
    return optimizer.sgd(spec.learning_rate, spec.momentum)


@functools.cache
def compiled_steps(spec: FleetSpec, mesh: Mesh) -> RunSteps:
    """The jitted `run(state, audio, plan, keys, first_step, count) -> (state, metrics)`; state is donated.

    Runs `count` <= spec.steps_per_dispatch steps in one dispatch, whose loop is on the device, so that Python
    and the host are out of it; `metrics` has spec.steps_per_dispatch rows of which the first `count` count. The
    count is an argument like any other: the step compiles once. One step a dispatch has no loop around it: on a
    CPU a loop body with real convolutions runs an order of magnitude slower.
    """
    step = functools.partial(train_step, spec, mesh)
    size = spec.steps_per_dispatch

    def run(
        state: FleetState,
        audio: Audio,
        plan: Plan,
        keys: jax.Array,
        first: jax.Array,
        count: jax.Array,
    ) -> tuple[FleetState, Metrics]:
        if size == 1:
            state, metrics = step(state, audio, plan, keys, first, 0)
            return state, jax.tree.map(lambda row: row[None], metrics)

        def body(i: jax.Array, carry: tuple[FleetState, Metrics]) -> tuple[FleetState, Metrics]:
            state, rows = carry
            state, metrics = step(state, audio, plan, keys, first + i, i)
            return state, jax.tree.map(lambda all_rows, row: all_rows.at[i].set(row), rows, metrics)

        empty = jnp.zeros((size, len(spec.variants)))
        return jax.lax.fori_loop(0, count, body, (state, Metrics(empty, empty)))

    return jax.jit(run, donate_argnums=0)


def train_step(
    spec: FleetSpec,
    mesh: Mesh,
    state: FleetState,
    audio: Audio,
    plan: Plan,
    keys: jax.Array,
    step: jax.Array,
    place: int | jax.Array,
) -> tuple[FleetState, Metrics]:
    """One step of all variants: draw, make pieces, backbones, one vmapped ArcFace, gradients, SGD.

    keys: (v,), one random stream a variant; place: the step's place in its dispatch, from 0. Metrics are (v,).
    """
    draws = draw_batches(spec, plan, keys, step)
    draws = parallel.split_batch(draws, mesh)
    pieces = make_pieces(spec, audio, draws, place)
    objective = functools.partial(_objective, spec)
    gradients, (metrics, statistics) = jax.grad(objective, has_aux=True)(
        state.trainable, state.frozen, state.statistics, pieces, draws
    )
    updates, optimizer_state = _sgd(spec).update(gradients, state.optimizer, state.trainable)
    trainable = optax.apply_updates(state.trainable, updates)
    return FleetState(trainable, state.frozen, statistics, optimizer_state), metrics  # pyright: ignore


def draw_batches(spec: FleetSpec, plan: Plan, keys: jax.Array, step: jax.Array) -> Draw:
    """Every variant's own batch: fields (v, b)."""
    return jax.vmap(
        lambda key: sampler.draw(
            key,
            step,
            plan,
            batch=spec.batch_size,
            piece_frames=spec.spectrogram.piece_frames,
            max_weight=spec.max_weight,
        )
    )(keys)


def make_pieces(spec: FleetSpec, audio: Audio, draws: Draw, place: int | jax.Array) -> list[jax.Array]:
    """Each variant's pieces (b, height, frames, c), mixed on raw audio, in the compute type."""
    spectrogram = spec.spectrogram

    def gathered(draw: Draw, waves: signal.Waves) -> tuple[jax.Array, jax.Array]:
        start = signal.first_sample(draw.frame, spectrogram)
        a, b = (signal.gather(waves, clip, start, spectrogram.piece_samples) for clip in (draw.clip_a, draw.clip_b))
        return a, b

    def transformed(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
        return signal.magnitudes(signal.mix(a, b, weight), spectrogram)

    if isinstance(audio, signal.Crops):
        a, b = jnp.moveaxis(audio.samples[place], 1, 0)
    else:
        a, b = jax.vmap(functools.partial(gathered, waves=audio))(draws)
    magnitude = jax.vmap(transformed)(a, b, draws.weight)
    return [
        signal.pieces(magnitude[i], variants.height_of(variant), spectrogram).astype(spec.precision)
        for i, variant in enumerate(spec.variants)
    ]


def _objective(
    spec: FleetSpec,
    trainable: dict[str, Arrays],
    frozen: dict[str, Arrays],
    statistics: dict[str, Arrays],
    pieces: list[jax.Array],
    draws: Draw,
) -> tuple[jax.Array, tuple[Metrics, dict[str, Arrays]]]:
    """The variants' losses summed (their gradients do not meet), with metrics and new statistics."""
    embeddings, centres, new_statistics = [], [], {}
    for variant, x in zip(spec.variants, pieces, strict=True):
        parameters = {**trainable[variant], **frozen[variant]}
        centres.append(parameters.pop(CENTRES))
        backbone = variants.Backbone(declare(spec, variant).graph, parameters, statistics[variant])
        embedding, new_statistics[variant] = variants.forward(backbone, x)
        embeddings.append(embedding)
    cosines = arcface.fleet_cosines(jnp.stack(embeddings), jnp.stack(centres), spec.subcentres)
    losses = jnp.mean(_losses(spec, cosines, draws), axis=1)
    accuracy = jnp.mean(jnp.argmax(cosines, axis=-1) == draws.class_a, axis=1)
    return jnp.sum(losses), (Metrics(losses, accuracy), new_statistics)


def _losses(spec: FleetSpec, cosines: jax.Array, draws: Draw) -> jax.Array:
    """(v, b, k) -> (v, b). Clip a is always the heavier, as weights stay below a half."""
    if spec.labels == "dominant":
        of_variant = functools.partial(arcface.loss, margin_radians=spec.margin_radians, scale=spec.scale)
        return jax.vmap(of_variant)(cosines, draws.class_a)
    of_variant = functools.partial(arcface.mixup_loss, margin_radians=spec.margin_radians, scale=spec.scale)
    return jax.vmap(of_variant)(cosines, draws.class_a, draws.class_b, draws.weight)
