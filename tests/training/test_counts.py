"""Costs of a step by XLA's counts."""

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.training import counts

HLO = """
HloModule step, entry_computation_layout={(f32[8,4]{1,0})->f32[8]{0}}

%fused (p.1: f32[8,4]) -> f32[8,4] {
  %p.1 = f32[8,4]{1,0} parameter(0)
  ROOT %twice = f32[8,4]{1,0} add(%p.1, %p.1)
}

ENTRY %main (x: f32[8,4]) -> f32[8] {
  %x = f32[8,4]{1,0} parameter(0)
  %fusion = bf16[8,4]{1,0} fusion(%x), kind=kLoop, calls=%fused
  %gemm = (bf16[8,8]{1,0}, s8[4096]{0}) custom-call(%fusion, f32[8,4]{1,0} %x), custom_call_target="__cublas$gemm"
  %part = bf16[8,8]{1,0} get-tuple-element(%gemm), index=0
  %conv = f32[8]{0} custom-call(%part), custom_call_target="__cudnn$convForward", metadata={op_name="jit(f)(%x)"}
  ROOT %sum = f32[8]{0} custom-call(%conv), custom_call_target="sum"
}
"""


def test_what_calls_to_libraries_take_and_give_by_hand():
    gemm = 2 * 8 * 8 + 2 * 8 * 4 + 4 * 8 * 4
    assert counts.called_bytes(HLO) == gemm + 4 * 8 + 2 * 8 * 8


def test_a_program_without_calls_moves_what_xla_counts():
    program = jax.jit(lambda x: x + 1).lower(jnp.zeros((64, 64))).compile()
    assert counts.traffic_of(program) == 2 * 4 * 64 * 64
    memory = counts.memory_of(program)
    assert memory.arguments == 2 * 4 * 64 * 64


def test_bytes_of_arrays_in_a_shape():
    np.testing.assert_array_equal(counts.array_bytes("(f32[2,3]{1,0}, pred[8], s4[2], bf16[])"), [24, 8, 1, 2])
