"""The training step of a fleet: draw batches, make pieces, run the backbones, one ArcFace loss, gradients, SGD.

This file explains how the models of a fleet learn at once. Read `train_step` first, then `group_loss`. state.py has
the settings and arrays, batches.py and sampler.py the batches, models/heads.py the loss. Three helpers are
optimisations that a reader may skip: flatten_small.py lays small arrays end to end for GPUs, audio_feed.py cuts crops
on the host when the audio does not fit on the device, and group_size.py chooses the size of a group.

A fleet has a model of every variant (a backbone and a height of pieces) for one task. A run is a fleet with one seed.

Letters: m runs in one program, v variants, b batch, d embedding, k classes, c sub-centres of a class.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from asdjax import features
from asdjax.fleet import fleet_model
from asdjax.fleet.fleet_model import CENTRES, SCALE, Model
from asdjax.models import heads, variants
from asdjax.models.heads import Labels
from asdjax.models.variants import Arrays
from asdjax.runtime import hardware, jax_setup, processes
from asdjax.training import flatten_small, optimizer
from asdjax.training.batches import Audio, draw_batches, make_pieces
from asdjax.training.flatten_small import FlatLayout
from asdjax.training.sampler import Batch, SamplingTable
from asdjax.training.state import TrainSpec, TrainState

# scopes by which a profile knows the parts of a step; a backbone's scope is the name of its variant
FEATURES, HEAD, UPDATE = "features", "head", "update"


class StepMetrics(NamedTuple):
    """Metrics of a step, (v,) float32 each; those of a dispatch are (steps, m, v).

    loss: mixup loss. accuracy: share of pieces whose nearest centre is the heavier clip's class. gradient_norm: norm of
    a variant's gradient before clipping.
    """

    loss: jax.Array
    accuracy: jax.Array
    gradient_norm: jax.Array


class StepAt(NamedTuple):
    """The number of a step, from 0, and its learning rate; both ()."""

    step: jax.Array
    learning_rate: jax.Array


class LossAux(NamedTuple):
    """Results of a group's loss besides the gradient: `loss` and `accuracy` (v,), new statistics by variant."""

    loss: jax.Array
    accuracy: jax.Array
    statistics: dict[str, Arrays]


@dataclass(frozen=True, kw_only=True)
class StepSpec:
    """Static arguments of a step: the training settings, the devices, and the layout of each variant's small arrays."""

    train: TrainSpec
    mesh: Mesh
    layouts: Mapping[str, FlatLayout]


def train_step(
    spec: StepSpec, state: TrainState, audio: Audio, table: SamplingTable, keys: jax.Array, at: StepAt
) -> tuple[TrainState, StepMetrics]:
    """Train every variant of a fleet by one step.

    Each variant draws its own batch from its own key, `keys` (v,). Variants share no parameter, so the gradient of a
    group's summed loss gives each variant exactly its own. Groups run one after another, so only one group's
    activations are in memory. By default a group is all variants of a single fleet on a GPU that has the memory, else
    one variant. `jit` over a mesh splits the batch over the devices: it is what `pmap` has become.
    """
    with jax.named_scope(FEATURES):
        batch = hardware.split_batch(draw_batches(spec.train, table, keys, at.step), spec.mesh)
        pieces = make_pieces(spec.train, audio, batch)
    trainable, velocity, statistics, metrics = {}, {}, {}, []
    for group in spec.train.groups:
        parameters = {v: flatten_small.unflatten(spec.layouts[v], state.trainable[v]) for v in group}
        gradients, aux = jax.grad(group_loss, has_aux=True)(parameters, spec.train, state, pieces, batch)
        gradients = {v: flatten_small.flatten(spec.layouts[v], gradients[v]) for v in group}
        if len(spec.train.groups) > 1:  # keeps XLA from computing groups side by side
            gradients, pieces = jax.lax.optimization_barrier((gradients, pieces))
        with jax.named_scope(UPDATE):
            for v in group:
                trainable[v], velocity[v] = optimizer.update(
                    spec.train.sgd, gradients[v], state.velocity[v], state.trainable[v], at.learning_rate
                )
        norms = jnp.stack([optax.tree.norm(gradients[v]) for v in group])
        metrics.append(StepMetrics(aux.loss, aux.accuracy, norms))
        statistics |= aux.statistics
    metrics = jax.tree.map(lambda *groups: jnp.concatenate(groups), *metrics)
    average = state.average
    if spec.train.average_decay:
        average = move_average(spec.train.average_decay, average, Model(trainable, statistics), at.step)
    return TrainState(trainable, state.frozen, statistics, velocity, average), metrics


def move_average(decay: float, average: Model, model: Model, step: jax.Array) -> Model:
    """Return the moving average of a model after a step; `step` counts from 0.

    The decay rises over the first steps, so that the initial values are soon forgotten.
    """
    share = 1 - jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda old, new: old + share * (new - old), average, model)


def group_loss(
    parameters: dict[str, Arrays], spec: TrainSpec, state: TrainState, pieces: dict[str, jax.Array], batch: Batch
) -> tuple[jax.Array, LossAux]:
    """Return the sum of the mixup losses of a group of variants.

    The backbones run one after the other on pieces (b, height, frames, c). Their embeddings (v, b, d) and class
    centres (v, k * c, d) then go through one vmapped ArcFace (or AdaCos) loss. `parameters` replace the trainable ones
    of the state; the group is their keys, in the order of `spec.variants`.
    """
    group = [v for v in spec.variants if v in parameters]
    model = Model({v: parameters[v] | state.frozen[v] for v in group}, state.statistics)
    embeddings, statistics = {}, {}
    for v in group:
        backbone = fleet_model.make_backbone(spec.model, model, v, spec.frozen_backbone)
        with jax.named_scope(v):
            embeddings[v], statistics[v] = variants.forward(backbone, pieces[v])
    with jax.named_scope(HEAD):
        indices = jnp.array([spec.variants.index(v) for v in group])
        head_loss = functools.partial(heads.head_loss, spec.model.head, frozen="arcface" in spec.frozen)
        loss, accuracy, scale = jax.vmap(head_loss)(
            jnp.stack([embeddings[v] for v in group]),
            jnp.stack([model.parameters[v][CENTRES] for v in group]),
            make_labels(spec, jax.tree.map(lambda field: field[indices], batch)),
            jnp.stack([fleet_model.get_scale(spec.model, state.statistics[v]) for v in group]),
        )
    for v, of_variant in zip(group, scale, strict=True):
        if SCALE in state.statistics[v]:
            statistics[v] |= {SCALE: of_variant}
    return jnp.sum(loss), LossAux(loss, accuracy, statistics)


def make_labels(spec: TrainSpec, batch: Batch) -> Labels:
    """Return the labels of a mixed batch: both clips' classes by weight, or the heavier clip's alone."""
    # clip a is the heavier one, as weights stay below a half
    weight = batch.weight if spec.labels == "soft" else jnp.zeros_like(batch.weight)
    return Labels(batch.class_a, batch.class_b, weight)


class DispatchArgs(NamedTuple):
    """Arguments of a dispatch.

    steps: (), number of its steps. first: (m,), the step at which each run enters it. last: (m,), the number of steps
    of each run's phase; a run that has reached it does not change. rates: (m, steps_per_dispatch) learning rates.
    """

    steps: jax.Array | np.ndarray
    first: jax.Array | np.ndarray
    last: jax.Array | np.ndarray
    rates: jax.Array | np.ndarray


#: (state, audio, table, keys (m, v), args) -> (state, metrics (steps_per_dispatch, m, v)); the state is donated
RunSteps = Callable[[TrainState, Audio, SamplingTable, jax.Array, DispatchArgs], tuple[TrainState, StepMetrics]]


def compile_steps(spec: TrainSpec, mesh: Mesh) -> RunSteps:
    """Return the jitted program that runs up to `steps_per_dispatch` steps of m runs in one dispatch.

    The loop over steps is on the device. Only the first `args.steps` rows of the metrics count. Steps and rates are
    arguments, so that the program compiles once. The platform is part of the cache key: operations have per-platform
    forms.
    """
    return _compile_steps(spec, mesh, hardware.platform())


@functools.cache
def _compile_steps(spec: TrainSpec, mesh: Mesh, platform: str) -> RunSteps:
    size = spec.steps_per_dispatch

    def run(
        state: TrainState, audio: Audio, table: SamplingTable, keys: jax.Array, args: DispatchArgs
    ) -> tuple[TrainState, StepMetrics]:
        """Run `args.steps` steps; see `RunSteps`."""
        layouts = {v: flatten_small.make_layout(arrays, platform) for v, arrays in state.trainable.items()}
        step_spec = StepSpec(train=spec, mesh=mesh, layouts=layouts)

        def step(i: jax.Array, carry: tuple[TrainState, StepMetrics]) -> tuple[TrainState, StepMetrics]:
            state, rows = carry
            state, metrics = step_runs(step_spec, state, _audio_at(audio, i), (table, keys, args), i)
            return state, jax.tree.map(lambda every, row: every.at[i].set(row), rows, metrics)

        empty = jnp.zeros((size, *keys.shape))
        begun = flatten_small.flatten_state(layouts, state), StepMetrics(empty, empty, empty)
        if size == 1:  # without a loop, in whose body a CPU runs convolutions ten times slower
            state, metrics = step(jnp.int32(0), begun)
        else:
            state, metrics = jax.lax.fori_loop(0, args.steps, step, begun)
        return flatten_small.unflatten_state(layouts, state), metrics

    return processes.compile_together(
        jax.jit(run, donate_argnums=0, compiler_options=jax_setup.compiler_options(platform))
    )


def step_runs(
    spec: StepSpec,
    state: TrainState,
    audio: Audio,
    inputs: tuple[SamplingTable, jax.Array, DispatchArgs],
    i: int | jax.Array,
) -> tuple[TrainState, StepMetrics]:
    """Train m runs by the i-th step of a dispatch. Metrics are (m, v).

    `train_step` is mapped over the runs, and those that have reached their last step keep their state. A program of one
    run needs neither: a dispatch ends with its run, and it compiles sooner without.
    """
    table, keys, args = inputs
    at = StepAt(jnp.asarray(args.first) + i, jnp.asarray(args.rates)[:, i])
    step = functools.partial(train_step, spec)
    if len(keys) == 1:
        state, table, keys, at = jax.tree.map(lambda leaf: leaf[0], (state, table, keys, at))
        audio = audio if isinstance(audio, features.Waves) else jax.tree.map(lambda leaf: leaf[0], audio)
        return jax.tree.map(lambda leaf: leaf[jnp.newaxis], step(state, audio, table, keys, at))
    audio_axis = None if isinstance(audio, features.Waves) else 0
    new, metrics = jax.vmap(step, in_axes=(0, audio_axis, 0, 0, 0))(state, audio, table, keys, at)
    moves = at.step < args.last

    def keep_if_done(new: jax.Array, old: jax.Array) -> jax.Array:
        return jnp.where(moves.reshape(-1, *(1,) * (new.ndim - 1)), new, old)

    with jax.named_scope(UPDATE):
        return jax.tree.map(keep_if_done, new, state), metrics


def _audio_at(audio: Audio, i: int | jax.Array) -> Audio:
    return features.Crops(audio.samples[i]) if isinstance(audio, features.Crops) else audio
