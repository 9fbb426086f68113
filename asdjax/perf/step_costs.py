"""FLOPs and memory of a training step by XLA's counts, which count a loop inside the step once."""

from typing import Any, NamedTuple, cast

import jax
from jax.sharding import Mesh
from jax.stages import Compiled, Lowered, Wrapped

from asdjax.runtime import hardware
from asdjax.training.state import TrainSpec
from asdjax.training.step import compile_steps


class StepMemory(NamedTuple):
    """Bytes on each device: arguments and results (audio, parameters, velocity), temporaries, code."""

    arguments: int
    temporaries: int
    code: int


def lower_step(spec: TrainSpec, mesh: Mesh, arguments: Any) -> Lowered:
    """Lower the training step as training would; `arguments` are arrays or their shapes."""
    return cast(Wrapped, compile_steps(spec, mesh)).lower(*arguments)


def count_flops(spec: TrainSpec, arguments: Any) -> float:
    """Return the FLOPs of a step on all devices together; `arguments` are arrays or their shapes.

    They are counted in the program lowered for the processor with the forms of the current platform, because XLA counts
    none for GPU and TPU. A TPU's count includes the STFT's matrix products (0.27 GFLOP a piece, each several passes in
    bfloat16), a GPU's the zeros of its banded convolutions.
    """
    mesh = hardware.make_meshes(devices=[hardware.get_cpu()])[0]
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arguments)
    return cast(dict[str, float], lower_step(spec, mesh, shapes).cost_analysis())["flops"]


def read_memory(program: Compiled) -> StepMemory:
    """Return the memory that a compiled step takes."""
    analysis: Any = program.memory_analysis()
    arguments = analysis.argument_size_in_bytes + analysis.output_size_in_bytes - analysis.alias_size_in_bytes
    return StepMemory(arguments, analysis.temp_size_in_bytes, analysis.generated_code_size_in_bytes)
