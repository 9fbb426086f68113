"""Costs of a step by XLA's counts."""

import jax
import jax.numpy as jnp

from asdjax.perf import step_costs


def test_memory_of_a_program():
    program = jax.jit(lambda x: x + 1).lower(jnp.zeros((64, 64))).compile()
    assert step_costs.read_memory(program).arguments == 2 * 4 * 64 * 64
