"""Compare each operation's other forms with the chosen one, one at a time, in a whole training step.

uv run python tests/perf/op_forms.py --batch 8                       measured on this GPU or CPU: minutes
uv run --extra tpu python tests/perf/op_forms.py --devices v5e:1x1   by the compiler's estimate for a TPU: hours
uv run --extra cuda python tests/perf/op_forms.py --devices h200:1   by the memory traffic of a GPU's program: an hour

The choices of models/layers.py and features.py rest on it. Run it on a platform where they were not measured. `plain`
takes the compiler's own form of all operations at once, and autodiff for the normalisation.
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
from asdjax.perf.bench_step import BenchStep, make_bench_config, make_bench_spec
from asdjax.perf.bench_train import FLEET
from asdjax.perf.measure import compute_ratio, time_in_turns
from asdjax.perf.plan import plan
from asdjax.perf.targets import parse_target
from asdjax.runtime import hardware
from asdjax.runtime.per_platform import Form, PerPlatform
from asdjax.training import step as step_module

USUAL = ("mobilefacenet_512", "resnet50_512", "efficientnet_b0_512")
PLAIN = "plain"


class Choice(NamedTuple):
    """One form of an operation, and the module attribute in which the package keeps its choice."""

    operation: str
    module: Any
    name: str
    form: Any

    def patch(self) -> Any:
        """Return a context in which every platform uses this form."""
        by_platform = isinstance(getattr(self.module, self.name), PerPlatform)
        everywhere = PerPlatform(self.form, self.form, self.form) if by_platform else self.form
        return mock.patch.object(self.module, self.name, everywhere)

    def is_chosen(self, platform: str) -> bool:
        """Return True if it is the package's choice on that platform."""
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
    """Compute normalisation.batch_normalise by its definition, with derivatives by autodiff."""
    wide = x.astype(jnp.float32)
    axes = tuple(range(x.ndim - 1))
    mean, var = jnp.mean(wide, axes, keepdims=True), jnp.var(wide, axes, keepdims=True)
    scale, bias, *parameters = (normalisation.per_channel(array, x) for array in (scale, bias, *parameters))
    y = activation((wide - mean) * jax.lax.rsqrt(var + normalisation.EPSILON) * scale + bias, *parameters)
    return y.astype(x.dtype), *jax.lax.stop_gradient((mean.ravel(), var.ravel()))


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def shifted_products_own_kernel_gradient(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """Compute depthwise.shifted_products with the compiler's own gradient of the kernel."""
    return depthwise.shifted_products(x, kernel, stride)


def _own_kernel_gradient_forward(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[jax.Array, Any]:
    return depthwise.shifted_products(x, kernel, stride), (x, kernel)


def _own_kernel_gradient_backward(stride: int, saved: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    (x_gradient,) = jax.vjp(lambda x: depthwise.shifted_products(x, kernel, stride), x)[1](gradient)
    (kernel_gradient,) = jax.vjp(lambda kernel: depthwise.grouped_conv(x, kernel, stride), kernel)[1](gradient)
    return x_gradient, kernel_gradient


shifted_products_own_kernel_gradient.defvjp(_own_kernel_gradient_forward, _own_kernel_gradient_backward)

# By their names in models/layers.py; the compiler's own form first.
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
        shifted_products_own_kernel_gradient,
        depthwise.padded_shifts,
    ),
    "BATCH_NORM": (by_autodiff, normalisation.batch_normalise_then_activate, normalisation.batch_normalise),
    "MAX_POOL": (pooling.max_pool, pooling.max_pool_by_axes),
    "CHANNEL_SUM": (sums.sum_by_channel, sums.sum_by_channel_in_stages),
}

# Operations that a backbone does not have.
ABSENT = {
    "mobilefacenet": ("dense", "max_pool"),
    "resnet50": ("depthwise",),
    "efficientnet_b0": ("dense", "max_pool"),
}
CHOICES = (
    *(Choice(name.lower(), layers, name, form) for name, forms in IN_LAYERS.items() for form in forms),
    Choice("stft", features, "MAGNITUDES", features.fft_magnitudes),
    Choice("stft", features, "MAGNITUDES", features.matmul_magnitudes),
)
OPERATIONS = (*dict.fromkeys(choice.operation for choice in CHOICES), PLAIN)


class Alternative(NamedTuple):
    """Forms to use instead of the package's choices."""

    operation: str
    form: str
    choices: tuple[Choice, ...]


def list_alternatives(variants: Sequence[str], platform: str, operations: Sequence[str]) -> Iterator[Alternative]:
    """Yield the alternatives for operations of these variants on that platform."""
    absent = set.intersection(*(set(ABSENT[variant.rpartition("_")[0]]) for variant in variants))
    for choice in CHOICES:
        if choice.operation in operations and choice.operation not in absent and not choice.is_chosen(platform):
            yield Alternative(choice.operation, choice.form.__name__, (choice,))
    if PLAIN in operations:
        first = {choice.operation: choice for choice in reversed(CHOICES)}
        yield Alternative(PLAIN, "", tuple(first.values()))


@contextmanager
def use(alternative: Alternative) -> Iterator[None]:
    """Trace programs with the alternative within this context."""
    with ExitStack() as patches:
        for choice in alternative.choices:
            patches.enter_context(choice.patch())
        step_module._compile_steps.cache_clear()
        try:
            yield
        finally:
            step_module._compile_steps.cache_clear()


def measure_here(variants: Sequence[str], options: argparse.Namespace) -> None:
    """Print the time of each alternative on this machine, and its speed relative to the choices, in turn with it."""
    spec = make_bench_spec(variants, options.batch, options.width)
    chosen = BenchStep(spec)
    print_line("as chosen", 1e3 * time_in_turns({"chosen": chosen.run})["chosen"].median)
    for alternative in list_alternatives(variants, hardware.platform(), options.operations):
        with use(alternative):
            step = BenchStep(spec)
        times = time_in_turns({"chosen": chosen.run, "alternative": step.run})
        ratio = compute_ratio(times["alternative"], times["chosen"])
        seconds = times["alternative"].median
        print_line(make_name(alternative), 1e3 * seconds, f"{ratio:6.2f} x as fast as the chosen one in turn with it")


def plan_elsewhere(variants: Sequence[str], options: argparse.Namespace) -> None:
    """Print the planned time of each alternative on --devices, its memory traffic and operations.

    The time is the compiler's estimate, or without one the least time that the memory traffic takes.
    """
    config = make_bench_config(variants, options.batch, options.width)

    def print_plan(name: str) -> None:
        planned = plan(config, options.devices)
        step, memory_s = planned["step"], planned["roofline"]["memory_s"]
        seconds = planned["estimate"]["step_s"] if planned["estimate"] else memory_s
        print_line(name, 1e3 * seconds, f"{step['bytes_accessed'] / 1e9:7.2f} GB {step['operations']:6,} operations")

    print_plan("as chosen")
    for alternative in list_alternatives(variants, parse_target(options.devices).platform, options.operations):
        with use(alternative):
            print_plan(make_name(alternative))


def make_name(alternative: Alternative) -> str:
    """Return the operation and its form."""
    return f"{alternative.operation}: {alternative.form}" if alternative.form else alternative.operation


def print_line(name: str, step_ms: float, more: str = "") -> None:
    """Print a line of the table."""
    print(f"  {name:48}{step_ms:9.2f} ms a step {more}".rstrip(), flush=True)


def main() -> None:
    """Parse the command line and print a table for each variant."""
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
        variants = VARIANTS if name == FLEET else (name,)
        (plan_elsewhere if options.devices else measure_here)(variants, options)


if __name__ == "__main__":
    main()
