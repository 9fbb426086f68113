"""AdaCos and sub-cluster AdaCos, compared with their papers' formulas in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asdjax.errors import InputError
from asdjax.models import adacos, heads
from asdjax.models.heads import HeadSpec, Labels

CLASSES, CLUSTERS, ROWS = 5, 3, 7


def spec(name: str, classes: int = CLASSES, subcentres: int = CLUSTERS) -> HeadSpec:
    return HeadSpec(name, classes, subcentres, margin_radians=0.05, scale=30.0)


def batch(low: float = -0.6) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return cosines (b, k, c), classes a and b of each row, and weights of b."""
    rng = np.random.default_rng(0)
    a = rng.integers(0, CLASSES, ROWS)
    cosine = rng.uniform(low, 0.95, (ROWS, CLASSES, CLUSTERS)).astype(np.float32).astype(np.float64)
    return cosine, a, (a + rng.integers(1, CLASSES, ROWS)) % CLASSES, rng.uniform(0, 0.5, ROWS)


def labels_of(a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> Labels:
    return Labels(jnp.asarray(a), jnp.asarray(b), jnp.asarray(weight, jnp.float32))


def oracle_loss(cosine: np.ndarray, target: np.ndarray, scale: float) -> np.ndarray:
    """Compute the loss by a softmax over all clusters; a class's probability is the sum over its clusters."""
    shares = np.exp(scale * cosine)
    of_class = shares.sum(axis=2) / shares.sum(axis=(1, 2))[:, None]
    return -np.log(of_class[np.arange(len(target)), target])


def oracle_scale(sums: np.ndarray, cosine: np.ndarray, a: np.ndarray, b: np.ndarray, weight: np.ndarray) -> float:
    """Divide the log of the mean row sum by the cosine of the median angle, which is at most pi / 4."""
    theta = np.arccos(cosine.max(axis=2))
    rows = np.arange(len(a))
    median = np.median((1 - weight) * theta[rows, a] + weight * theta[rows, b])
    return np.log(sums.mean()) / np.cos(min(np.pi / 4, median))


@pytest.mark.parametrize(("name", "centres"), [("adacos_fixed", 5), ("adacos", 5), ("subcluster_adacos", 15)])
def test_the_first_scale(name: str, centres: int):
    assert heads.make_head(spec(name)).first_scale == pytest.approx(np.sqrt(2) * np.log(centres - 1), rel=1e-12)


@pytest.mark.parametrize("name", ["adacos_fixed", "adacos", "subcluster_adacos"])
def test_losses_and_their_gradients(name: str):
    cosine, a, b, weight = batch()
    head, scale = heads.make_head(spec(name)), 4.0

    def oracle(cosine: np.ndarray) -> np.ndarray:
        seen = cosine if name == "subcluster_adacos" else cosine.max(axis=2, keepdims=True)
        return (1 - weight) * oracle_loss(seen, a, scale) + weight * oracle_loss(seen, b, scale)

    def ours(cosine: jax.Array) -> jax.Array:
        return heads.mixup_loss(head, cosine, labels_of(a, b, weight), jnp.float32(scale))

    given = jnp.asarray(cosine, jnp.float32)
    np.testing.assert_allclose(ours(given), oracle(cosine), rtol=1e-5)
    slope = np.empty_like(cosine)
    for i in np.ndindex(cosine.shape):
        moved = np.zeros_like(cosine)
        moved[i] = 1e-6
        slope[i] = (oracle(cosine + moved) - oracle(cosine - moved)).sum() / 2e-6
    np.testing.assert_allclose(jax.grad(lambda c: jnp.sum(ours(c)))(given), slope, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("near", [False, True])
def test_the_dynamic_scale_of_adacos(near: bool):
    """Only the other classes count. The median angle matters if it is below pi / 4."""
    cosine, a, b, weight = batch()
    if near:
        cosine[np.arange(ROWS), a] = 0.97
        weight[:] = 0.0
    others = np.arange(CLASSES) != a[:, None]
    sums = np.where(others, np.exp(4.0 * cosine.max(axis=2)), 0).sum(axis=1)
    rescaled = heads.make_head(spec("adacos")).rescale
    assert rescaled is not None
    actual = rescaled(jnp.asarray(cosine, jnp.float32), labels_of(a, b, weight), jnp.float32(4.0))
    assert float(actual) == pytest.approx(oracle_scale(sums, cosine, a, b, weight), rel=1e-5)


def test_the_dynamic_scale_of_sub_clusters_counts_every_cluster():
    cosine, a, b, weight = batch()
    sums = np.exp(4.0 * cosine).sum(axis=(1, 2))
    rescaled = heads.make_head(spec("subcluster_adacos")).rescale
    assert rescaled is not None
    actual = rescaled(jnp.asarray(cosine, jnp.float32), labels_of(a, b, weight), jnp.float32(4.0))
    assert float(actual) == pytest.approx(oracle_scale(sums, cosine, a, b, weight), rel=1e-5)


def test_the_scale_stays_where_a_loss_still_tells_something():
    """All other classes are far away, so the formula alone would turn negative."""
    cosine = np.full((ROWS, CLASSES, CLUSTERS), -0.9)
    _, a, b, weight = batch()
    rescaled = heads.make_head(spec("adacos")).rescale
    assert rescaled is not None
    actual = rescaled(jnp.asarray(cosine, jnp.float32), labels_of(a, b, weight), jnp.float32(8.0))
    assert float(actual) == adacos.LEAST_SCALE


def test_a_large_scale_does_not_overflow():
    cosine, a, b, weight = batch(low=0.9)
    rescaled = heads.make_head(spec("subcluster_adacos")).rescale
    assert rescaled is not None
    assert np.isfinite(rescaled(jnp.asarray(cosine, jnp.float32), labels_of(a, b, weight), jnp.float32(200.0)))
    assert np.isfinite(adacos.loss(jnp.asarray(cosine, jnp.float32), jnp.asarray(a), 200.0)).all()


@pytest.mark.parametrize(
    ("name", "subcentres", "refused"),
    [("adacos", 8, True), ("adacos_fixed", 1, True), ("subcluster_adacos", 1, True), ("subcluster_adacos", 2, False)],
)
def test_two_centres_give_adacos_no_scale(name: str, subcentres: int, refused: bool):
    two = spec(name, classes=2, subcentres=subcentres)
    if refused:
        with pytest.raises(InputError, match=rf"config.loss: expected three class centres or more for {name}, got 2"):
            heads.make_head(two)
    else:
        assert heads.make_head(two).first_scale > 1
