"""Initial arrays: a function of names alone, distributed as their rules promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from asdjax.models.initialise import fill


def shapes(**by_path: tuple[int, ...]) -> dict[str, jax.ShapeDtypeStruct]:
    return {path.replace("__", "/"): jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in by_path.items()}


def test_an_array_depends_on_its_names_and_on_nothing_else_beside_it() -> None:
    alone = fill(shapes(a__kernel=(3, 4)), 0, "fan", "resnet50_512")["a/kernel"]
    among = fill(shapes(b__weights=(7, 2), a__kernel=(3, 4), c__kernel=(9, 9)), 0, "fan", "resnet50_512")["a/kernel"]
    np.testing.assert_array_equal(alone, among)


def test_every_name_and_the_seed_give_other_numbers() -> None:
    cases = [
        (0, "fan", "x", "a/kernel"),
        (1, "fan", "x", "a/kernel"),
        (0, "pump", "x", "a/kernel"),
        (0, "fan", "y", "a/kernel"),
        (0, "fan", "x", "b/kernel"),
        (0, "fa", "nx", "a/kernel"),
    ]
    arrays = [fill({path: jax.ShapeDtypeStruct((4,), jnp.float32)}, seed, *names)[path] for seed, *names, path in cases]
    assert len({array.tobytes() for array in map(np.asarray, arrays)}) == len(cases)


@pytest.mark.parametrize(
    ("shape", "fan_in"), [((3, 3, 16, 64), 144), ((3, 3, 2000), 9), ((64, 256), 64), ((32, 1, 512), 32)]
)
def test_kernels_are_he_normal(shape: tuple[int, ...], fan_in: int) -> None:
    kernel = np.asarray(fill(shapes(kernel=shape), 0)["kernel"])
    assert stats.kstest(kernel.ravel(), stats.norm(0, (2 / fan_in) ** 0.5).cdf).pvalue > 0.01


def test_class_centres_are_glorot_uniform() -> None:
    limit = (6 / (60 + 128)) ** 0.5
    weights = np.asarray(fill(shapes(arcface__weights=(60, 128)), 0)["arcface/weights"])
    assert stats.kstest(weights.ravel(), stats.uniform(-limit, 2 * limit).cdf).pvalue > 0.01


def test_normalisation_begins_as_identity_and_prelu_at_a_quarter() -> None:
    arrays = fill(shapes(scale=(2,), bias=(2,), mean=(2,), var=(2,), slope=(2,)), 0)
    assert {path: array.tolist() for path, array in arrays.items()} == {
        "scale": [1, 1],
        "bias": [0, 0],
        "mean": [0, 0],
        "var": [1, 1],
        "slope": [0.25, 0.25],
    }


def test_an_array_without_a_rule_is_refused() -> None:
    with pytest.raises(KeyError, match="gamma"):
        fill(shapes(norm__gamma=(2,)), 0)
