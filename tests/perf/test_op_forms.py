"""tests/perf/op_forms.py: alternatives compute the same, and are used only while they are measured."""

import sys
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import SHALLOW, shallow_networks
from flax import nnx

sys.path.insert(0, "tests/perf")
import op_forms

from asdjax.models import layers
from asdjax.models.ops import depthwise, normalisation, sums
from asdjax.perf import measure
from asdjax.perf.bench_step import BenchStep
from asdjax.training.state import TrainSpec


def _require_close(ours, theirs):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), ours, theirs)


@pytest.mark.slow
@pytest.mark.parametrize("activation", [normalisation.linear, normalisation.prelu, nnx.silu])
def test_normalisation_by_autodiff_is_the_same(activation: normalisation.Activation):
    x = 3 + jax.random.normal(jax.random.key(0), (4, 6, 5, 8))
    scale, bias, slope = (jax.random.normal(jax.random.key(i), (8,)) for i in (1, 2, 4))
    channels = (slope,) if activation is normalisation.prelu else ()
    weights = jax.random.normal(jax.random.key(3), x.shape)

    def loss(normalised, *arrays):
        return jnp.sum(weights * jnp.square(normalised(*arrays, activation, sums.sum_by_channel)[0]))

    every = (normalisation.batch_normalise, op_forms.by_autodiff)
    _require_close(*(normalised(x, scale, bias, channels, activation, sums.sum_by_channel) for normalised in every))
    _require_close(*(jax.grad(loss, (1, 2, 3, 4))(normalised, x, scale, bias, channels) for normalised in every))


@pytest.mark.slow
@pytest.mark.parametrize("stride", [1, 2])
def test_shifted_products_without_their_kernels_gradient_are_the_same(stride: int):
    x, kernel = jax.random.normal(jax.random.key(0), (2, 8, 6, 5)), jax.random.normal(jax.random.key(1), (3, 3, 5))

    def loss(conv, *arrays):
        return jnp.sum(jnp.square(conv(*arrays, stride)))

    every = (depthwise.grouped_conv, op_forms.shifted_products_own_kernel_gradient)
    _require_close(*(jax.value_and_grad(loss, (1, 2))(conv, x, kernel) for conv in every))


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_every_operation_has_another_form_than_the_chosen_one(platform: str):
    found = {
        alternative.operation
        for variant in op_forms.USUAL
        for alternative in op_forms.list_alternatives([variant], platform, op_forms.OPERATIONS)
    }
    assert found == set(op_forms.OPERATIONS)


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_the_chosen_form_of_every_operation_is_among_those_compared(platform: str):
    chosen = {choice.operation for choice in op_forms.CHOICES if choice.is_chosen(platform)}
    assert chosen == set(op_forms.OPERATIONS) - {op_forms.PLAIN}


def test_a_variant_is_not_measured_with_operations_that_it_has_not():
    one, every = (
        {alternative.operation for alternative in op_forms.list_alternatives(variants, "cpu", op_forms.OPERATIONS)}
        for variants in (["resnet50_512"], op_forms.VARIANTS)
    )
    assert one == set(op_forms.OPERATIONS) - {"depthwise"}
    assert every == set(op_forms.OPERATIONS)


class _RecordingStep(BenchStep):
    """A step that records whether its program has the compiler's own gradient of max pool."""

    scatters: ClassVar[list[bool]] = []

    def __init__(self, spec: TrainSpec) -> None:
        super().__init__(spec)
        self.scatters.append("select_and_scatter" in self._lowered.as_text())


@pytest.mark.slow
def test_a_form_is_taken_in_the_step_and_no_longer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr(measure, "SECONDS_PER_TURN", 0.001)
    monkeypatch.setattr(measure, "MIN_TOTAL_SECONDS", 0.0)
    monkeypatch.setattr(op_forms, "BenchStep", _RecordingStep)
    words = ["--variants=resnet50_512", "--operations=max_pool", "--batch=2", f"--width={SHALLOW}"]
    monkeypatch.setattr(sys, "argv", ["op_forms.py", *words])
    chosen = layers.MAX_POOL
    with shallow_networks():
        op_forms.main()
    assert _RecordingStep.scatters == [False, True]
    first, *lines = (line.split() for line in capsys.readouterr().out.splitlines())
    assert first == ["resnet50_512"]
    assert [line[:2] for line in lines] == [["as", "chosen"], ["max_pool:", "max_pool"]]
    assert layers.MAX_POOL is chosen
