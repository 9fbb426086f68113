"""Profiles of a step: operations of a trace by part and kind."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from asdjax.errors import InputError
from asdjax.perf import hlo

sys.path.insert(0, "tests/perf")
import step_profile
from step_profile import Event

VARIANTS = ("resnet50_512", "mobilefacenet_512")

PROGRAM = hlo.parse_program("""HloModule jit_run, is_scheduled=true

%inner (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  ROOT %twice = f32[8]{0} add(%p, %p)
}

%moves (m: f32[8]) -> f32[8] {
  %m = f32[8]{0} parameter(0)
  ROOT %turned = f32[8]{0} reverse(%m), dimensions={0}
}

%sums (s: f32[8]) -> f32[] {
  %s = f32[8]{0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %sum = f32[] reduce(%s, %zero), dimensions={0}, to_apply=%inner
}

ENTRY %main (x: f32[8], k: f32[3,8,8]) -> f32[] {
  %x = f32[8]{0} parameter(0)
  %k = f32[3,8,8]{2,1,0} parameter(1)
  %called = f32[8]{0} call(%x), to_apply=%inner
  %doubled = f32[8]{0} fusion(%called), kind=kLoop, calls=%inner, metadata={op_name="jit(run)/resnet50_512/jvp()/add"}
  %copied = f32[8]{0} fusion(%doubled), kind=kLoop, calls=%moves, metadata={op_name="jit(run)/resnet50_512/mul"}
  %deep = f32[8]{0} convolution(%copied, %k), dim_labels=bf_io->bf
  %grouped = f32[8]{0} convolution(%deep, %k), dim_labels=bf_io->bf, feature_group_count=8
  %gemm = (f32[8]{0}, s8[64]{0}) custom-call(%grouped, %k), custom_call_target="__cublas$gemm"
  %product = f32[8]{0} get-tuple-element(%gemm), index=0
  %cudnn = (f32[8]{0}, u8[64]{0}) custom-call(%product, %k), custom_call_target="__cudnn$convForward"
  %convolved = f32[8]{0} get-tuple-element(%cudnn), index=0
  %sorted = f32[8]{0} sort(%convolved), dimensions={0}, to_apply=%inner
  %unknown = f32[8]{0} custom-call(%sorted), custom_call_target="of somebody"
  %updated = f32[8]{0} dynamic-update-slice(%unknown, %sorted, %x)
  ROOT %reduced = f32[] fusion(%convolved), kind=kLoop, calls=%sums, metadata={op_name="jit(run)/update/sub"}
}
""")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("%twice", "elementwise"),
        ("%doubled", "elementwise"),
        ("%copied", "copy"),
        ("%deep", "convolution"),
        ("%grouped", "grouped convolution"),
        ("%gemm", "matrix product"),
        ("%cudnn", "convolution"),
        ("%reduced", "reduction"),
        ("%sorted", "sort"),
        ("%unknown", "other calls"),
        ("%updated", "copy"),
    ],
)
def test_an_operation_is_of_the_kind_of_its_heaviest_work(name: str, kind: str):
    assert step_profile.find_kind(PROGRAM, PROGRAM.instructions[name]) == kind


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("jit(run)/resnet50_512/jvp()/mul", "resnet50_512 forward"),
        ("jit(run)/resnet50_512/transpose(jvp())/mul", "resnet50_512 backward"),
        ("jit(run)/vmap(mobilefacenet_512)/add", "mobilefacenet_512 backward"),
        ("jit(run)/features/vmap()/gather", "features"),
        ("jit(run)/update/sub", "update"),
        ("jit(run)/add", "rest"),
        ("", "rest"),
    ],
)
def test_an_operation_is_of_the_part_that_it_was_traced_in(source: str, part: str):
    assert step_profile.find_part(source, VARIANTS) == part


def test_times_are_of_one_step():
    two_steps = [
        Event("%twice", 0, 2_000_000),
        Event("%twice", 2_000_000, 10_000_000),
        Event("%twice", 20_000_000, 24_000_000),
        Event("%twice", 24_000_000, 28_000_000),
        Event("%copied", 10_000_000, 14_000_000),
    ]
    twice, copied = step_profile.sum_operations(PROGRAM, VARIANTS, two_steps, steps=2)
    assert (twice.name, twice.part, twice.seconds, twice.calls) == ("%twice", "rest", 8e-3, 2)
    assert (copied.name, copied.part, copied.kind) == ("%copied", "resnet50_512 backward", "copy")
    assert (copied.seconds, copied.calls, copied.bytes) == (2e-3, 0.5, 0.5 * 2 * 8 * 4)


def test_what_runs_at_once_is_busy_once():
    events = [Event("a", 0, 10), Event("b", 5, 8), Event("c", 8, 20), Event("d", 30, 31)]
    assert step_profile.sum_busy_ns(reversed(events)) == 21
    assert step_profile.sum_busy_ns([]) == 0


def trace_loop(folder: Path) -> hlo.Program:
    """Write the trace of a program with a loop to the folder; return the program."""

    def run(x: jax.Array) -> jax.Array:
        return jax.lax.fori_loop(0, 4, lambda _, x: jnp.sin(x) @ x, x)

    x = jnp.ones((256, 256))
    compiled = jax.jit(run).lower(x).compile(compiler_options=step_profile.TRACEABLE["cpu"])
    with jax.profiler.trace(folder):
        for _ in range(3):
            jax.block_until_ready(compiled(x))
    return hlo.read_program(compiled)


def test_a_trace_of_this_machine_names_the_operations_of_the_program(tmp_path: Path):
    program = trace_loop(tmp_path)
    events = step_profile.read_events(tmp_path, program)
    operations = step_profile.sum_operations(program, (), events, steps=3)
    calls = {operation.kind: operation.calls for operation in operations}
    assert calls["matrix product"] == 4
    assert not {program.instructions[event.name].kind for event in events} & {"while", "call"}
    assert step_profile.sum_busy_ns(events) > 0


def test_a_trace_without_the_program_is_refused(tmp_path: Path):
    program = trace_loop(tmp_path)
    with pytest.raises(InputError, match="expected operations of jit_other in the trace"):
        step_profile.read_events(tmp_path, program._replace(name="jit_other"))
    with pytest.raises(InputError, match="got none"):
        step_profile.read_events(tmp_path / "nowhere", program)


def test_this_machine_can_be_traced():
    step_profile.require_traceable()
