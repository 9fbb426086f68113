"""Forms of convolution and pooling, compared with the compiler's own or with numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python

from asdjax.models.ops import convolution, depthwise, pooling
from asdjax.runtime.per_platform import Form


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@functools.partial(jax.jit, static_argnums=(0, 3))
def value_and_gradients(form: Form, x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, ...]:
    """Return a convolution's output, and the gradients of x and the kernel for a fixed gradient of that output."""
    y, backward = jax.vjp(lambda x, kernel: form(x, kernel, stride), x, kernel)
    return y, *backward(normal(*y.shape, seed=2).astype(y.dtype))


@pytest.mark.parametrize(
    "size",
    [(9, 7), pytest.param((8, 4), marks=pytest.mark.slow), (6, 1)],
    ids=["odd", "even", "narrower than the kernel"],
)
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


GRADIENTS_OVER_DEVICES = """
import jax, jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec
from asdjax.runtime import hardware
from flax import nnx
from asdjax.models.ops import convolution, depthwise
from asdjax.models.ops.normalisation import batch_normalise
from asdjax.models.ops.sums import sum_by_channel_in_stages
split, whole = (NamedSharding(hardware.make_meshes()[0], PartitionSpec(*axes)) for axes in (["data"], []))
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
