"""Small arrays flattened and unflattened, with the real variants' arrays."""

from functools import partial

import jax
import numpy as np
import pytest

from asdjax.models import variants
from asdjax.models.variants import VARIANTS, Arrays
from asdjax.training.flatten_small import MOST_ARRAYS, MOST_ELEMENTS, flatten, make_layout, unflatten
from asdjax.training.optimizer import select_decayed


def stacked_parameters(variant: str, models: int) -> Arrays:
    shapes = variants.declare(variant, frames=32, width=0.25).parameters
    rng = np.random.default_rng(0)
    return {path: rng.normal(size=(models, *leaf.shape)).astype(np.float32) for path, leaf in shapes.items()}


@pytest.mark.parametrize(
    "variant", [VARIANTS[1], *(pytest.param(name, marks=pytest.mark.slow) for name in VARIANTS[3::2])]
)
def test_every_small_array_is_flattened_and_restored(variant: str) -> None:
    arrays = stacked_parameters(variant, 2)
    layout = make_layout(arrays, "gpu")
    together = jax.jit(partial(flatten, layout))(arrays)
    large = {path for path, leaf in arrays.items() if leaf[0].size > MOST_ELEMENTS}
    assert together.keys() == large | layout.keys()
    assert all(1 <= len(slots) <= MOST_ARRAYS for slots in layout.values())
    assert sum(leaf.size for leaf in together.values()) == sum(leaf.size for leaf in arrays.values())
    apart = jax.jit(partial(unflatten, layout))
    back = apart(together)
    of_one = apart({name: whole[1] for name, whole in together.items()})
    assert back.keys() == arrays.keys()
    for path, leaf in arrays.items():
        np.testing.assert_array_equal(back[path], leaf, err_msg=path)
        np.testing.assert_array_equal(of_one[path], leaf[1], err_msg=path)


def test_weight_decay_is_that_of_the_flattened_arrays() -> None:
    arrays = stacked_parameters("efficientnet_b0_512", 1)
    layout = make_layout(arrays, "gpu")
    of_each, of_flat = select_decayed(arrays), select_decayed(flatten(layout, arrays))
    for name, slots in layout.items():
        assert {of_each[path] for path, _, _ in slots} == {of_flat[name]}, name


def test_arrays_lie_end_to_end() -> None:
    arrays = {"a/scale": np.zeros((3, 2, 5)), "b/scale": np.zeros((3, 7))}
    (slots,) = make_layout(arrays, "gpu").values()
    assert slots == (("a/scale", (2, 5), 0), ("b/scale", (7,), 10))


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_other_platforms_flatten_nothing(platform: str) -> None:
    assert make_layout({"a/scale": np.zeros((3, 2, 5))}, platform) == {}
