"""The fleet's one compiled step, for one task or several stacked, and the metrics that come of it.

Letters: m tasks in a stack, v variants, b batch.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from asdjax import features
from asdjax.config.fields import VARIANTS
from asdjax.fleet.fleet_model import FleetSpec, FleetState
from asdjax.runtime import hardware, jax_setup
from asdjax.training import flatten_small, optimizer, step_memory
from asdjax.training.batches import Audio, draw_batches, make_pieces
from asdjax.training.flatten_small import Packs
from asdjax.training.objective import objective
from asdjax.training.sampler import SamplingTable


class StepMetrics(NamedTuple):
    """Per step of a dispatch, task and variant, (steps, m, v) float32: mixup loss; share of rows whose nearest centre
    is the heavier clip's class; norm of the gradient before it is clipped."""

    loss: jax.Array
    accuracy: jax.Array
    gradient_norm: jax.Array


class DispatchArgs(NamedTuple):
    """What a dispatch runs: so many steps, from `first` (m,) on, each task's up to its `last` (m,), with the learning
    rates `rates` (m, steps_per_dispatch)."""

    steps: jax.Array
    first: jax.Array
    last: jax.Array
    rates: jax.Array


SIGNAL, DESCENT = "signal", "descent"
"""Scopes of a step, by which a profile knows its parts; a variant's forward and backward pass has the variant's."""

RunSteps = Callable[[FleetState, Audio, SamplingTable, jax.Array, DispatchArgs], tuple[FleetState, StepMetrics]]
Step = Callable[..., tuple[FleetState, StepMetrics]]
"""`train_step` of a spec and a mesh."""


def compiled_steps(spec: FleetSpec, mesh: Mesh) -> RunSteps:
    """The jitted `run(state, audio, plan, keys, turn) -> (state, metrics)`; state is donated.

    State, plan and keys (m, v) are of a stack of m tasks. Runs `turn.steps` <= spec.steps_per_dispatch steps in one
    dispatch, whose loop is on the device, so that Python and the host are out of it; `metrics` has
    spec.steps_per_dispatch rows of which the first `turn.steps` count. Steps and rates are arguments like any other,
    so that the step compiles once. One step a dispatch has no loop around it: on a CPU a loop body with real
    convolutions runs an order of magnitude slower.
    """
    platform = hardware.platform()
    return steps_of(spec, mesh, platform, at_once=platform == "gpu" and _all_variants_fit(spec, mesh))


def _all_variants_fit(spec: FleetSpec, mesh: Mesh) -> bool:
    """Whether all variants of a fleet at once fit on a GPU, whose memory is known."""
    memory_bytes = hardware.memory_limit()
    if memory_bytes is None:
        return False
    pieces = spec.batch_size / mesh.size
    piece_bytes = step_memory.PIECE_BYTES_AT_ONCE * len(spec.variants) / len(VARIANTS)
    batch = step_memory.BatchSize(pieces, spec.spectrogram.piece_frames, spec.width, spec.precision)
    return step_memory.fleets_that_fit(piece_bytes, batch, memory_bytes) >= 1


@functools.cache
def steps_of(spec: FleetSpec, mesh: Mesh, platform: str, *, at_once: bool) -> RunSteps:
    """As `compiled_steps`; the platform, whose forms and options it has, is told apart from others'.

    at_once: no variant of a fleet that trains alone waits for another. On an H200 a step of one fleet takes 22.1 ms,
    26.3 in turn. Seven stacked ones, which have work enough for the device, take 131.7 at once, with 52 GiB of
    temporaries and nothing tuned; in turn, tuned, 133.7 with 17.8.
    """
    step = functools.partial(_stack_step, spec, mesh, at_once=at_once)
    size = spec.steps_per_dispatch

    def run(
        state: FleetState, audio: Audio, plan: SamplingTable, keys: jax.Array, turn: DispatchArgs
    ) -> tuple[FleetState, StepMetrics]:
        """A dispatch: state and audio of m tasks, keys (m, v) -> state, metrics (steps_per_dispatch, m, v)."""
        if size == 1:
            apart = {variant: {} for variant in spec.variants}
            state, metrics = step(apart, state, audio, plan, keys, turn, 0)
            return state, jax.tree.map(lambda row: row[None], metrics)
        pack = platform == "gpu"
        packs = {variant: flatten_small.packs_of(arrays) if pack else {} for variant, arrays in state.trainable.items()}

        def body(i: jax.Array, carry: tuple[FleetState, StepMetrics]) -> tuple[FleetState, StepMetrics]:
            state, rows = carry
            state, metrics = step(packs, state, audio, plan, keys, turn, i)
            return state, jax.tree.map(lambda all_rows, row: all_rows.at[i].set(row), rows, metrics)

        empty = jnp.zeros((size, *keys.shape))
        begun = flatten_small.repacked(flatten_small.packed, packs, state), StepMetrics(empty, empty, empty)
        state, metrics = jax.lax.fori_loop(0, turn.steps, body, begun)
        return flatten_small.repacked(flatten_small.unpacked, packs, state), metrics

    return jax.jit(run, donate_argnums=0, compiler_options=jax_setup.compiler_options(platform))


def _stack_step(
    spec: FleetSpec,
    mesh: Mesh,
    packs: dict[str, Packs],
    state: FleetState,
    audio: Audio,
    plan: SamplingTable,
    keys: jax.Array,
    turn: DispatchArgs,
    place: int | jax.Array,
    *,
    at_once: bool,
) -> tuple[FleetState, StepMetrics]:
    """One step of every task, `place` steps into the dispatch; metrics are (m, v)."""
    step = functools.partial(train_step, spec, mesh, packs, at_once=at_once and len(keys) == 1)
    if isinstance(audio, features.Crops):
        audio = features.Crops(audio.samples[place])
    each = (plan, keys, turn.first + place, turn.rates[:, place])
    if len(keys) == 1:
        return _alone(step, state, audio, each)
    return _side_by_side(step, state, audio, each, turn.last)


def _alone(step: Step, state: FleetState, audio: Audio, each: tuple) -> tuple[FleetState, StepMetrics]:
    """The one task of a stack, not mapped: on a CPU a mapped convolution, which is a grouped one, is slow."""
    crops = audio if isinstance(audio, features.Waves) else _only(audio)
    return jax.tree.map(lambda leaf: leaf[None], step(_only(state), crops, *_only(each)))


def _side_by_side(
    step: Step, state: FleetState, audio: Audio, each: tuple, last: jax.Array
) -> tuple[FleetState, StepMetrics]:
    """All tasks of a stack, mapped; one whose last step is done stays as it is."""

    def one(state: FleetState, audio: Audio, each: tuple, last: jax.Array) -> tuple[FleetState, StepMetrics]:
        new, metrics = step(state, audio, *each)
        return jax.tree.map(functools.partial(jnp.where, each[2] < last), new, state), metrics

    of_audio = None if isinstance(audio, features.Waves) else 0
    return jax.vmap(one, in_axes=(0, of_audio, 0, 0))(state, audio, each, last)


def _only[Tree](tree: Tree) -> Tree:
    """A stack of one without its leading axis."""
    return jax.tree.map(lambda leaf: leaf[0], tree)


def train_step(
    spec: FleetSpec,
    mesh: Mesh,
    packs: dict[str, Packs],
    state: FleetState,
    audio: Audio,
    plan: SamplingTable,
    keys: jax.Array,
    step: jax.Array,
    rate: jax.Array,
    *,
    at_once: bool,
) -> tuple[FleetState, StepMetrics]:
    """One step of a task's variants: draw, make pieces, then of each variant backbone, head, gradient, SGD.

    The variants' losses do not meet, and if not all go at once, a variant begins when the gradient of the one before is
    there: the step needs the activations of the largest at a time, not of all. packs: of each variant, by which what
    trains, and its velocity, is packed; keys: (v,), one random stream a variant; audio: all clips, or this step's
    crops. Metrics are (v,).
    """
    with jax.named_scope(SIGNAL):
        draws = hardware.split_batch(draw_batches(spec, plan, keys, step), mesh)
        pieces = make_pieces(spec, audio, draws)
    trainable, statistics, velocity, metrics = {}, {}, {}, []
    for i, variant in enumerate(spec.variants):
        draw = jax.tree.map(lambda field, i=i: field[i], draws)
        of_trainable = jax.grad(functools.partial(objective, spec, variant), has_aux=True)
        with jax.named_scope(DESCENT):
            parameters = flatten_small.unpacked(packs[variant], state.trainable[variant])
        with jax.named_scope(variant):
            gradient, outcome = of_trainable(parameters, state, pieces[i], draw)
        with jax.named_scope(DESCENT):
            gradient = flatten_small.packed(packs[variant], gradient)
        if not at_once:
            gradient, pieces = jax.lax.optimization_barrier((gradient, pieces))
        metrics.append(StepMetrics(outcome.loss, outcome.accuracy, optax.tree.norm(gradient)))
        statistics[variant] = outcome.statistics
        with jax.named_scope(DESCENT):
            trainable[variant], velocity[variant] = optimizer.descend(
                spec.sgd, gradient, state.velocity[variant], state.trainable[variant], rate
            )
    after = FleetState(trainable, state.frozen, statistics, velocity)
    return after, jax.tree.map(lambda *of_variants: jnp.stack(of_variants), *metrics)
