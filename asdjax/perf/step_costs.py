"""What a training step costs, by XLA's counts: FLOPs and memory. A loop inside the step has one turn."""

from typing import Any, NamedTuple, cast

import jax
from jax.stages import Compiled, Wrapped

from asdjax.runtime import hardware
from asdjax.training.state import TrainSpec
from asdjax.training.step import compile_steps


class Memory(NamedTuple):
    """Bytes on each device: what goes in and comes out (audio, parameters, velocity), what the step needs besides, its
    code."""

    arguments: int
    temporaries: int
    code: int


def flops_of(spec: TrainSpec, arguments: Any) -> float:
    """FLOPs of a step on all devices together, `arguments` being what it is called with, or the shapes of that.

    Of the program as it is lowered for a processor, in the forms that are chosen for the platform: programs for GPUs
    hold calls to libraries, whose FLOPs are not counted, and lowered for GPU and TPU none are. A TPU's have the STFT's
    matrix products in them, 0.27 GFLOP a piece, each of which takes it several passes in bfloat16; a GPU's the zeros of
    the bands that its convolutions are laid out in.
    """
    mesh = hardware.data_meshes(devices=[hardware.processor()])[0]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    steps = cast(Wrapped, compile_steps(spec, mesh))
    return cast(dict[str, float], steps.lower(*shapes).cost_analysis())["flops"]


def memory_of(program: Compiled) -> Memory:
    """What a compiled step takes."""
    analysis: Any = program.memory_analysis()
    held = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return Memory(held, analysis.temp_size_in_bytes, analysis.generated_code_size_in_bytes)
