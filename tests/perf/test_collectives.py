"""Collectives of a compiled step, by hand."""

from asdjax.perf import hlo
from asdjax.perf.collectives import count_collectives

HLO = """
%fused (p: f32[10]) -> f32[10] {
  %p = f32[10]{0} parameter(0)
  ROOT %rs = f32[10]{0} reduce-scatter(%p), channel_id=3
}

%turn (a: f32[64]) -> f32[64] {
  %all-reduce.1 = (f32[64]{0}, f32[3,3,64,64]{3,2,1,0:T(8,128)}) all-reduce(%a, %b), channel_id=1
  %ag = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%c), channel_id=2
  %ag.done = bf16[16,8]{1,0} all-gather-done(%ag)
  %fusion = f32[10]{0} fusion(%d), kind=kCustom, calls=%fused
  %both = ((bf16[4]{0}, bf16[8]{0}), (bf16[16]{0}, bf16[32]{0})) all-gather-start(%c, %d), channel_id=5
  %cp = (s32[5]{0}, s32[5]{0}, u32[], u32[]) collective-permute-start(%e), channel_id=4
  ROOT %add = f32[64]{0} add(%all-reduce.1, %f)
}

ENTRY %main (a: f32[64]) -> f32[64] {
  %a = f32[64]{0} parameter(0)
  %before = f32[1024]{0} all-reduce(%a), channel_id=6
  ROOT %while = f32[64]{0} while(%a), condition=%more, body=%turn
}
"""


def test_collectives_by_hand():
    dispatch = hlo.parse_program(HLO)
    found = count_collectives(dispatch, hlo.iterate_executed(dispatch, "%turn"), devices=4)
    assert found.numbers == {"all-reduce": 1, "all-gather": 2, "reduce-scatter": 1, "collective-permute": 1}
    reduced, gathered, scattered, permuted = 4 * (64 + 9 * 64 * 64), 2 * (16 * 8 + 16 + 32), 4 * 10, 4 * 5
    assert found.bytes_sent == 0.75 * (2 * reduced + gathered + 4 * scattered) + permuted
