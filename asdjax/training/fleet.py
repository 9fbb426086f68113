"""The variants' states and their one compiled step, for one task or several stacked.

Letters: m tasks in a stack, v variants, b batch, k classes.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from asdjax import parallel, signal
from asdjax.config import Config
from asdjax.models import heads, initialise, variants
from asdjax.models.heads import HeadSpec, Labels
from asdjax.models.layers import EMBEDDING
from asdjax.models.variants import Arrays
from asdjax.training import optimizer, sampler
from asdjax.training.optimizer import Sgd
from asdjax.training.sampler import Draw, Plan

CENTRES = "arcface/weights"
SCALE = "arcface/scale"
OF_HEAD = (CENTRES, SCALE)
"""What no embedding needs."""


class FleetSpec(NamedTuple):
    """All that the compiled step depends on besides array shapes. Hashable: equal specs share one program."""

    variants: tuple[str, ...]
    width: float
    trainable: tuple[str, ...]
    spectrogram: signal.Spectrogram
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


class FleetState(NamedTuple):
    """All that a step changes, or could: arrays by variant, then by path; of a stack, with a leading axis (m,)."""

    trainable: dict[str, Arrays]
    frozen: dict[str, Arrays]
    statistics: dict[str, Arrays]
    velocity: dict[str, optax.OptState]


class Metrics(NamedTuple):
    """Per step of a dispatch, task and variant, (steps, m, v) float32: mixup loss; share of rows whose nearest centre
    is the heavier clip's class; norm of the gradient before it is clipped."""

    loss: jax.Array
    accuracy: jax.Array
    gradient_norm: jax.Array


Audio = signal.Waves | signal.Crops
"""All clips on the device, or the crops of one dispatch; the same batches come of both."""


class Turn(NamedTuple):
    """What a dispatch runs: so many steps, from `first` (m,) on, each task's up to its `last` (m,), with the learning
    rates `rates` (m, steps_per_dispatch)."""

    steps: jax.Array
    first: jax.Array
    last: jax.Array
    rates: jax.Array


RunSteps = Callable[[FleetState, Audio, Plan, jax.Array, Turn], tuple[FleetState, Metrics]]


def spec_of(config: Config, classes: int, trainable: tuple[str, ...]) -> FleetSpec:
    """The spec of a fleet over so many classes that trains these groups."""
    accelerated = parallel.on_accelerator()
    precision = config.train.precision
    margin = config.arcface
    return FleetSpec(
        variants=tuple(config.variants),
        width=config.width,
        trainable=trainable,
        spectrogram=signal.spectrogram_of(config),
        head=HeadSpec(config.loss, classes, margin.subcentres, margin.margin_radians, margin.scale),
        max_weight=config.mixup.max_weight,
        labels=config.mixup.labels,
        batch_size=config.train.batch_size,
        sgd=Sgd(config.optimizer.momentum, config.optimizer.weight_decay, config.optimizer.clip_norm),
        precision=("bfloat16" if accelerated else "float32") if precision == "auto" else precision,
        steps_per_dispatch=config.train.steps_per_dispatch or (50 if accelerated else 1),
    )


class Model(NamedTuple):
    """What is learned: by variant, then by path. Parameters include the class centres, `arcface/weights`; statistics
    the scale of a head that adapts it, `arcface/scale`."""

    parameters: dict[str, Arrays]
    statistics: dict[str, Arrays]


def initial_model(spec: FleetSpec, seed: int, task: str) -> Model:
    """Fresh parameters and statistics of every variant: a function of (seed, task, variant, path) alone."""
    shapes = abstract_model(spec)
    model = Model(*({v: initialise.fill(arrays[v], seed, task, v) for v in spec.variants} for arrays in shapes))
    for statistics in model.statistics.values():
        if SCALE in statistics:
            statistics[SCALE] = jnp.float32(heads.head_of(spec.head).first_scale)
    return model


def abstract_model(spec: FleetSpec) -> Model:
    """A model's shapes and types."""
    centres = {CENTRES: jax.ShapeDtypeStruct((spec.head.centres, EMBEDDING), jnp.float32)}
    scale = {SCALE: jax.ShapeDtypeStruct((), jnp.float32)} if heads.head_of(spec.head).rescaled else {}
    backbones = {variant: declare(spec, variant) for variant in spec.variants}
    return Model(
        {variant: backbone.parameters | centres for variant, backbone in backbones.items()},
        {variant: backbone.statistics | scale for variant, backbone in backbones.items()},
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
    """A variant's backbone with what it has learned, the head's arrays left out."""
    arrays = ({p: leaf for p, leaf in of[variant].items() if p not in OF_HEAD} for of in model)
    return variants.Backbone(declare(spec, variant).graph, *arrays)


def begin(spec: FleetSpec, model: Model) -> FleetState:
    """The state at a phase's first step: the model as given, no velocity yet, frozen leaves without one."""
    trainable, frozen, velocity = {}, {}, {}
    for variant, arrays in model.parameters.items():
        trainable[variant], frozen[variant] = optimizer.partition(arrays, spec.trainable)
        velocity[variant] = optimizer.velocity_of(spec.sgd).init(trainable[variant])
    return FleetState(trainable, frozen, model.statistics, velocity)


def model_of(state: FleetState) -> Model:
    """All that was learned, whether it still trains or not."""
    return Model({v: {**state.trainable[v], **state.frozen[v]} for v in state.trainable}, state.statistics)


def stacked(states: Sequence[FleetState]) -> FleetState:
    """States of as many tasks as one of leading axis (m,), on the host."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *states)


@functools.cache
def compiled_steps(spec: FleetSpec, mesh: Mesh) -> RunSteps:
    """The jitted `run(state, audio, plan, keys, turn) -> (state, metrics)`; state is donated.

    State, plan and keys (m, v) are of a stack of m tasks. Runs `turn.steps` <= spec.steps_per_dispatch steps in one
    dispatch, whose loop is on the device, so that Python and the host are out of it; `metrics` has
    spec.steps_per_dispatch rows of which the first `turn.steps` count. Steps and rates are arguments like any other,
    so that the step compiles once. One step a dispatch has no loop around it: on a CPU a loop body with real
    convolutions runs an order of magnitude slower.
    """
    step = functools.partial(_stack_step, spec, mesh)
    size = spec.steps_per_dispatch

    def run(state: FleetState, audio: Audio, plan: Plan, keys: jax.Array, turn: Turn) -> tuple[FleetState, Metrics]:
        if size == 1:
            state, metrics = step(state, audio, plan, keys, turn, 0)
            return state, jax.tree.map(lambda row: row[None], metrics)

        def body(i: jax.Array, carry: tuple[FleetState, Metrics]) -> tuple[FleetState, Metrics]:
            state, rows = carry
            state, metrics = step(state, audio, plan, keys, turn, i)
            return state, jax.tree.map(lambda all_rows, row: all_rows.at[i].set(row), rows, metrics)

        empty = jnp.zeros((size, *keys.shape))
        return jax.lax.fori_loop(0, turn.steps, body, (state, Metrics(empty, empty, empty)))

    return jax.jit(run, donate_argnums=0)


def _stack_step(
    spec: FleetSpec,
    mesh: Mesh,
    state: FleetState,
    audio: Audio,
    plan: Plan,
    keys: jax.Array,
    turn: Turn,
    place: int | jax.Array,
) -> tuple[FleetState, Metrics]:
    """One step of every task, `place` steps into the dispatch; metrics are (m, v).

    Alone a task is not mapped: on a CPU a mapped convolution, which is a grouped one, is slow. In a stack a task whose
    last step is done stays as it is.
    """
    step = functools.partial(train_step, spec, mesh)
    if isinstance(audio, signal.Crops):
        audio = signal.Crops(audio.samples[place])
    each = (plan, keys, turn.first + place, turn.rates[:, place])
    if len(keys) == 1:
        crops = audio if isinstance(audio, signal.Waves) else _only(audio)
        return jax.tree.map(lambda leaf: leaf[None], step(_only(state), crops, *_only(each)))

    def one(state: FleetState, audio: Audio, each: tuple, last: jax.Array) -> tuple[FleetState, Metrics]:
        new, metrics = step(state, audio, *each)
        return jax.tree.map(functools.partial(jnp.where, each[2] < last), new, state), metrics

    of_audio = None if isinstance(audio, signal.Waves) else 0
    return jax.vmap(one, in_axes=(0, of_audio, 0, 0))(state, audio, each, turn.last)


def _only[Tree](tree: Tree) -> Tree:
    """A stack of one without its leading axis."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def train_step(
    spec: FleetSpec,
    mesh: Mesh,
    state: FleetState,
    audio: Audio,
    plan: Plan,
    keys: jax.Array,
    step: jax.Array,
    rate: jax.Array,
) -> tuple[FleetState, Metrics]:
    """One step of a task's variants: draw, make pieces, backbones, one vmapped head, gradients, SGD.

    keys: (v,), one random stream a variant; audio: all clips, or this step's crops. Metrics are (v,).
    """
    draws = draw_batches(spec, plan, keys, step)
    draws = parallel.split_batch(draws, mesh)
    pieces = make_pieces(spec, audio, draws)
    objective = functools.partial(_objective, spec)
    gradients, (metrics, statistics) = jax.grad(objective, has_aux=True)(
        state.trainable, state.frozen, state.statistics, pieces, draws
    )
    norms = jnp.stack([optax.tree.norm(gradients[variant]) for variant in spec.variants])
    trainable, velocity = {}, {}
    for variant in spec.variants:
        trainable[variant], velocity[variant] = optimizer.descend(
            spec.sgd, gradients[variant], state.velocity[variant], state.trainable[variant], rate
        )
    return FleetState(trainable, state.frozen, statistics, velocity), metrics._replace(gradient_norm=norms)


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


@functools.cache
def compiled_draws(spec: FleetSpec) -> Callable[[Plan, jax.Array, jax.Array], Draw]:
    """The jitted `draw(plan, keys (m, v), steps (m,))` of a stack: fields (m, v, b)."""
    return jax.jit(jax.vmap(functools.partial(draw_batches, spec)))


def make_pieces(spec: FleetSpec, audio: Audio, draws: Draw) -> list[jax.Array]:
    """Each variant's pieces (b, height, frames, c), mixed on raw audio, in the compute type.

    audio: all clips, or the crops of these draws (v, 2, b, s).
    """
    spectrogram = spec.spectrogram

    def gathered(draw: Draw, waves: signal.Waves) -> tuple[jax.Array, jax.Array]:
        start = signal.first_sample(draw.frame, spectrogram)
        a, b = (signal.gather(waves, clip, start, spectrogram.piece_samples) for clip in (draw.clip_a, draw.clip_b))
        return a, b

    def transformed(a: jax.Array, b: jax.Array, weight: jax.Array) -> jax.Array:
        return signal.magnitudes(signal.mix(a, b, weight), spectrogram)

    if isinstance(audio, signal.Crops):
        a, b = jnp.moveaxis(audio.samples, 1, 0)
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
    model = Model({v: {**trainable[v], **frozen[v]} for v in spec.variants}, statistics)
    embeddings, new_statistics = [], {}
    for variant, x in zip(spec.variants, pieces, strict=True):
        embedding, new_statistics[variant] = variants.forward(backbone(spec, model, variant), x)
        embeddings.append(embedding)
    cosines = fleet_cosines(spec, model, embeddings)
    # clip a is always the heavier, as weights stay below a half
    weight = draws.weight if spec.labels == "soft" else jnp.zeros_like(draws.weight)
    labels = Labels(draws.class_a, draws.class_b, weight)
    scales = _scales(spec, statistics, cosines, labels)
    for variant, scale in zip(spec.variants, scales, strict=True):
        if SCALE in statistics[variant]:
            new_statistics[variant][SCALE] = scale
    losses = jax.vmap(functools.partial(heads.mixup_loss, heads.head_of(spec.head)))(cosines, labels, scales)
    loss = jnp.mean(losses, axis=1)
    accuracy = jnp.mean(jnp.argmax(heads.nearest(cosines), axis=-1) == draws.class_a, axis=1)
    return jnp.sum(loss), (Metrics(loss, accuracy, jnp.zeros_like(loss)), new_statistics)


def fleet_cosines(spec: FleetSpec, model: Model, embeddings: Sequence[jax.Array]) -> jax.Array:
    """Cosines of all variants' embeddings (b, d) to their centres, in one vmapped call: (v, b, k, sub-centres)."""
    centres = jnp.stack([model.parameters[variant][CENTRES] for variant in spec.variants])
    of_variant = functools.partial(heads.cosines, subcentres=spec.head.subcentres)
    return jax.vmap(of_variant)(jnp.stack(embeddings), centres)


def scales_of(spec: FleetSpec, statistics: dict[str, Arrays]) -> jax.Array:
    """The head's scale of every variant, (v,)."""
    first = jnp.float32(heads.head_of(spec.head).first_scale)
    return jnp.stack([statistics[variant].get(SCALE, first) for variant in spec.variants])


def _scales(spec: FleetSpec, statistics: dict[str, Arrays], cosines: jax.Array, labels: Labels) -> jax.Array:
    """This step's scales (v,): where the head is frozen, or its scale fixed, those of the step before."""
    before = scales_of(spec, statistics)
    rescaled = heads.head_of(spec.head).rescaled
    if rescaled is None or "arcface" in spec.frozen:
        return before
    return jax.vmap(rescaled)(jax.lax.stop_gradient(cosines), labels, before)
