"""Packed and unpacked again, with the real variants' arrays."""

from functools import partial

import jax
import numpy as np
import pytest

from asdjax.models import variants
from asdjax.models.variants import VARIANTS, Arrays
from asdjax.training.flatten_small import AT_ONCE, SMALL, packed, packs_of, unpacked
from asdjax.training.optimizer import decayed


def stacked_parameters(variant: str, models: int) -> Arrays:
    shapes = variants.declare(variant, frames=32, width=0.25).parameters
    rng = np.random.default_rng(0)
    return {path: rng.normal(size=(models, *leaf.shape)).astype(np.float32) for path, leaf in shapes.items()}


@pytest.mark.usefixtures("quickly_compiled")
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_small_array_is_packed_and_comes_back_as_it_was(variant: str) -> None:
    arrays = stacked_parameters(variant, 2)
    packs = packs_of(arrays)
    together = jax.jit(partial(packed, packs))(arrays)
    large = {path for path, leaf in arrays.items() if leaf[0].size > SMALL}
    assert together.keys() == large | packs.keys()
    assert all(1 <= len(pack) <= AT_ONCE for pack in packs.values())
    assert sum(leaf.size for leaf in together.values()) == sum(leaf.size for leaf in arrays.values())
    apart = jax.jit(partial(unpacked, packs))
    back = apart(together)
    of_one = apart({name: whole[1] for name, whole in together.items()})
    assert back.keys() == arrays.keys()
    for path, leaf in arrays.items():
        np.testing.assert_array_equal(back[path], leaf, err_msg=path)
        np.testing.assert_array_equal(of_one[path], leaf[1], err_msg=path)


def test_weight_decay_goes_by_what_is_packed() -> None:
    arrays = stacked_parameters("efficientnet_b0_512", 1)
    packs = packs_of(arrays)
    of_each, of_packs = decayed(arrays), decayed(packed(packs, arrays))
    for name, pack in packs.items():
        assert {of_each[path] for path, _, _ in pack} == {of_packs[name]}, name


def test_arrays_lie_end_to_end() -> None:
    (pack,) = packs_of({"a/scale": np.zeros((3, 2, 5)), "b/scale": np.zeros((3, 7))}).values()
    assert pack == (("a/scale", (2, 5), 0), ("b/scale", (7,), 10))
