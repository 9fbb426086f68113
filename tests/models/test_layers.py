"""Layers and operation forms, compared with numpy or with the compiler's own convolution."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python
from flax import nnx
from jax import export
from jax.typing import DTypeLike

from asdjax.models import layers
from asdjax.models.ops import convolution, depthwise, pooling
from asdjax.models.ops.normalisation import batch_normalise, batch_normalise_then_activate, linear, prelu
from asdjax.models.ops.sums import ChannelSum, sum_by_channel, sum_by_channel_in_stages
from asdjax.runtime import hardware
from asdjax.runtime.per_platform import Form, PerPlatform


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 3))
def value_and_gradients(form: Form, x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, ...]:
    """Return a convolution's output, and the gradients of x and the kernel for a fixed gradient of that output."""
    y, backward = jax.vjp(lambda x, kernel: form(x, kernel, stride), x, kernel)
    return y, *backward(normal(*y.shape, seed=2).astype(y.dtype))


@pytest.mark.parametrize("size", [(9, 7), (8, 4), (6, 1)], ids=["odd", "even", "narrower than the kernel"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("form", "plain", "kernel"),
    [
        (depthwise.shifted_products, depthwise.grouped_conv, (3, 3, 3)),
        (depthwise.shifted_products, depthwise.grouped_conv, (5, 5, 3)),
        (convolution.pointwise_conv, convolution.conv, (1, 1, 3, 5)),
        (convolution.conv_rows_as_channels, convolution.conv, (3, 3, 1, 5)),
        (convolution.conv_rows_as_channels, convolution.conv, (7, 7, 1, 5)),
        (convolution.conv_with_tapwise_gradient, convolution.conv, (3, 3, 40, 5)),
        (convolution.conv_with_tapwise_gradient, convolution.conv, (3, 3, 256, 2)),
        (convolution.conv_with_tapwise_gradient, convolution.conv, (3, 3, 16, 5)),
        (depthwise.shifted_products, depthwise.grouped_conv, (3, 1, 3)),
        (convolution.conv_rows_as_channels, convolution.conv, (3, 1, 1, 5)),
        (convolution.conv_with_tapwise_gradient, convolution.conv, (3, 1, 3, 5)),
        (depthwise.padded_shifts, depthwise.grouped_conv, (3, 3, 3)),
        (depthwise.padded_shifts, depthwise.grouped_conv, (5, 5, 3)),
        (depthwise.padded_shifts, depthwise.grouped_conv, (3, 1, 3)),
        (convolution.pointwise_conv_in_parts, convolution.conv, (1, 1, 3, 5)),
        (convolution.banded_product, convolution.conv, (3, 3, 4, 5)),
        (convolution.banded_product, convolution.conv, (7, 7, 1, 5)),
        (convolution.banded_product, convolution.conv, (3, 1, 4, 5)),
    ],
    ids=[
        *("shifted products, 3x3", "shifted products, 5x5", "product, 1x1", "rows, 3x3", "rows, 7x7", "taps, 3x3"),
        *("taps, 3x3 of many", "several taps", "shifted products, 3x1", "rows, 3x1", "taps, 3x1"),
        *("padded shifts, 3x3", "padded shifts, 5x5", "padded shifts, 3x1", "product in parts"),
        *("band, 3x3", "band, 7x7", "band, 3x1"),
    ],
)
def test_forms_are_the_compilers_convolutions_with_both_their_gradients(
    form: Form, plain: Form, kernel: tuple[int, ...], stride: int, size: convolution.Size
) -> None:
    x, weights = normal(2, *size, kernel[2]), normal(*kernel, seed=1)
    ours, reference = (value_and_gradients(each, x, weights, stride) for each in (form, plain))
    for actual, expected in zip(ours, reference, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)


# a GPU's form, the compiler's own, and the shape of a kernel
GPU_FORMS = [
    (convolution.banded_product, convolution.conv, (3, 3, 3, 5)),
    (convolution.pointwise_conv_in_parts, convolution.conv, (1, 1, 3, 5)),
    (depthwise.padded_shifts, depthwise.grouped_conv, (3, 3, 3)),
]


@pytest.mark.parametrize(
    ("form", "plain", "kernel"),
    [
        (convolution.conv_with_tapwise_gradient, convolution.conv, (3, 3, 3, 5)),
        *GPU_FORMS,
    ],
)
def test_in_half_precision_forms_and_gradients_are_those_in_single(
    form: Form, plain: Form, kernel: tuple[int, ...]
) -> None:
    x, weights = normal(2, 8, 4, 3), normal(*kernel, seed=1)
    half = value_and_gradients(form, x.astype(jnp.bfloat16), weights.astype(jnp.bfloat16), 1)
    for actual, expected in zip(half, value_and_gradients(plain, x, weights, 1), strict=True):
        assert actual.dtype == jnp.bfloat16
        np.testing.assert_allclose(actual.astype(jnp.float32), expected, rtol=0.1, atol=0.3)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("form", "plain", "kernel"), GPU_FORMS)
def test_forms_of_a_gpu_of_several_models_at_once_are_those_of_each(
    form: Form, plain: Form, kernel: tuple[int, ...], stride: int
) -> None:
    x, weights = normal(3, 2, 8, 4, 3), normal(3, *kernel, seed=1)
    together = jax.vmap(lambda x, kernel: value_and_gradients(form, x, kernel, stride))(x, weights)
    for i in range(3):
        for actual, expected in zip(together, value_and_gradients(plain, x[i], weights[i], stride), strict=True):
            np.testing.assert_allclose(actual[i], expected, rtol=1e-5, atol=1e-5)


def test_a_kernels_gradient_in_parts_is_that_of_all_rows() -> None:
    x, weights = normal(4, 256, 8, 6), normal(1, 1, 6, 5, seed=1)
    made = jax.make_jaxpr(lambda: value_and_gradients(convolution.pointwise_conv_in_parts, x, weights, 1))()
    assert "f32[4,6,5]" in str(made)
    in_parts, at_once = (
        value_and_gradients(form, x, weights, 1)
        for form in (convolution.pointwise_conv_in_parts, convolution.pointwise_conv)
    )
    for actual, expected in zip(in_parts, at_once, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("form", [depthwise.padded_shifts, depthwise.shifted_products, depthwise.grouped_conv])
def test_a_depthwise_kernel_wider_than_its_map_has_a_gradient_as_wide(form: Form, stride: int) -> None:
    """The maps have enough rows for a GPU's form to sum them in runs."""
    x, weights = normal(2, 64, 4, 3), normal(3, 3, 3, seed=1)
    made = value_and_gradients(form, x.astype(jnp.bfloat16), weights, stride)
    assert [array.dtype for array in made] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    for actual, expected in zip(made, value_and_gradients(depthwise.grouped_conv, x, weights, stride), strict=True):
        np.testing.assert_allclose(actual.astype(jnp.float32), expected, rtol=0.1, atol=0.5)
    single = value_and_gradients(form, x, weights, stride)
    for actual, expected in zip(single, value_and_gradients(depthwise.grouped_conv, x, weights, stride), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4)


def test_a_band_that_would_be_mostly_zeros_is_not_made() -> None:
    for columns, primitive in ((36, "dot_general"), (37, "conv_general_dilated")):
        x, weights = jnp.zeros((1, 4, columns, 2)), jnp.zeros((3, 3, 2, 2))
        made = str(jax.make_jaxpr(lambda x, weights: convolution.banded_product(x, weights, 1))(x, weights))
        assert primitive in made


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("columns", "kernel", "left"), [(1, 3, 1), (1, 5, 1), (2, 5, 3), (2, 3, 3), (3, 5, 5), (1, 1, 1), (4, 7, 7)]
)
def test_what_meets_padding_only_is_left_out_and_changes_nothing(
    columns: int, kernel: int, left: int, stride: int
) -> None:
    x, weights = normal(2, 9, columns, 3), normal(kernel, kernel, 3, seed=1)
    cropped = convolution.crop_kernel(weights, (9, columns), stride)
    assert cropped.shape[0] == kernel
    assert cropped.shape[1] == left
    transposed = convolution.crop_kernel(weights.swapaxes(0, 1), (columns, 9), stride)
    np.testing.assert_array_equal(transposed, cropped.swapaxes(0, 1))
    full, part = (value_and_gradients(depthwise.grouped_conv, x, each, stride) for each in (weights, cropped))
    for actual, expected in zip(part[:2], full[:2], strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5)
    removed = (kernel - cropped.shape[1]) // 2
    np.testing.assert_allclose(full[2][:, removed : kernel - removed], part[2], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(full[2][:, :removed], 0)


@pytest.mark.parametrize(("k", "stride"), [(3, 1), (3, 2), (5, 2), (7, 2)])
def test_padding_is_symmetric(k: int, stride: int) -> None:
    x = normal(1, 8, 6, 1)
    dense, depthwise = (
        layers.Conv(1, 1, k, stride=stride, dtype=jnp.float32),
        layers.DepthwiseConv(1, k, stride=stride),
    )
    centre = np.zeros((k, k), np.float32)
    centre[k // 2, k // 2] = 1
    dense.kernel[...], depthwise.kernel[...] = jnp.asarray(centre[..., None, None]), jnp.asarray(centre[..., None])
    for conv in (dense, depthwise):
        np.testing.assert_array_equal(jax.jit(conv.__call__)(x), x[:, ::stride, ::stride])


@pytest.mark.parametrize("form", [pooling.max_pool, pooling.max_pool_by_axes])
def test_max_pool_takes_the_largest_of_nine_around_every_other_input(form: Form) -> None:
    x = normal(2, 7, 6, 3) - 10
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
    expected = [[padded[:, i : i + 3, j : j + 3].max((1, 2)) for j in (0, 2, 4)] for i in (0, 2, 4, 6)]
    np.testing.assert_array_equal(form(x), np.moveaxis(np.array(expected), 2, 0))


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 1)], ids=["even", "odd", "one"])
def test_the_gradient_of_max_pool_goes_to_each_maximum(size: convolution.Size) -> None:
    x = normal(2, *size, 3)
    y, backward = jax.vjp(pooling.max_pool, x)
    direction = normal(*y.shape, seed=1)
    actual = jax.vjp(pooling.max_pool_by_axes, x)[1](direction)[0]
    np.testing.assert_allclose(actual, backward(direction)[0], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("form", [pooling.max_pool, pooling.max_pool_by_axes])
def test_of_equal_maxima_one_has_the_gradient(form: Form) -> None:
    gradient = jax.grad(lambda x: jnp.sum(form(x)))(jnp.ones((1, 4, 4, 1)))
    assert jnp.sum(gradient) == 4


def test_prelu_has_a_slope_per_channel_below_zero() -> None:
    slopes = jnp.array([[0.25, -1.0]])
    np.testing.assert_array_equal(prelu(jnp.array([[2.0, 2.0], [-2.0, -2.0]]), slopes), [[2.0, 2.0], [-0.5, 2.0]])


def test_a_global_depthwise_convolution_weighs_the_whole_map_of_each_channel() -> None:
    x, kernel = normal(2, 4, 3, 5), normal(4, 3, 5, seed=1)
    conv = layers.GlobalDepthwiseConv(5, (4, 3), dtype=jnp.float32)
    conv.kernel[...] = kernel
    np.testing.assert_allclose(conv(x), np.sum(np.asarray(x) * np.asarray(kernel), axis=(1, 2)), rtol=1e-5, atol=1e-5)


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

    y, backward = jax.vjp(lambda x, scale, bias, *of: batch_norm(scale, bias)(x, activation_form, *of), *arrays)
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
    split = jax.device_put(x, NamedSharding(hardware.data_meshes()[0], PartitionSpec("data")))
    for channel_sum in (sum_by_channel, sum_by_channel_in_stages):
        for found, exact in zip(jax.jit(lambda x: channel_sum(x, x**2))(split), (np.float64(x), np.float64(x) ** 2)):
            np.testing.assert_allclose(found, exact.sum((0, 1, 2)), rtol=1e-5)
print(len(split.sharding.device_set))
"""


GRADIENTS_OVER_DEVICES = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from asdjax.runtime import hardware
from flax import nnx
from asdjax.models.ops import convolution, depthwise
from asdjax.models.ops.normalisation import batch_normalise
from asdjax.models.ops.sums import sum_by_channel_in_stages
split, whole = (NamedSharding(hardware.data_meshes()[0], PartitionSpec(*axes)) for axes in (["data"], []))
x = jax.ShapeDtypeStruct((6, 64, 32, 8), jnp.float32, sharding=split)
for form, shape in (
    (convolution.pointwise_conv_in_parts, (1, 1, 8, 8)),
    (convolution.banded_product, (3, 3, 8, 8)),
    (depthwise.padded_shifts, (3, 3, 8)),
):
    kernel = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=whole)
    gradient = jax.jit(jax.grad(lambda kernel, x: jnp.sum(jnp.square(form(x, kernel, 1)))))
    compiled = gradient.lower(kernel, x).compile().as_text()
    print("all-reduce" in compiled, "all-gather" in compiled)
norm = lambda scale, x: batch_normalise(x, scale, scale, (), nnx.silu, sum_by_channel_in_stages)[0]
gradient = jax.jit(jax.grad(lambda scale, x: jnp.sum(jnp.square(norm(scale, x)))))
compiled = gradient.lower(jax.ShapeDtypeStruct((8,), jnp.float32, sharding=whole), x).compile().as_text()
print("all-reduce" in compiled, "all-gather" in compiled)
"""


def test_devices_tell_each_other_kernels_gradients_and_no_maps() -> None:
    ran = python(GRADIENTS_OVER_DEVICES, env={"XLA_FLAGS": "--xla_force_host_platform_device_count=3"})
    assert ran.stdout == 4 * "True False\n", ran.stderr


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


@pytest.mark.parametrize("evaluating", [False, True])
def test_a_unit_with_prelu_uses_its_slopes(evaluating: bool) -> None:
    unit = layers.ConvNormPReLU(layers.DepthwiseConv(2, 3), 2)
    unit.conv.kernel[...] = normal(3, 3, 2)
    linear_unit = layers.ConvNorm(unit.conv, 2)
    unit.slope[...] = jnp.array([0.25, -0.5])
    if evaluating:
        unit.eval()
        linear_unit.eval()
    x = normal(2, 6, 4, 2)
    y = np.asarray(linear_unit(x))
    np.testing.assert_allclose(unit(x), np.where(y > 0, y, y * [0.25, -0.5]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(2, 64, 8, 3), (2, 16, 16, 3), (2, 5, 3, 3)], ids=["large", "runs", "odd"])
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


def convolutions() -> list[nnx.Module]:
    """Return the layers with a form per platform, of one or two channels, with kernels that are not zero."""
    made = [
        layers.Conv(1, 8, 3, dtype=jnp.float32),
        layers.Conv(2, 8, 1, dtype=jnp.float32),
        layers.DepthwiseConv(2, 3),
    ]
    for layer in made:
        layer.kernel[...] = normal(*layer.kernel.shape, seed=1)
    return [*made, layers.MaxPool()]


@pytest.mark.parametrize(("layer", "c_in"), [*zip(convolutions(), (1, 2, 2, 2), strict=True)])
def test_what_has_a_form_for_each_platform_computes_the_same_in_training_and_evaluation(
    layer: nnx.Module, c_in: int
) -> None:
    x = normal(2, 8, 6, c_in)
    in_training = layer(x)
    assert np.asarray(in_training).any()
    layer.eval()
    np.testing.assert_allclose(jax.jit(layer.__call__)(x), in_training, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("layer", "c_in", "operation", "where"),
    [
        (convolutions()[0], 1, "concatenate", ["cpu", "cuda"]),
        (convolutions()[1], 2, "convolution", ["tpu"]),
        (convolutions()[2], 2, "convolution", ["tpu"]),
        (convolutions()[3], 2, "reduce_window", ["tpu"]),
    ],
)
def test_evaluation_takes_each_platforms_own_form_too(
    layer: nnx.Module, c_in: int, operation: str, where: list[str]
) -> None:
    layer.eval()
    module = jax.jit(layer.__call__)
    for platform in ("cpu", "cuda", "tpu"):
        lowered = export.export(module, platforms=[platform])(jnp.zeros((1, 8, 6, c_in))).mlir_module()
        assert (f"stablehlo.{operation}" in lowered) == (platform in where), platform


@pytest.mark.parametrize(
    ("layer", "c_in"),
    [*zip(convolutions(), (1, 2, 2, 2), strict=True), (layers.Conv(2, 8, 3, dtype=jnp.float32), 2)],
)
def test_evaluation_is_exported_for_every_platform_and_any_number_of_pieces(layer: nnx.Module, c_in: int) -> None:
    layer.eval()
    shape = jax.ShapeDtypeStruct((*export.symbolic_shape("b"), 32, 16, c_in), jnp.float32)
    made = export.export(jax.jit(layer.__call__), platforms=["cpu", "cuda", "tpu"])(shape)
    x = normal(3, 32, 16, c_in)
    np.testing.assert_allclose(made.call(x), layer(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "c_in", "primitives"),
    [
        (layers.Conv(1, 8, 3, dtype=jnp.float32), 1, {"cpu": "concatenate", "gpu": "dot_general", "tpu": "conv"}),
        (
            layers.Conv(2, 8, 1, dtype=jnp.float32),
            2,
            {"cpu": "custom_vjp_call", "gpu": "custom_vjp_call", "tpu": "conv"},
        ),
        (
            layers.DepthwiseConv(2, 3),
            2,
            {"cpu": "custom_vjp_call", "gpu": "custom_vjp_call", "tpu": "conv"},
        ),
        (layers.MaxPool(), 1, {"cpu": "custom_vjp_call", "gpu": "custom_vjp_call", "tpu": "reduce_window"}),
    ],
)
def test_each_platform_has_its_own_form(
    layer: Callable[[jax.Array], jax.Array], c_in: int, primitives: dict[str, str]
) -> None:
    for platform, expected in primitives.items():
        with hardware.compiling_for(platform):
            made = jax.make_jaxpr(layer.__call__)(jnp.zeros((1, 8, 6, c_in)))
        named = [equation.primitive.name for equation in made.eqns]
        assert any(name.startswith(expected) for name in named), (platform, named)
        assert platform != "tpu" or "custom_vjp_call" not in named


@pytest.mark.parametrize(
    ("channels", "width", "expected"), [(64, 1.0, 64), (4, 1.0, 4), (64, 0.125, 8), (24, 0.125, 8), (112, 0.5, 56)]
)
def test_widths_are_exact_at_one_and_multiples_of_eight_elsewhere(channels: int, width: float, expected: int) -> None:
    assert layers.scale_width(channels, width) == expected


def test_every_layer_computes_in_half_precision() -> None:
    x = jnp.ones((2, 4, 4, 8), jnp.bfloat16)
    modules: list[nnx.Module] = [
        layers.Conv(8, 8, 3, dtype=jnp.bfloat16),
        layers.Conv(8, 8, 1, dtype=jnp.bfloat16),
        nnx.Sequential(lambda x: x[..., :1], layers.Conv(1, 8, 3, dtype=jnp.bfloat16)),
        layers.DepthwiseConv(8, 3),
        layers.MaxPool(),
        layers.BatchNorm(8),
        layers.ConvNormPReLU(layers.Conv(8, 8, 1, dtype=jnp.bfloat16), 8),
        layers.GlobalDepthwiseConv(8, (4, 4), dtype=jnp.bfloat16),
    ]
    assert [module(x).dtype for module in modules] == [jnp.bfloat16] * len(modules)
    assert all(leaf.dtype == jnp.float32 for module in modules for leaf in jax.tree.leaves(nnx.state(module)))
