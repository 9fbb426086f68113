"""The auto-encoder baseline of DCASE 2021 Task 2: clips with a large reconstruction error are anomalous.

Network, features and training are the challenge's (Kawaguchi et al. 2021), with its Keras defaults written out here.
One difference: it trains on all training clips, while the baseline holds out a tenth to monitor the loss.

As in the baseline, a training clip is scored by the model that was trained on it. Every other system of this project
scores training clips without their own pieces; here this would need one training per fold. Thresholds, which are fitted
to these scores, may thus be too low and the decisions too often "anomaly". AUC and pAUC are not affected.

Measurements: tests/perf/README.md.

Letters: b batch, t frames, m mel bands, n clips, x = 5 * m inputs.
"""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from numpy.lib.stride_tricks import sliding_window_view

from asdjax.data.clips import Clip
from asdjax.errors import Diverged
from asdjax.inference.clip_scores import ClipScores
from asdjax.inference.log_mel import BANDS, VECTOR_FRAMES, LogMels
from asdjax.runtime.progress import Progress, progress
from asdjax.runtime.random_keys import make_key

NAME = "autoencoder"
INPUTS = VECTOR_FRAMES * BANDS
HIDDEN = (128, 128, 128, 128, 8, 128, 128, 128, 128)

_ADAM = optax.scale_by_adam(eps=1e-7)  # the epsilon of Keras
_SCORED_AT_ONCE = 4096  # vectors


@dataclass(frozen=True, kw_only=True)
class AutoencoderTraining:
    """Training settings: those of `config.baselines`, the names of the random stream, and the clips' sample rate."""

    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    machine: str
    sample_rate_hz: int


class Learned(NamedTuple):
    """Learned arrays in nested dicts: parameters and batch statistics."""

    parameters: dict[str, Any]
    statistics: dict[str, Any]


class AutoencoderState(NamedTuple):
    """The state that a training step updates."""

    learned: Learned
    moments: optax.OptState


class Autoencoder(nnx.Module):
    """A network (b, x) -> (b, x): dense layers, each but the last with batch normalisation and ReLU.

    It has 267,928 parameters and the defaults of Keras: Glorot-uniform kernels, decay 0.99 of running averages,
    epsilon 1e-3.
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
    """Score clips by the mean squared error over their vectors."""
    train_scores, test_scores = (
        dict(zip(clips, compute_errors(learned, log_mels).tolist(), strict=True))
        for clips, log_mels in ((train_clips, train), (test_clips, test))
    )
    return ClipScores(train_scores, test_scores)


def fit(train: LogMels, training: AutoencoderTraining) -> Learned:
    """Train an auto-encoder on all vectors of the training clips of a machine type.

    The vectors of a step depend only on seed, machine type and step. An epoch's last batch is filled up from its first.
    Raises Diverged if the loss is not finite.
    """
    state = make_initial_state(training)
    steps = -(-len(find_vector_starts(train)) // training.batch_size)
    what = f"{training.machine} {NAME}"
    with progress(what, training.epochs * steps * training.batch_size, "vector") as shown:
        for epoch in range(training.epochs):
            state, loss = _train_epoch(state, train, training, epoch, shown)
            if not np.isfinite(loss):
                raise Diverged(f"{what}: the loss is {loss} in epoch {epoch + 1}; lower config.baselines.learning_rate")
    return state.learned


def _train_epoch(
    state: AutoencoderState, train: LogMels, training: AutoencoderTraining, epoch: int, shown: Progress
) -> tuple[AutoencoderState, float]:
    """Train on all vectors once and return the mean loss. The device computes while the next batch is gathered."""
    losses: list[jax.Array] = []
    for vectors in make_batches(train, training, epoch):
        state, loss = train_step(state, vectors, training.learning_rate)
        losses.append(loss)
        note = f"loss {float(losses[-2]):.4g}" if len(losses) > 1 else ""
        shown.update(len(vectors), note)
    return state, float(np.mean(losses))


def make_batches(train: LogMels, training: AutoencoderTraining, epoch: int) -> Iterator[np.ndarray]:
    """Yield batches (b, x) of all vectors, in the shuffled order of an epoch."""
    vectors = view_vectors(train)
    starts = find_vector_starts(train)
    order = np.random.default_rng([training.seed, epoch, *training.machine.encode()]).permutation(starts)
    steps = -(-len(order) // training.batch_size)
    order = np.resize(order, steps * training.batch_size)
    return (vectors[rows] for rows in np.split(order, steps))


def view_vectors(log_mels: LogMels) -> np.ndarray:
    """View the frames as vectors (t', x) of VECTOR_FRAMES successive frames, concatenated."""
    return sliding_window_view(log_mels.frames.reshape(-1), INPUTS)[::BANDS]


def find_vector_starts(log_mels: LogMels) -> np.ndarray:
    """Return the first frames of the vectors that are within one clip."""
    last = VECTOR_FRAMES - 1
    bounds = zip(log_mels.first[:-1], log_mels.first[1:] - last, strict=True)
    return np.concatenate([np.arange(begin, end) for begin, end in bounds])


@functools.cache
def _graph() -> nnx.GraphDef:
    return nnx.split(nnx.eval_shape(lambda: Autoencoder(nnx.Rngs(0))), nnx.Param, nnx.BatchStat)[0]


def make_shapes() -> Learned:
    """Return the shapes and dtypes of the learned arrays."""
    return jax.eval_shape(_initial_state, jax.random.key(0)).learned


def make_initial_state(training: AutoencoderTraining) -> AutoencoderState:
    """Return the state before the first step."""
    return _initial_state(make_key(training.seed, training.machine, NAME))


@jax.jit
def _initial_state(key: jax.Array) -> AutoencoderState:
    _, *states = nnx.split(Autoencoder(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
    learned = Learned(*map(nnx.to_pure_dict, states))
    return AutoencoderState(learned, _ADAM.init(learned.parameters))


@functools.partial(jax.jit, donate_argnums=0)
def train_step(state: AutoencoderState, vectors: jax.Array, learning_rate: float) -> tuple[AutoencoderState, jax.Array]:
    """Take a step of Adam on a batch (b, x). Return the new state and the mean squared error before the step."""
    (loss, statistics), gradients = jax.value_and_grad(_loss, has_aux=True)(
        state.learned.parameters, state.learned.statistics, vectors
    )
    directions, moments = _ADAM.update(gradients, state.moments)
    parameters = jax.tree.map(lambda p, d: p - learning_rate * d, state.learned.parameters, directions)
    return AutoencoderState(Learned(parameters, statistics), moments), loss


def _loss(
    parameters: dict[str, Any], statistics: dict[str, Any], vectors: jax.Array
) -> tuple[jax.Array, dict[str, Any]]:
    model = nnx.merge(_graph(), parameters, statistics)
    loss = jnp.mean(jnp.square(model(vectors) - vectors))
    return loss, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def compute_errors(learned: Learned, log_mels: LogMels) -> np.ndarray:
    """Compute the mean squared error of each clip over its vectors, (n,) float64."""
    if len(log_mels.first) == 1:  # no clips
        return np.zeros(0)
    vectors, starts = view_vectors(log_mels), find_vector_starts(log_mels)
    padded = np.resize(starts, -(-len(starts) // _SCORED_AT_ONCE) * _SCORED_AT_ONCE)
    parts = [np.asarray(_errors(learned, vectors[rows])) for rows in padded.reshape(-1, _SCORED_AT_ONCE)]
    clip = np.repeat(np.arange(len(log_mels.first) - 1), np.diff(log_mels.first) - VECTOR_FRAMES + 1)
    vector_errors = np.concatenate(parts)[: len(starts)]
    return np.bincount(clip, vector_errors) / np.bincount(clip)


@jax.jit
def _errors(learned: Learned, vectors: jax.Array) -> jax.Array:
    model = nnx.merge(_graph(), *learned)
    model.eval()
    return jnp.mean(jnp.square(model(vectors) - vectors), axis=1)
