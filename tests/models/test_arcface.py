"""ArcFace, compared with its definition by angles in float64."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from asdjax.models import arcface, heads
from asdjax.models.heads import HeadSpec, Labels

SCALE = 30.0
MARGINS = [0.05, 0.5]  # the report's, and one wide enough for theta + margin > pi to be a region


def oracle_logits(cosine: np.ndarray, target: np.ndarray, margin: float) -> np.ndarray:
    theta = np.arccos(cosine)
    with_margin = np.where(theta + margin <= np.pi, np.cos(theta + margin), cosine - margin * np.sin(margin))
    return SCALE * np.where(np.arange(cosine.shape[1]) == target[:, None], with_margin, cosine)


def oracle_loss(cosine: np.ndarray, target: np.ndarray, margin: float) -> np.ndarray:
    return -log_softmax(oracle_logits(cosine, target, margin), axis=1)[np.arange(len(target)), target]


def oracle_cosines(embeddings: np.ndarray, weights: np.ndarray, subcentres: int) -> np.ndarray:
    e, w = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (embeddings, weights))
    by_class = [w[i : i + subcentres] for i in range(0, len(w), subcentres)]
    return np.stack([np.max(e @ centres.T, axis=1) for centres in by_class], axis=1)


def nearest_cosines(embeddings: jax.Array, weights: jax.Array, subcentres: int = 1) -> jax.Array:
    return heads.nearest(heads.cosines(embeddings, weights, subcentres))


def mixup_loss(cosine: jax.Array, labels: Labels, margin: float) -> jax.Array:
    head = heads.make_head(HeadSpec("arcface", cosine.shape[1], 1, margin, SCALE))
    return heads.mixup_loss(head, cosine[..., None], labels, jnp.float32(SCALE))


def slopes(f: Callable[[np.ndarray], float], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    """Return the central differences of f at x, entry by entry."""
    out = np.empty_like(x)
    for i in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[i] = step
        out[i] = (f(x + moved) - f(x - moved)) / (2 * step)
    return out


def spread_cosines() -> tuple[np.ndarray, np.ndarray]:
    """Return cosines and targets with target angles over the whole range, also beyond pi - margin."""
    angles = np.array([0.02, 0.6, np.pi / 2, 2.4, np.pi - 0.3, np.pi - 0.03])
    cosine = np.random.default_rng(0).uniform(-0.9, 0.9, (len(angles), 4))
    target = np.arange(len(angles)) % 4
    cosine[np.arange(len(angles)), target] = np.cos(angles)
    return cosine.astype(np.float32).astype(np.float64), target


@pytest.mark.parametrize("margin", MARGINS)
def test_logits_and_their_gradient_equal_the_definition(margin: float) -> None:
    cosine, target = spread_cosines()
    logits = jax.jit(lambda c: arcface.logits(c, jnp.asarray(target), margin_radians=margin, scale=SCALE))
    loss_gradient = jax.jit(
        jax.grad(lambda c: jnp.sum(arcface.loss(c, jnp.asarray(target), margin_radians=margin, scale=SCALE)))
    )
    given = jnp.asarray(cosine, jnp.float32)
    np.testing.assert_allclose(logits(given), oracle_logits(cosine, target, margin), rtol=1e-5, atol=1e-4)
    expected = slopes(lambda c: oracle_loss(c, target, margin).sum(), cosine)
    np.testing.assert_allclose(loss_gradient(given), expected, rtol=2e-3, atol=1e-3)


def test_the_margin_is_on_the_target_only() -> None:
    cosine, target = spread_cosines()
    logits = arcface.logits(jnp.asarray(cosine, jnp.float32), jnp.asarray(target), margin_radians=0.5, scale=SCALE)
    others = np.arange(4) != target[:, None]
    np.testing.assert_allclose(np.asarray(logits)[others], SCALE * cosine[others], rtol=1e-6)
    assert np.all(np.asarray(logits)[~others] < SCALE * cosine[~others] - 1)


@pytest.mark.parametrize("margin", MARGINS)
def test_the_target_s_logit_falls_all_the_way_to_the_opposite(margin: float) -> None:
    cosine = jnp.cos(jnp.linspace(0.01, np.pi, 500))[:, None]
    logits = arcface.logits(cosine, jnp.zeros(500, jnp.int32), margin_radians=margin, scale=SCALE)[:, 0]
    assert np.all(np.diff(logits) < 0)


@pytest.mark.parametrize("subcentres", [1, 2])
def test_gradients_of_embeddings_and_centres_equal_central_differences(subcentres: int) -> None:
    rng = np.random.default_rng(1)
    embeddings, weights = rng.normal(size=(3, 5)), rng.normal(size=(4 * subcentres, 5))
    target = np.array([0, 1, 3])
    embeddings[0] = -weights[0] + 0.1 * rng.normal(size=5)
    margin = 0.5

    def ours(e: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.sum(
            arcface.loss(nearest_cosines(e, w, subcentres), jnp.asarray(target), margin_radians=margin, scale=SCALE)
        )

    def oracle(e: np.ndarray, w: np.ndarray) -> float:
        return oracle_loss(oracle_cosines(e, w, subcentres), target, margin).sum()

    to_embeddings, to_weights = jax.jit(jax.grad(ours, argnums=(0, 1)))(
        jnp.asarray(embeddings, jnp.float32), jnp.asarray(weights, jnp.float32)
    )
    np.testing.assert_allclose(to_embeddings, slopes(lambda e: oracle(e, weights), embeddings), rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(to_weights, slopes(lambda w: oracle(embeddings, w), weights), rtol=1e-3, atol=1e-3)


def test_a_class_is_as_near_as_its_nearest_sub_centre() -> None:
    rng = np.random.default_rng(2)
    embeddings, weights = rng.normal(size=(6, 8)).astype(np.float32), rng.normal(size=(9, 8)).astype(np.float32)
    actual = nearest_cosines(jnp.asarray(embeddings), jnp.asarray(weights), 3)
    np.testing.assert_allclose(actual, oracle_cosines(embeddings, weights, 3), atol=1e-6)


def test_mixup_weighs_two_cross_entropies_each_with_its_own_margin() -> None:
    cosine, target_a = spread_cosines()
    target_b = (target_a + 1) % 4
    weight = np.linspace(0, 0.49, len(cosine))
    labels = Labels(*map(jnp.asarray, (target_a, target_b, weight.astype(np.float32))))
    actual = mixup_loss(jnp.asarray(cosine, jnp.float32), labels, 0.5)
    expected = (1 - weight) * oracle_loss(cosine, target_a, 0.5) + weight * oracle_loss(cosine, target_b, 0.5)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-4)


def test_the_gradient_is_finite_on_a_centre_opposite_to_it_and_at_zero() -> None:
    weights = jnp.eye(3, 4)
    embeddings = jnp.stack([weights[0], -weights[0], jnp.zeros(4)])
    a, b, weight = jnp.array([0, 0, 0]), jnp.array([1, 2, 1]), jnp.full(3, 0.3)

    def loss(e: jax.Array, w: jax.Array) -> jax.Array:
        return jnp.sum(mixup_loss(nearest_cosines(e, w), Labels(a, b, weight), 0.05))

    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(embeddings, weights)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)


def test_a_zero_embedding_is_equally_far_from_every_class() -> None:
    np.testing.assert_array_equal(heads.cosines(jnp.zeros((2, 4)), jnp.eye(3, 4)), 0.0)
