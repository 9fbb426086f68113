"""Each operation's other forms, one at a time in a whole training step beside those that the package chooses.

uv run python tests/perf/op_forms.py --batch 8                       measured here, on a GPU or CPU: minutes
uv run --extra tpu python tests/perf/op_forms.py --devices v5e:1x1   by the compiler's estimate for a TPU: hours
uv run --extra cuda python tests/perf/op_forms.py --devices h200:1   by what a GPU's program moves: an hour

What the choices of models/layers.py and signal.py rest on, and what to run on a platform where they are not measured.
`plain` is all operations at once as the compiler's own, the normalisation left to autodiff.
"""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp

from asdjax import features
from asdjax.cli import console
from asdjax.config.fields import VARIANTS
from asdjax.errors import InputError
from asdjax.models import layers
from asdjax.models.ops import convolution, depthwise, normalisation, pooling, sums
from asdjax.models.ops.normalisation import Activation, Parameters
from asdjax.models.ops.sums import ChannelSum
from asdjax.perf.bench_step import Step, make_bench_config, make_bench_spec
from asdjax.perf.bench_train import FLEET
from asdjax.perf.measure import in_turn, ratio
from asdjax.perf.plan import plan
from asdjax.perf.targets import parse_target
from asdjax.runtime import hardware
from asdjax.runtime.per_platform import Form, PerPlatform
from asdjax.training import step as step_module

USUAL = ("mobilefacenet_512", "resnet50_512", "efficientnet_b0_512")
PLAIN = "plain"


class Choice(NamedTuple):
    """A form of an operation, and where the package looks it up."""

    operation: str
    module: Any
    name: str
    form: Any

    def patch(self) -> Any:
        """A context in which every platform takes it."""
        by_platform = isinstance(getattr(self.module, self.name), PerPlatform)
        everywhere = PerPlatform(self.form, self.form, self.form) if by_platform else self.form
        return mock.patch.object(self.module, self.name, everywhere)

    def is_chosen(self, platform: str) -> bool:
        """Whether the package takes it there anyway."""
        chosen = getattr(self.module, self.name)
        if isinstance(chosen, PerPlatform):
            chosen = getattr(chosen, platform)
        return chosen is self.form


def by_autodiff(
    x: jax.Array,
    scale: jax.Array,
    bias: jax.Array,
    parameters: Parameters,
    activation: Activation,
    _: ChannelSum,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """As normalisation.batch_normalise, by the definition."""
    wide = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean, var = jnp.mean(wide, axes, keepdims=True), jnp.var(wide, axes, keepdims=True)
    scale, bias, *parameters = (normalisation.per_channel(array, x) for array in (scale, bias, *parameters))
    y = activation((wide - mean) * jax.lax.rsqrt(var + normalisation.EPSILON) * scale + bias, *parameters)
    return y.astype(x.dtype), *jax.lax.stop_gradient((mean.ravel(), var.ravel()))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_products_but_kernels(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """As depthwise.shifted_products, the kernel's gradient the compiler's own."""
    return depthwise.shifted_products(x, kernel, stride)


def _but_kernels_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, Any]:
    return depthwise.shifted_products(x, kernel, stride), (x, kernel)


def _but_kernels_backward(stride: int, saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    (to_x,) = jax.vjp(lambda x: depthwise.shifted_products(x, kernel, stride), x)[1](gradient)
    (to_kernel,) = jax.vjp(lambda kernel: depthwise.grouped_conv(x, kernel, stride), kernel)[1](gradient)
    return to_x, to_kernel


shifted_products_but_kernels.defvjp(_but_kernels_forward, _but_kernels_backward)

IN_LAYERS: dict[str, tuple[Form, ...]] = {
    "POINTWISE": (convolution.conv, convolution.pointwise_conv, convolution.pointwise_conv_in_parts),
    "ONE_CHANNEL": (
        convolution.conv,
        convolution.conv_rows_as_channels,
        convolution.conv_with_tapwise_gradient,
        convolution.banded_product,
    ),
    "DENSE": (convolution.conv, convolution.conv_with_tapwise_gradient, convolution.banded_product),
    "DEPTHWISE": (
        depthwise.grouped_conv,
        depthwise.shifted_products,
        shifted_products_but_kernels,
        depthwise.padded_shifts,
    ),
    "BATCH_NORM": (by_autodiff, normalisation.batch_normalise_then_activate, normalisation.batch_normalise),
    "MAX_POOL": (pooling.max_pool, pooling.max_pool_by_axes),
    "CHANNEL_SUM": (sums.sum_by_channel, sums.sum_by_channel_in_stages),
}
"""By their names in models/layers.py; the compiler's own first."""
ABSENT = {
    "mobilefacenet": ("dense", "max_pool"),
    "resnet50": ("depthwise",),
    "efficientnet_b0": ("dense", "max_pool"),
}
"""What a backbone has not."""
CHOICES = (
    *(Choice(name.lower(), layers, name, form) for name, forms in IN_LAYERS.items() for form in forms),
    Choice("stft", features, "MAGNITUDES", features.fft_magnitudes),
    Choice("stft", features, "MAGNITUDES", features.matmul_magnitudes),
)
OPERATIONS = (*dict.fromkeys(choice.operation for choice in CHOICES), PLAIN)


class Other(NamedTuple):
    """What to take instead of what the package chooses."""

    operation: str
    form: str
    choices: tuple[Choice, ...]


def others(members: Sequence[str], platform: str, operations: Sequence[str]) -> Iterator[Other]:
    """All that these variants have on that platform."""
    absent = set.intersection(*(set(ABSENT[variant.rpartition("_")[0]]) for variant in members))
    for choice in CHOICES:
        if choice.operation in operations and choice.operation not in absent and not choice.is_chosen(platform):
            yield Other(choice.operation, choice.form.__name__, (choice,))
    if PLAIN in operations:
        first = {choice.operation: choice for choice in reversed(CHOICES)}
        yield Other(PLAIN, "", tuple(first.values()))


@contextmanager
def taken(other: Other) -> Iterator[None]:
    """Within it what is traced has the other form."""
    with ExitStack() as patches:
        for choice in other.choices:
            patches.enter_context(choice.patch())
        step_module._compile_steps.cache_clear()
        try:
            yield
        finally:
            step_module._compile_steps.cache_clear()


def measured(members: Sequence[str], options: argparse.Namespace) -> None:
    """Here, each in turn with what is chosen; its speed over that one's."""
    spec = make_bench_spec(members, options.batch, options.width)
    chosen = Step(spec)
    tell("as chosen", 1e3 * in_turn({"chosen": chosen.run})["chosen"].median)
    for other in others(members, hardware.platform(), options.operations):
        with taken(other):
            step = Step(spec)
        times = in_turn({"chosen": chosen.run, "other": step.run})
        tell(
            name_of(other),
            1e3 * times["other"].median,
            f"{ratio(times['other'], times['chosen']):6.2f} x as fast as the chosen one in turn with it",
        )


def planned(members: Sequence[str], options: argparse.Namespace) -> None:
    """For devices that need not be here: the compiler's estimate, where it makes one, else at least how long memory
    takes; and what moves to and from memory."""
    config = make_bench_config(members, options.batch, options.width)

    def told(name: str) -> None:
        made = plan(config, options.devices)
        step, least = made["step"], made["roofline"]["memory_s"]
        seconds = made["estimate"]["step_s"] if made["estimate"] else least
        tell(name, 1e3 * seconds, f"{step['bytes_accessed'] / 1e9:7.2f} GB {step['operations']:6,} operations")

    told("as chosen")
    for other in others(members, parse_target(options.devices).platform, options.operations):
        with taken(other):
            told(name_of(other))


def name_of(other: Other) -> str:
    return f"{other.operation}: {other.form}" if other.form else other.operation


def tell(name: str, step_ms: float, more: str = "") -> None:
    print(f"  {name:48}{step_ms:9.2f} ms a step {more}".rstrip(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", metavar="D", help="to plan for: v5e:1x1, h200:1, ...")
    parser.add_argument(
        "--variants", type=console.parse_names, default=USUAL, help=f"any of the six, and {FLEET} for all"
    )
    parser.add_argument(
        "--operations", type=console.parse_names, default=OPERATIONS, help=f"of {', '.join(OPERATIONS)}"
    )
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--width", type=float, default=1.0)
    options = parser.parse_args()
    for given, known in ((options.variants, (*VARIANTS, FLEET)), (options.operations, OPERATIONS)):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"expected any of {', '.join(known)}, got {', '.join(unknown)}")
    try:
        if options.devices and parse_target(options.devices).sheet is None:
            parser.error(f"--devices: expected devices with a data sheet, got {options.devices}")
    except InputError as error:
        parser.error(str(error))
    for name in options.variants:
        print(name)
        members = VARIANTS if name == FLEET else (name,)
        (planned if options.devices else measured)(members, options)


if __name__ == "__main__":
    main()
