"""Batch normalisation and sums by channel, compared with numpy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python
from flax import nnx
from jax.typing import DTypeLike

from asdjax.models import layers
from asdjax.models.ops.normalisation import batch_normalise, batch_normalise_then_activate, linear, prelu
from asdjax.models.ops.sums import ChannelSum, sum_by_channel, sum_by_channel_in_stages
from asdjax.runtime.per_platform import Form, PerPlatform


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def test_prelu_has_a_slope_per_channel_below_zero() -> None:
    slopes = jnp.array([[0.25, -1.0]])
    np.testing.assert_array_equal(prelu(jnp.array([[2.0, 2.0], [-2.0, -2.0]]), slopes), [[2.0, 2.0], [-0.5, 2.0]])


def batch_norm(scale: jax.Array, bias: jax.Array) -> layers.BatchNorm:
    norm = layers.BatchNorm(len(scale))
    norm.scale.set_value(scale)
    norm.bias.set_value(bias)
    return norm


def numpy_batch_norm(x: np.ndarray, scale: np.ndarray, bias: np.ndarray) -> np.ndarray:
    axes = tuple(range(x.ndim - 1))
    return (x - x.mean(axes)) / np.sqrt(x.var(axes) + 1e-5) * scale + bias


CHANNEL_SUMS = [sum_by_channel, sum_by_channel_in_stages]
# each activation, and its numpy counterpart
ACTIVATIONS = {
    "linear": (linear, lambda y: y),
    "relu": (nnx.relu, lambda y: np.maximum(y, 0)),
    "prelu": (prelu, lambda y, slope: np.where(y > 0, y, slope * y)),
    "silu": (nnx.silu, lambda y: y / (1 + np.exp(-y))),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalise", [batch_normalise, batch_normalise_then_activate])
@pytest.mark.parametrize("channel_sum", CHANNEL_SUMS)
@pytest.mark.parametrize("shape", [(3, 4, 4, 2), (5, 2)], ids=["maps", "rows"])
def test_batch_norm_and_its_gradients_equal_the_definition(
    shape: tuple[int, ...], channel_sum: ChannelSum, normalise: Form, activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "CHANNEL_SUM", PerPlatform(channel_sum, channel_sum, channel_sum))
    monkeypatch.setattr(layers, "BATCH_NORM", PerPlatform(normalise, normalise, normalise))
    activation_form, by_numpy = ACTIVATIONS[activation]
    # one channel varies so little that the epsilon matters
    x = normal(*shape) * jnp.array([3.0, 0.003]).reshape((1,) * (len(shape) - 1) + (2,)) + 0.01
    parameters = (jnp.array([1.5, -0.5]), jnp.array([0.1, 0.2]), jnp.array([0.25, -0.5]))
    arrays, direction = (x, *parameters[: 3 if activation == "prelu" else 2]), normal(*shape, seed=1)

    def definition(x: np.ndarray, scale: np.ndarray, bias: np.ndarray, *channels: np.ndarray) -> np.ndarray:
        return by_numpy(numpy_batch_norm(x, scale, bias), *channels)

    y, backward = jax.vjp(lambda x, scale, bias, *slopes: batch_norm(scale, bias)(x, activation_form, *slopes), *arrays)
    arguments = [np.asarray(a, np.float64) for a in arrays]
    np.testing.assert_allclose(y, definition(*arguments), rtol=1e-4, atol=1e-4)
    for i, gradient in enumerate(backward(direction)):
        expected = np.empty(gradient.shape)
        for at in np.ndindex(gradient.shape):
            above, below = ([a.copy() for a in arguments] for _ in range(2))
            above[i][at] += 1e-6
            below[i][at] -= 1e-6
            difference = definition(*above) - definition(*below)
            expected[at] = np.sum(difference * np.asarray(direction)) / 2e-6
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("channel_sum", CHANNEL_SUMS)
@pytest.mark.parametrize(
    "shape",
    [(2, 3, 5, 4, 7), (2, 3, 8, 4, 7), (2, 3, 64, 8, 7), (2, 9, 7)],
    ids=["map", "map of runs", "large map", "rows"],
)
def test_sums_of_a_map_and_of_its_squares_of_one_model_and_of_several(
    shape: tuple[int, ...], channel_sum: ChannelSum
) -> None:
    x = normal(*shape) + 1
    exact = np.asarray(x, np.float64)
    axes = tuple(range(len(shape) - 1))
    for found, expected in zip(channel_sum(x, x**2), (exact, exact**2), strict=True):
        np.testing.assert_allclose(found, expected.sum(axes), rtol=1e-5)
    for found, expected in zip(jax.vmap(channel_sum)(x, x**2), (exact, exact**2), strict=True):
        np.testing.assert_allclose(found, expected.sum(axes[1:]), rtol=1e-5)
    for found, power in zip(channel_sum(x, x**2, x**3), (1, 2, 3), strict=True):
        np.testing.assert_allclose(found, (exact**power).sum(axes), rtol=1e-5)


OVER_DEVICES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from asdjax.runtime import hardware
from asdjax.models.ops.sums import sum_by_channel, sum_by_channel_in_stages
for rows in (5, 8):
    x = np.random.default_rng(0).normal(1, 2, (8, rows, 4, 7)).astype(np.float32)
    split = jax.device_put(x, NamedSharding(hardware.make_meshes()[0], PartitionSpec("data")))
    for channel_sum in (sum_by_channel, sum_by_channel_in_stages):
        for found, exact in zip(jax.jit(lambda x: channel_sum(x, x**2))(split), (np.float64(x), np.float64(x) ** 2)):
            np.testing.assert_allclose(found, exact.sum((0, 1, 2)), rtol=1e-5)
print(len(split.sharding.device_set))
"""


def test_sums_of_a_batch_that_is_split_over_devices_are_of_all_of_it() -> None:
    ran = python(OVER_DEVICES, env={"XLA_FLAGS": "--xla_force_host_platform_device_count=4"})
    assert ran.stdout == "4\n", ran.stderr


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 1, 2), (4, 2), (1, 2)], ids=["maps", "rows", "one value a channel"])
def test_the_running_variance_is_numpy_s_over_n_or_as_pytorch_s_over_one_less(
    shape: tuple[int, ...], unbiased: bool
) -> None:
    """The batch is normalised by the biased variance either way; one value has no unbiased variance."""
    norm, x = batch_norm(jnp.ones(2), jnp.zeros(2)), 3 * normal(*shape)
    norm.unbiased = unbiased
    by_numpy = np.asarray(x, np.float64)
    axes = tuple(range(len(shape) - 1))
    correct = unbiased and x.size > 2
    y = norm(x)
    np.testing.assert_allclose(y, numpy_batch_norm(by_numpy, np.ones(2), np.zeros(2)), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.var[...], 0.9 + 0.1 * np.var(by_numpy, axes, ddof=int(correct)), rtol=1e-5)
    np.testing.assert_allclose(norm.mean[...], 0.1 * by_numpy.mean(axes), rtol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_batch_norm_keeps_nine_tenths_of_its_running_averages_and_evaluates_with_them(activation: str) -> None:
    norm = batch_norm(jnp.array([2.0, 1.0]), jnp.array([0.0, 1.0]))
    activation_form, by_numpy = ACTIVATIONS[activation]
    slopes = (jnp.array([0.25, -0.5]),) if activation == "prelu" else ()
    mean, var = np.zeros(2), np.ones(2)
    for step in range(3):
        x = 2 * normal(4, 5, 3, 2, seed=step) + 1
        norm(x, activation_form, *slopes)
        mean = 0.9 * mean + 0.1 * np.mean(np.asarray(x), (0, 1, 2))
        var = 0.9 * var + 0.1 * np.var(np.asarray(x), (0, 1, 2))
    norm.eval()
    x = normal(1, 2, 2, 2)
    expected = by_numpy(
        (np.asarray(x) - mean) / np.sqrt(var + 1e-5) * [2.0, 1.0] + [0.0, 1.0], *map(np.asarray, slopes)
    )
    np.testing.assert_allclose(norm(x, activation_form, *slopes), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-5)
    np.testing.assert_allclose(norm.var[...], var, rtol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    "shape",
    [pytest.param((2, 64, 8, 3), marks=pytest.mark.slow), (2, 16, 16, 3), (2, 5, 3, 3)],
    ids=["large", "runs", "odd"],
)
def test_normalisation_of_a_gpu_of_several_models_at_once_in_half_precision(
    shape: tuple[int, ...], activation: str
) -> None:
    activation_form, _ = ACTIVATIONS[activation]
    x, direction = (normal(2, *shape, seed=i).astype(jnp.bfloat16).astype(jnp.float32) for i in (0, 1))
    parameters = [normal(2, 3, seed=2) + 2, normal(2, 3, seed=3)]
    if activation == "prelu":
        parameters.append(normal(2, 3, seed=4))

    def run(form: Form, channel_sum: ChannelSum, dtype: DTypeLike) -> list[np.ndarray]:
        def one(x: jax.Array, scale: jax.Array, bias: jax.Array, *slopes: jax.Array) -> jax.Array:
            return form(x, scale, bias, slopes, activation_form, channel_sum)[0]

        y, backward = jax.vjp(jax.vmap(one), x.astype(dtype), *parameters)
        return [np.asarray(array, np.float64) for array in (y, *backward(direction.astype(dtype)))]

    half = run(batch_normalise, sum_by_channel_in_stages, jnp.bfloat16)
    for found, expected in zip(half, run(batch_normalise_then_activate, sum_by_channel, jnp.float32), strict=True):
        np.testing.assert_allclose(found, expected, rtol=0.05, atol=0.05 * np.abs(expected).max())
