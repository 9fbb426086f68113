"""What a training step costs, by XLA's counts: FLOPs, memory traffic, memory. A loop inside the step has one turn."""

import math
import re
from typing import Any, NamedTuple, cast

import jax
from jax.stages import Compiled, Wrapped

from asdjax import parallel
from asdjax.training import train_step
from asdjax.training.fleet import FleetSpec

_BITS = re.compile(r"[a-z]+(\d+)")
_ARRAY = re.compile(r"\b(pred|[a-z]+\d+\w*)\[([\d,]*)\]")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?(?P<name>%[\w.-]+) = (?P<shape>.*?) (?P<kind>[a-z][\w-]*)\((?P<operands>.*)")
_LIBRARY = 'custom_call_target="__cu'
_SCRATCH = re.compile(r", [su]8\[\d+\](\{\d*\})?\)$")
_NAME = re.compile(r"%[\w.-]+")


class Memory(NamedTuple):
    """Bytes on each device: what goes in and comes out (audio, parameters, velocity), what the step needs besides, its
    code."""

    arguments: int
    temporaries: int
    code: int


def flops_of(spec: FleetSpec, arguments: Any) -> float:
    """FLOPs of a step on all devices together, `arguments` being what it is called with, or the shapes of that.

    Of the program as it is lowered for a processor, in the forms that are chosen for the platform: programs for GPUs
    hold calls to libraries, whose FLOPs are not counted, and lowered for GPU and TPU none are.
    """
    mesh = parallel.data_meshes(devices=[parallel.processor()])[0]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    steps = cast(Wrapped, train_step.compiled_steps(spec, mesh))
    return cast(dict[str, float], steps.lower(*shapes).cost_analysis())["flops"]


def traffic_of(program: Compiled) -> float:
    """Bytes that one device reads and writes in a step. XLA leaves out calls to cuDNN and cuBLAS, a GPU's convolutions
    and matrix products: what these take and give is added."""
    return cast(dict[str, float], program.cost_analysis())["bytes accessed"] + called_bytes(program.as_text() or "")


def memory_of(program: Compiled) -> Memory:
    """What a compiled step takes."""
    analysis: Any = program.memory_analysis()
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Memory(held, analysis.temp_size_in_bytes, analysis.generated_code_size_in_bytes)


def called_bytes(program: str) -> float:
    """Operands and results of the calls to NVIDIA's libraries in a program's optimised HLO text, each counted once, and
    without the scratch memory, int8, that such a call names as its last result."""
    instructions = [found for line in program.splitlines() if (found := _INSTRUCTION.match(line))]
    of_name = {found["name"]: sum(array_bytes(found["shape"])) for found in instructions}
    return sum(
        sum(array_bytes(_SCRATCH.sub(")", found["shape"])))
        + sum(of_name.get(name, 0) for name in _NAME.findall(_operands(found["operands"])))
        for found in instructions
        if found["kind"] == "custom-call" and _LIBRARY in found["operands"]
    )


def _operands(rest: str) -> str:
    """What stands before the parenthesis that closes the operands; shapes among them may have their own."""
    depth = 1
    for at, character in enumerate(rest):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if depth == 0:
            return rest[:at]
    return rest


def array_bytes(shape: str) -> list[float]:
    """Bytes of each array in a shape as HLO text has it, such as `(f32[64]{0}, u8[1024]{0})`."""
    return [
        math.prod(int(n) for n in size.split(",") if n) * (int(bits[1]) / 8 if (bits := _BITS.match(kind)) else 1)
        for kind, size in _ARRAY.findall(shape)
    ]
