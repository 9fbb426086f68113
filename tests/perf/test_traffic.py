"""Bytes to and from memory: by hand, and compared with XLA's own count where that is right."""

from collections.abc import Callable
from typing import Any, cast

import jax
import jax.numpy as jnp
import pytest

from asdjax.perf import hlo, traffic
from asdjax.perf.hlo import Program


def sum_bytes(program: Program) -> float:
    return traffic.sum_bytes(program, hlo.iterate_executed(program))


def compare_counts(function: Callable[..., Any], *arguments: Any, **jitted: Any) -> tuple[float, float]:
    """Return the bytes by our count and by XLA's."""
    program = jax.jit(function, **jitted).lower(*arguments).compile()
    by_xla = cast(dict[str, float], program.cost_analysis())["bytes accessed"]
    return sum_bytes(hlo.read_program(program)), by_xla


SQUARE = jnp.ones((256, 256))


@pytest.mark.parametrize(
    ("function", "arrays"),
    [(lambda x, _: x + 1, 2), (lambda x, y: x @ y, 3), (lambda x, y: jnp.tanh(x * y).sum(0), 2)],
)
def test_what_reads_and_writes_whole_arrays_is_as_xla_counts_it(function: Callable[..., Any], arrays: int):
    ours, theirs = compare_counts(function, SQUARE, SQUARE)
    assert ours == pytest.approx(theirs, rel=0.02) == pytest.approx(arrays * SQUARE.nbytes, rel=0.02)


def test_rows_gathered_from_a_large_array_cost_as_much_as_they_are():
    table, rows = jnp.ones((100_000, 64), jnp.int16), jnp.arange(10)
    ours, _ = compare_counts(lambda table, rows: table.at[rows].get(mode="clip").astype(jnp.float32) / 2, table, rows)
    assert ours <= 10 * 64 * (2 + 4) + 200


def test_a_row_written_into_a_large_array_costs_as_much_as_it_is():
    table, row = jnp.ones((100_000, 64)), jnp.ones(64)
    ours, _ = compare_counts(lambda table, row, i: table.at[i].set(row * 2), table, row, 3, donate_argnums=0)
    assert ours <= 4 * row.nbytes


GPU = """
%fused (p.1: f32[8,4]) -> f32[8,4] {
  %p.1 = f32[8,4]{1,0} parameter(0)
  ROOT %twice = bf16[8,4]{1,0} add(%p.1, %p.1)
}

ENTRY %main (x: f32[8,4]) -> f32[8] {
  %x = f32[8,4]{1,0} parameter(0)
  %fusion = bf16[8,4]{1,0} fusion(%x), kind=kLoop, calls=%fused
  %gemm = (bf16[8,8]{1,0}, s8[4096]{0}) custom-call(%fusion, f32[8,4]{1,0} %x), custom_call_target="__cublas$gemm"
  %part = bf16[8,8]{1,0} get-tuple-element(%gemm), index=0
  ROOT %conv = f32[8]{0} custom-call(%part), custom_call_target="__cudnn$convForward", metadata={op_name="jit(f)(%x)"}
}
"""


def test_calls_to_a_gpu_s_libraries_by_hand():
    fusion = 4 * 8 * 4 + 2 * 8 * 4
    gemm = 2 * 8 * 4 + 4 * 8 * 4 + 2 * 8 * 8
    assert sum_bytes(hlo.parse_program(GPU)) == fusion + gemm + 2 * 8 * 8 + 4 * 8


TPU = """
%rows (q: s16[9,128], i: s32[2]) -> s16[2,128] {
  %q = s16[9,128]{1,0:T(8,128)(2,1)} parameter(0)
  %i = s32[2]{0:T(128)} parameter(1)
  %same = s16[9,128]{1,0:T(8,128)(2,1)} bitcast(%q)
  ROOT %taken = s16[2,128]{1,0:T(8,128)(2,1)} gather(%same, %i), slice_sizes={1,128}
}

%update (o: f32[99,128], u: f32[1,128]) -> (f32[99,128], f32[1,128]) {
  %o = f32[99,128]{1,0:T(8,128)} parameter(0)
  %u = f32[1,128]{1,0:T(1,128)} parameter(1)
  %new = f32[99,128]{1,0:T(8,128)} dynamic-update-slice(%o, %u)
  %cast = f32[99,128]{1,0:T(8,128)} bitcast(%new)
  ROOT %both = (f32[99,128]{1,0:T(8,128)}, f32[1,128]{1,0:T(1,128)}) tuple(%cast, %u)
}

ENTRY %main (x: s16[9,128], j: s32[2], y: f32[99,128], z: f32[1,128]) -> f32[1,128] {
  %x = s16[9,128]{1,0:T(8,128)(2,1)} parameter(0)
  %j = s32[2]{0:T(128)} parameter(1)
  %y = f32[99,128]{1,0:T(8,128)} parameter(2)
  %z = f32[1,128]{1,0:T(1,128)} parameter(3)
  %read = s16[2,128]{1,0:T(8,128)(2,1)S(1)} fusion(%x, %j), kind=kCustom, calls=%rows
  %within = s16[2,128]{1,0:T(8,128)(2,1)S(1)} negate(%read)
  %held = (f32[1,128]{1,0:T(1,128)}) opt-barrier(%z)
  %back = (f32[1,128]{1,0:T(1,128)}, f32[1,128]{1,0:T(1,128)S(1)}, u32[]{:S(2)}) copy-start(%copied)
  %returned = f32[1,128]{1,0:T(1,128)} copy-done(%back)
  %begun = (f32[1,128]{1,0:T(1,128)S(1)}, f32[1,128]{1,0:T(1,128)}, u32[]{:S(2)}) copy-start(%z)
  %copied = f32[1,128]{1,0:T(1,128)S(1)} copy-done(%begun)
  %written = (f32[99,128]{1,0:T(8,128)}, f32[1,128]{1,0:T(1,128)S(1)}) fusion(%y, %z), kind=kLoop, calls=%update
  ROOT %end = f32[1,128]{1,0:T(1,128)} get-tuple-element(%written), index=1
}
"""


WRAPPED = """
%cut (p: f32[8,4], q: f32[4,4]) -> (f32[4,4], s8[64]) {
  %p = f32[8,4]{1,0} parameter(0)
  %q = f32[4,4]{1,0} parameter(1)
  %half = f32[4,4]{1,0} slice(%p), slice={[0:4], [0:4]}
  ROOT %gemm = (f32[4,4]{1,0}, s8[64]{0}) custom-call(%half, %q), custom_call_target="__cublas$gemm"
}

ENTRY %main (x: f32[8,4], y: f32[4,4]) -> f32[4,4] {
  %x = f32[8,4]{1,0} parameter(0)
  %y = f32[4,4]{1,0} parameter(1)
  %fused = (f32[4,4]{1,0}, s8[64]{0}) fusion(%x, %y), kind=kCustom, calls=%cut
  ROOT %z = f32[4,4]{1,0} get-tuple-element(%fused), index=0
}
"""


def test_a_call_to_a_library_within_a_fusion():
    assert sum_bytes(hlo.parse_program(WRAPPED)) == 3 * 4 * 16


COMPUTED_ON = """
%sum (o: f32[99], u: f32[3], i: s32[]) -> f32[99] {
  %o = f32[99]{0} parameter(0)
  %u = f32[3]{0} parameter(1)
  %i = s32[] parameter(2)
  %new = f32[99]{0} dynamic-update-slice(%o, %u, %i)
  ROOT %twice = f32[99]{0} add(%new, %new)
}

%inner (p: f32[99], v: f32[3], j: s32[]) -> f32[99] {
  %p = f32[99]{0} parameter(0)
  %v = f32[3]{0} parameter(1)
  %j = s32[] parameter(2)
  ROOT %put = f32[99]{0} dynamic-update-slice(%p, %v, %j)
}

%outer (q: f32[99], w: f32[3], k: s32[]) -> f32[99] {
  %q = f32[99]{0} parameter(0)
  %w = f32[3]{0} parameter(1)
  %k = s32[] parameter(2)
  ROOT %nested = f32[99]{0} fusion(%q, %w, %k), kind=kLoop, calls=%inner
}

ENTRY %main (x: f32[99], y: f32[3], n: s32[]) -> f32[99] {
  %x = f32[99]{0} parameter(0)
  %y = f32[3]{0} parameter(1)
  %n = s32[] parameter(2)
  %first = f32[99]{0} fusion(%x, %y, %n), kind=kLoop, calls=%CALLED
  ROOT %cast = f32[99]{0} bitcast(%first)
}
"""


@pytest.mark.parametrize(("called", "expected"), [("sum", 4 * (2 * 99 + 3 + 1)), ("outer", 4 * (2 * 3 + 1))])
def test_an_update_is_in_place_where_nothing_is_computed_on_it(called: str, expected: float):
    assert sum_bytes(hlo.parse_program(COMPUTED_ON.replace("CALLED", called))) == expected


def test_a_tpu_s_vector_memory_and_slices_by_hand():
    gathered = 2 * 8 * 128 + 4 * 128  # two rows in a tile of eight, and two indices in one of 128
    copied = 4 * 128 + 4 * 128  # to vector memory, and back
    updated = 4 * 128 + 4 * 128  # the update, read and written; the fusion's other result stays in vector memory
    assert sum_bytes(hlo.parse_program(TPU)) == gathered + copied + updated


@pytest.mark.parametrize(
    ("steps_per_dispatch", "operations"), [(2, ["compare", "add"]), (1, ["negate", "compare", "add"])]
)
def test_a_step_of_several_is_what_is_looped_over(steps_per_dispatch: int, operations: list[str]):
    step = traffic.select_step(hlo.parse_program(DISPATCH), steps_per_dispatch)
    assert [line.kind for line in step if traffic.count_bytes(hlo.parse_program(DISPATCH), line)] == operations


def test_a_step_s_loop_is_found_in_a_program_that_was_compiled():
    # on a CPU XLA puts some loops into called computations
    for body in (lambda _, x: x * 2 + 1, lambda _, x: jnp.sin(x @ x)):
        looped = jax.jit(lambda x, n, body=body: jax.lax.fori_loop(0, n, body, x) - 1)
        program = hlo.read_program(looped.lower(SQUARE, 3).compile())
        assert len(traffic.select_step(program, 2)) < len(traffic.select_step(program, 1))


DISPATCH = """
%condition (i: s32[]) -> pred[] {
  %i = s32[] parameter(0)
  ROOT %less = pred[] compare(%i, %i), direction=LT
}

%body (j: s32[]) -> s32[] {
  %j = s32[] parameter(0)
  ROOT %next = s32[] add(%j, %j)
}

ENTRY %main (x: s32[]) -> s32[] {
  %x = s32[] parameter(0)
  %packed = s32[] negate(%x)
  ROOT %loop = s32[] while(%packed), condition=%condition, body=%body
}
"""
