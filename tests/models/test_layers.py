"""Layers: sizes, padding, dtypes, and the form of each platform."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import export

from asdjax.models import layers
from asdjax.runtime import hardware


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


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


def test_a_global_depthwise_convolution_weighs_the_whole_map_of_each_channel() -> None:
    x, kernel = normal(2, 4, 3, 5), normal(4, 3, 5, seed=1)
    conv = layers.GlobalDepthwiseConv(5, (4, 3), dtype=jnp.float32)
    conv.kernel[...] = kernel
    np.testing.assert_allclose(conv(x), np.sum(np.asarray(x) * np.asarray(kernel), axis=(1, 2)), rtol=1e-5, atol=1e-5)


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
