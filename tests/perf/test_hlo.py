"""The reader of compiled programs, on texts by XLA's compilers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from asdjax.perf import hlo

TPU = """
%body (p: (s32[], f32[8])) -> (s32[], f32[8]) {
  %p = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  %one = s32[]{:T(128)} constant(1)
  %i = s32[]{:T(128)} get-tuple-element(%p), index=0
  %v = f32[8]{0:T(128)} get-tuple-element(%p), index=1
  %w = f32[8]{0:T(128)} add(%v, %v), backend_config={"window_config":{"estimated_cycles":"30"}}
  %next = s32[]{:T(128)} add(%i, %one), backend_config={"estimated_cycles":"9223372036854775807"}
  ROOT %out = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%next, /*index=1*/%w)
}

%condition (q: (s32[], f32[8])) -> pred[] {
  %q = (s32[]{:T(128)}, f32[8]{0:T(128)}) parameter(0)
  ROOT %yes = pred[]{:T(512)} constant(true)
}

%left (a: f32[8]) -> f32[8] {
  ROOT %a = f32[8]{0:T(128)} parameter(0)
}

%right (b: f32[8]) -> f32[8] {
  %b = f32[8]{0:T(128)} parameter(0)
  ROOT %minus = f32[8]{0:T(128)} negate(%b), metadata={op_name="jit(f)(%x)"}
}

%wrapped (c: f32[8]) -> f32[8] {
  %c = f32[8]{0:T(128)} parameter(0)
  ROOT %root = f32[8]{0:T(128)} sqrt(%c), backend_config={"estimated_cycles":"7"}
}

ENTRY %main (x: f32[8], n: s32[]) -> f32[8] {
  %x = f32[8]{0:T(128)} parameter(0)
  %n = s32[]{:T(128)} parameter(1)
  %start = (s32[]{:T(128)}, f32[8]{0:T(128)}) tuple(%n, %x)
  %loop = (s32[]{:T(128)}, f32[8]{0:T(128)}) while(%start), condition=%condition, body=%body
  %y = f32[8]{0:T(128)} get-tuple-element(%loop), index=1
  %begun = ((f32[8]{0:T(128)}), f32[8]{0:T(128)}, s32[]{:T(128)}) async-start(%y), calls=%wrapped
  %going = ((f32[8]{0:T(128)}), f32[8]{0:T(128)}, s32[]{:T(128)}) async-update(%begun)
  %done = f32[8]{0:T(128)} async-done(%going)
  %v1 = f32[8]{0:T(128)} call(%done), to_apply=%right
  %v2 = f32[8]{0:T(128)} conditional(%n, %v1, %y), true_computation=%left, false_computation=%right
  %z = f32[8]{0:T(128)} conditional(%n, %v2, %y), branch_computations={%left, %right}
  ROOT %last = f32[8]{0:T(128)} multiply(f32[8]{0:T(128)} %z, %z), backend_config={"estimated_cycles":"12"}
}
"""


def test_where_an_operation_was_traced_is_told_where_the_compiler_tells_it():
    program = hlo.parse_program("HloModule jit_f, is_scheduled=true\n" + TPU)
    assert program.name == "jit_f"
    assert hlo.read_source(program.instructions["%minus"]) == "jit(f)(%x)"
    assert hlo.read_source(program.instructions["%root"]) == ""


def test_what_runs_is_followed_into_loops_and_branches():
    program = hlo.parse_program(TPU)
    free = ("parameter", "constant", "tuple", "get-tuple-element")
    names = [line.name for line in hlo.iterate_executed(program) if line.kind not in free]
    assert names == ["%w", "%next", "%root", "%minus", "%minus", "%minus", "%last"]
    assert program.instructions["%last"].operands == ("%z", "%z")
    assert program.instructions["%last"].root
    assert program.instructions["%n"].operands == ("1",)
    assert [n for line in hlo.iterate_executed(program) if (n := hlo.read_cycles(line)) is not None] == [30, 7, 12]


def test_a_program_that_xla_compiled_here_is_read_whole():
    def looped(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 9, lambda _, y: jnp.sort(y @ x), x)

    program = hlo.read_program(jax.jit(looped).lower(jnp.ones((8, 8))).compile())
    assert {line.kind for line in program.computations[program.entry]} >= {"parameter", "while"}
    assert "sort" in {line.kind for line in hlo.iterate_executed(program)}
    assert all(
        name in program.instructions for line in hlo.iterate_executed(program) for name in line.operands if "%" in name
    )
    assert all(name in program.computations for line in program.instructions.values() for name in line.called)


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ("(f32[2,3]{1,0}, pred[8], s4[2], bf16[])", [24, 8, 1, 2]),
        ("bf16[48,256,16,64]{3,0,2,1:T(8,128)(2,1)}", [2 * 48 * 256 * 16 * 128]),  # 64 channels in tiles of 128
        ("f32[3,3,1,64]{3,2,1,0:T(1,128)}", [4 * 9 * 128]),
        ("f32[130]{0:T(128)}", [4 * 256]),
        ("f32[]{:T(128)}", [4]),
    ],
)
def test_arrays_as_large_as_they_lie(shape: str, sizes: list[float]):
    np.testing.assert_array_equal([array.padded_bytes for array in hlo.parse_arrays(shape)], sizes)


def test_arrays_outside_the_device_s_memory():
    found = hlo.parse_arrays("(f32[8,128]{1,0:T(8,128)S(1)}, f32[8,128]{1,0:T(8,128)}, u32[]{:S(2)})")
    assert [array.in_memory for array in found] == [False, True, False]


@pytest.mark.parametrize(
    ("line", "made"),
    [
        ("(f32[8]{0:S(1)}, f32[16]{0}, u32[]{:S(2)}) copy-start(%x)", [32]),
        ("((f32[16]{0}), f32[4]{0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:4]}", [16]),
        ("((f32[40]{0}), f32[10]{0}) reduce-scatter-start(%x)", [40]),
        ("(s32[5]{0}, s32[6]{0}, u32[], u32[]) collective-permute-start(%x)", [24]),
        ("(f32[2]{0}, /*index=1*/f32[3]{0}) all-reduce-start(%x, %y)", [8, 12]),
        ("((bf16[4]{0}, bf16[8]{0}), (bf16[16]{0}, bf16[32]{0})) all-gather-start(%x, %y)", [32, 64]),
        ('(f32[8]{0}, u8[512]{0}) custom-call(%x), custom_call_target="__cudnn$convForward"', [32]),
        ('(f32[8]{0}, f32[9]{0}) custom-call(%x), custom_call_target="__cudnn$convForward"', [32, 36]),
        ('(f32[8]{0}, u8[512]{0}) custom-call(%x), custom_call_target="TopK"', [32, 512]),
    ],
)
def test_what_an_instruction_makes(line: str, made: list[float]):
    program = hlo.parse_program("ENTRY %main (x: f32[16]) -> f32[8] {\n  %it = " + line + "\n}")
    np.testing.assert_array_equal([array.bytes for array in program.instructions["%it"].results], made)
