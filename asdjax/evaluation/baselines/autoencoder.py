"""The auto-encoder baseline of DCASE 2021 Task 2: a clip that it cannot rebuild is anomalous.

Its network, features and training are the challenge's (Kawaguchi et al. 2021; its Keras defaults are written out here),
with one difference: all training clips are trained on, where the baseline holds a tenth out to watch the loss.

As in the baseline a training clip is scored by the model that was trained on it. Every other system of this project
scores training clips without their own pieces; here that would take a training for each fold. Thresholds, which come
from these scores, may thus lie low and the decisions call too many clips anomalous; the scores of test clips, and AUC
and pAUC with them, are not touched by it.

Letters: b batch, t frames, m mel bands, n clips, x = 5 * m inputs.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.lib.stride_tricks import sliding_window_view

from asdjax.data.clips import Clip
from asdjax.errors import Diverged
from asdjax.evaluation.baselines.log_mel import BANDS, VECTOR_FRAMES, LogMels
from asdjax.inference.clip_scores import ClipScores
from asdjax.runtime.progress import Progress, progress
from asdjax.runtime.random_keys import make_key

NAME = "autoencoder"
INPUTS = VECTOR_FRAMES * BANDS
HIDDEN = (128, 128, 128, 128, 8, 128, 128, 128, 128)

_ADAM = optax.scale_by_adam(eps=1e-7)  # Keras's epsilon
_SCORED_AT_ONCE = 4096  # vectors


class Training(NamedTuple):
    """How one is trained: `config.baselines`, what its random numbers follow from, and the rate of the clips, on which
    their log-mel frames depend."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    machine: str
    sample_rate_hz: int


class Learned(NamedTuple):
    """Parameters and batch statistics, arrays in nested dicts."""

    parameters: dict[str, Any]
    statistics: dict[str, Any]


class State(NamedTuple):
    """All that a step changes."""

    learned: Learned
    moments: optax.OptState


class Autoencoder(nnx.Module):
    """(b, x) -> (b, x): dense layers with batch normalisation and ReLU after each but the last; 267,928 parameters.

    Keras's defaults: Glorot-uniform kernels, running averages' decay 0.99, epsilon 1e-3.
    """

    def __init__(self, rngs: nnx.Rngs) -> None:
        sizes = (INPUTS, *HIDDEN)
        glorot = nnx.initializers.glorot_uniform()
        self.layers = nnx.List(
            nnx.Linear(c_in, c_out, kernel_init=glorot, rngs=rngs)
            for c_in, c_out in zip(sizes, (*HIDDEN, INPUTS), strict=True)
        )
        self.norms = nnx.List(nnx.BatchNorm(c, momentum=0.99, epsilon=1e-3, rngs=rngs) for c in HIDDEN)

    def __call__(self, x: jax.Array) -> jax.Array:
        for layer, norm in zip(self.layers, self.norms, strict=False):
            x = nnx.relu(norm(layer(x)))
        return self.layers[-1](x)


def score_clips(
    learned: Learned, train_clips: Sequence[Clip], train: LogMels, test_clips: Sequence[Clip], test: LogMels
) -> ClipScores:
    """A clip's score is the mean squared error over its vectors. The training clips' own scores are by the model that
    saw them."""
    of_train, of_test = (
        dict(zip(clips, errors(learned, log_mels).tolist(), strict=True))
        for clips, log_mels in ((train_clips, train), (test_clips, test))
    )
    return ClipScores(of_train, of_test)


def fit(train: LogMels, training: Training) -> Learned:
    """Train an auto-encoder on all vectors of the training clips of a machine type, all sections and domains.

    Which vectors a step sees is a function of (seed, machine type, step) alone; an epoch's last batch is filled up from
    its first. The loop is on the host, whose two x86 cores run a step faster alone than within `lax.scan`.
    Raises Diverged where the loss is no longer a number.
    """
    state = initial_state(training)
    steps = -(-len(vector_starts(train)) // training.batch_size)
    what = f"{training.machine} {NAME}"
    with progress(what, training.epochs * steps * training.batch_size, "vector") as shown:
        for epoch in range(training.epochs):
            state, loss = _epoch(state, train, training, epoch, shown)
            if not np.isfinite(loss):
                raise Diverged(f"{what}: the loss is {loss} in epoch {epoch + 1}; lower config.baselines.learning_rate")
    return state.learned


def _epoch(state: State, train: LogMels, training: Training, epoch: int, shown: Progress) -> tuple[State, float]:
    """One pass over all vectors; its mean loss. One step is under way while the next one's vectors are gathered."""
    losses: list[jax.Array] = []
    for vectors in batches(train, training, epoch):
        state, loss = train_step(state, vectors, training.learning_rate)
        losses.append(loss)
        note = f"loss {float(losses[-2]):.4g}" if len(losses) > 1 else ""
        shown.update(len(vectors), note)
    return state, float(np.mean(losses))


def batches(train: LogMels, training: Training, epoch: int) -> Iterator[np.ndarray]:
    """All vectors of clips, shuffled anew each epoch, in batches (b, x) that are gathered from the frames when due."""
    vectors = vectors_of(train)
    starts = vector_starts(train)
    order = np.random.default_rng([training.seed, epoch, *training.machine.encode()]).permutation(starts)
    steps = -(-len(order) // training.batch_size)
    order = np.resize(order, steps * training.batch_size)
    return (vectors[rows] for rows in np.split(order, steps))


def vectors_of(log_mels: LogMels) -> np.ndarray:
    """The frames seen as vectors of VECTOR_FRAMES successive ones, the first band of the first frame first: (t', x), a
    view."""
    return sliding_window_view(log_mels.frames.reshape(-1), INPUTS)[::BANDS]


def vector_starts(log_mels: LogMels) -> np.ndarray:
    """The frames at which a vector begins that lies within one clip."""
    last = VECTOR_FRAMES - 1
    bounds = zip(log_mels.first[:-1], log_mels.first[1:] - last, strict=True)
    return np.concatenate([np.arange(begin, end) for begin, end in bounds])


@functools.cache
def _graph() -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(lambda: Autoencoder(nnx.Rngs(0))), nnx.Param, nnx.BatchStat)[0]


def shapes() -> Learned:
    """What is learned, as shapes and types."""
    return jax.eval_shape(_initial_state, jax.random.key(0)).learned


def initial_state(training: Training) -> State:
    """Before the first step."""
    return _initial_state(make_key(training.seed, training.machine, NAME))


@jax.jit
def _initial_state(key: jax.Array) -> State:
    _, *states = nnx.split(Autoencoder(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
    learned = Learned(*map(nnx.to_pure_dict, states))
    return State(learned, _ADAM.init(learned.parameters))


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state: State, vectors: jax.Array, learning_rate: float) -> tuple[State, jax.Array]:
    """One step on a batch (b, x) by Adam; the state after it and the mean squared error before it."""
    (loss, statistics), gradients = jax.value_and_grad(_loss, has_aux=True)(
        state.learned.parameters, state.learned.statistics, vectors
    )
    directions, moments = _ADAM.update(gradients, state.moments)
    parameters = jax.tree.map(lambda p, d: p - learning_rate * d, state.learned.parameters, directions)
    return State(Learned(parameters, statistics), moments), loss


def _loss(
    parameters: dict[str, Any], statistics: dict[str, Any], vectors: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
    model = nnx.merge(_graph(), parameters, statistics)
    loss = jnp.mean(jnp.square(model(vectors) - vectors))
    return loss, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def errors(learned: Learned, log_mels: LogMels) -> np.ndarray:
    """Each clip's mean squared error over its vectors, (n,) float64."""
    if len(log_mels.first) == 1:  # no clips
        return np.zeros(0)
    vectors, starts = vectors_of(log_mels), vector_starts(log_mels)
    padded = np.resize(starts, -(-len(starts) // _SCORED_AT_ONCE) * _SCORED_AT_ONCE)
    parts = [np.asarray(_errors(learned, vectors[rows])) for rows in padded.reshape(-1, _SCORED_AT_ONCE)]
    clip = np.repeat(np.arange(len(log_mels.first) - 1), np.diff(log_mels.first) - VECTOR_FRAMES + 1)
    of_vectors = np.concatenate(parts)[: len(starts)]
    return np.bincount(clip, of_vectors) / np.bincount(clip)


@jax.jit
def _errors(learned: Learned, vectors: jax.Array) -> jax.Array:
    model = nnx.merge(_graph(), *learned)
    model.eval()
    return jnp.mean(jnp.square(model(vectors) - vectors), axis=1)
