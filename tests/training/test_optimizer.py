"""Which parameters move, by how much: rules over the variants' real paths, SGD and schedules by hand."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from asdjax.config.fields import default_config
from asdjax.models import variants
from asdjax.models.variants import VARIANTS, Arrays
from asdjax.training.optimizer import (
    TRAINABLE,
    Sgd,
    compute_learning_rates,
    make_optimizer,
    partition,
    select_decayed,
    update,
)

CENTRES = {"arcface/weights": jnp.zeros((6, 128))}


def parameters_of(variant: str) -> Arrays:
    return {**variants.declare(variant, frames=32).parameters, **CENTRES}


def count(arrays: Arrays) -> int:
    return sum(math.prod(leaf.shape) for leaf in arrays.values())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("strategy", TRAINABLE)
def test_every_parameter_either_trains_or_is_frozen(variant: str, strategy: str) -> None:
    parameters = parameters_of(variant)
    trainable, frozen = partition(parameters, TRAINABLE[strategy])
    assert not trainable.keys() & frozen.keys()
    assert {**trainable, **frozen} == parameters


def conv(c_in: int, c_out: int, k: int = 1) -> int:
    """Weights of a convolution (depthwise: c_in 1) and its batch normalisation's scale and bias."""
    return c_in * c_out * k * k + 2 * c_out


def squeeze_excite(channels: int, squeezed: int) -> int:
    return 2 * channels * squeezed + channels + squeezed


# what method.md says, layer by layer
EMBEDDING_LAYER = {
    "mobilefacenet": lambda height: (height // 32) * 512 + 2 * 512 + conv(512, 128),  # linear GDConv, linear 1x1
    "resnet50": lambda _: 2048 * 128 + 128,
    "efficientnet_b0": lambda _: 1280 * 128 + 128,
}
LAST_BLOCK = {
    # the second bottleneck of the last row (each PReLU has a slope per channel), and the 1x1 to 512
    "mobilefacenet": (conv(128, 256) + 256) + (conv(1, 256, 3) + 256) + conv(256, 128) + (conv(128, 512) + 512),
    # the third block of stage 4
    "resnet50": conv(2048, 512) + conv(512, 512, 3) + conv(512, 2048),
    # the last 192-channel block, the 320-channel block, the 1x1 to 1280
    "efficientnet_b0": (conv(192, 1152) + conv(1, 1152, 5) + squeeze_excite(1152, 48) + conv(1152, 192))
    + (conv(192, 1152) + conv(1, 1152, 3) + squeeze_excite(1152, 48) + conv(1152, 320))
    + conv(320, 1280),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_strategy_trains_exactly_the_layers_it_names(variant: str) -> None:
    backbone, height = variant.rsplit("_", 1)
    parameters = parameters_of(variant)
    trained = {strategy: count(partition(parameters, groups)[0]) for strategy, groups in TRAINABLE.items()}
    backbone_strategy = EMBEDDING_LAYER[backbone](int(height)) + 6 * 128
    assert trained == {
        "full": count(parameters),
        "last_block": LAST_BLOCK[backbone] + backbone_strategy,
        "backbone": backbone_strategy,
        "arcface": count(parameters) - 6 * 128,
    }


def test_a_parameter_that_no_rule_covers_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="neck/kernel"):
        partition({"neck/kernel": jnp.zeros(2), **CENTRES}, TRAINABLE["full"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_weight_decay_is_for_kernels_and_centres_alone(variant: str) -> None:
    shrinking = {path for path, shrinks in select_decayed(parameters_of(variant)).items() if shrinks}
    assert {path.rsplit("/", 1)[-1] for path in shrinking} == {"kernel", "weights"}
    spared = parameters_of(variant).keys() - shrinking
    assert all(leaf.ndim == 1 for path, leaf in parameters_of(variant).items() if path in spared)


def test_a_parameter_that_no_decay_rule_covers_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="early/gain"):
        select_decayed({"early/gain": jnp.zeros(2), **CENTRES})


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
@pytest.mark.parametrize("clip_norm", [0.0, 1.5])
def test_sgd_by_hand(momentum: float, weight_decay: float, clip_norm: float) -> None:
    """Clipped over both arrays together, then decayed (the kernel alone), then a velocity, as torch.optim.SGD does."""
    sgd = Sgd(momentum, weight_decay, clip_norm)
    expected = {"late/kernel": np.array([1.0, -2.0]), "late/scale": np.array([0.5])}
    parameters: Arrays = {path: jnp.asarray(leaf, jnp.float32) for path, leaf in expected.items()}
    state = make_optimizer(sgd).init(parameters)
    velocity = {path: np.zeros_like(leaf) for path, leaf in expected.items()}
    rng = np.random.default_rng(0)
    for rate in (0.05, 0.02, 0.1):
        gradients = {path: rng.normal(size=leaf.shape) for path, leaf in expected.items()}
        given: Arrays = {path: jnp.asarray(leaf, jnp.float32) for path, leaf in gradients.items()}
        parameters, state = update(sgd, given, state, parameters, jnp.float32(rate))
        norm = np.sqrt(sum(np.sum(leaf**2) for leaf in gradients.values()))
        shrunk = min(1.0, clip_norm / norm) if clip_norm else 1.0
        for path, gradient in gradients.items():
            decay = weight_decay * expected[path] if path.endswith("kernel") else 0.0
            velocity[path] = momentum * velocity[path] + shrunk * gradient + decay
            expected[path] = expected[path] - rate * velocity[path]
    for path, leaf in parameters.items():
        np.testing.assert_allclose(leaf, expected[path], rtol=2e-6)


def rates(schedule: str, warmup_steps: int = 0, steps: int = 20) -> np.ndarray:
    settings = default_config().optimizer
    settings.schedule, settings.warmup_steps = schedule, warmup_steps
    return compute_learning_rates(settings, 0.05, steps)


def test_a_rate_for_every_step() -> None:
    step = np.arange(20)
    np.testing.assert_allclose(rates("constant"), np.full(20, 0.05), rtol=1e-6)
    np.testing.assert_allclose(rates("cosine"), 0.025 * (1 + np.cos(np.pi * step / 20)), rtol=1e-5)
    np.testing.assert_allclose(rates("step"), 0.05 * 0.1 ** ((step >= 10) + 1.0 * (step >= 15)), rtol=1e-6)
    assert rates("step").dtype == np.float32


@pytest.mark.parametrize("schedule", ["constant", "cosine", "step"])
def test_a_warm_up_climbs_to_the_rate_from_above_zero(schedule: str) -> None:
    warm = rates(schedule, warmup_steps=4)
    np.testing.assert_allclose(warm[:5], [0.01, 0.02, 0.03, 0.04, 0.05], rtol=1e-6)
    if schedule == "cosine":
        np.testing.assert_allclose(warm[4:], rates(schedule, steps=16), rtol=1e-5)
    else:
        np.testing.assert_array_equal(warm[4:], rates(schedule)[4:])


def test_a_phase_shorter_than_its_warm_up() -> None:
    np.testing.assert_allclose(rates("cosine", warmup_steps=4, steps=2), [0.01, 0.02], rtol=1e-6)
