"""Which parameters move: freeze rules over the variants' real paths, and SGD by hand."""

import math

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from asdjax.models import variants
from asdjax.models.variants import VARIANTS, Arrays
from asdjax.training.optimizer import TRAINABLE, partition, sgd

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


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_sgd_is_a_velocity_times_the_learning_rate(momentum: float) -> None:
    optimizer = sgd(0.05, momentum)
    parameters = {"w": jnp.array([1.0, -2.0])}
    state = optimizer.init(parameters)
    expected, velocity = np.array([1.0, -2.0]), np.zeros(2)
    for gradient in np.random.default_rng(0).normal(size=(3, 2)):
        updates, state = optimizer.update({"w": jnp.asarray(gradient, jnp.float32)}, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        velocity = momentum * velocity + gradient
        expected -= 0.05 * velocity
    np.testing.assert_allclose(parameters["w"], expected, rtol=1e-6)  # pyright: ignore
