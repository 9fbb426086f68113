"""The training step of a configuration, compiled for devices, and its cost. m runs in one program, v variants."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from os import environ
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from asdjax import features
from asdjax.config.fields import PHASE1, Config
from asdjax.errors import InputError
from asdjax.models.variants import PARAMETER_GROUPS
from asdjax.perf import hlo, step_costs, traffic
from asdjax.perf.collectives import count_collectives
from asdjax.perf.hlo import Instruction, Program
from asdjax.perf.targets import Target
from asdjax.perf.workload import Work
from asdjax.runtime import hardware, private_cache
from asdjax.runtime.progress import log
from asdjax.training import audio_feed, sampler
from asdjax.training.audio_feed import PaddedSizes
from asdjax.training.batches import Audio
from asdjax.training.group_size import choose_group_size
from asdjax.training.phases import make_phase1_table
from asdjax.training.state import TrainSpec, describe_state, make_train_spec
from asdjax.training.step import DispatchArgs

# The package that compiles for a platform.
_COMPILERS = {"cpu": "jaxlib", "gpu": "jax-cuda13-pjrt", "tpu": "libtpu"}


@dataclass(frozen=True, kw_only=True)
class CycleEstimate:
    """A TPU compiler's estimate in cycles, and the bytes moved by operations without one."""

    cycles: float
    bytes_without: float


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """One device's share of a step.

    flops: by XLA's count. bytes_accessed: read from the device's memory and written to it. operations: those that move
    bytes, on a GPU about one kernel each. *_bytes: memory taken by arguments (audio, parameters, velocity),
    temporaries, code, and crops prefetched for later dispatches. collectives, bytes_sent: communication with other
    devices.
    """

    flops: float
    bytes_accessed: float
    operations: int
    arguments_bytes: int
    temporaries_bytes: int
    code_bytes: int
    prefetched_bytes: int
    collectives: dict[str, int]
    bytes_sent: float
    estimate: CycleEstimate
    compile_s: float


class StepCall(NamedTuple):
    """A step and the shapes of the arguments that training would call it with."""

    spec: TrainSpec
    arguments: tuple[Any, Audio, sampler.SamplingTable, jax.Array, DispatchArgs]

    def prefetched_bytes(self, devices: int) -> int:
        """Return each device's share of the int16 crops that training prefetches for two later dispatches."""
        audio = self.arguments[1]
        return 2 * 2 * math.prod(audio.samples.shape) // devices if isinstance(audio, features.Crops) else 0


def find_cost(config: Config, work: Work, target: Target) -> StepCost:
    """Compile the step, or read the cost stored when the same step was compiled for the same devices.

    Call it within `hardware.compiling_for`. Raises InputError if the compiler refuses the step, for example because
    memory is too small.
    """
    hardware.get_cpu()  # needed to count FLOPs: fails here rather than after minutes of compiling
    jax.config.update("jax_enable_compilation_cache", False)  # programs for other devices cannot be read back
    mesh = hardware.make_meshes(config.parallel.device_groups, target.devices)[0]
    hardware.require_divisible(config.train.batch_size, mesh)
    call = make_call(config, work, target, mesh)
    lowered = step_costs.lower_step(call.spec, mesh, call.arguments)
    cache = private_cache.make_folder("plans")
    file = cache / f"{_compute_digest(lowered.as_text(), target)}.json" if cache else None
    cost = _read_cost(file) if file else None
    if cost is None:
        log(f"compiling for {target.name}, which may take minutes")
        cost = _compile(lowered, call, target, mesh.size)
        if file:
            private_cache.write(file, json.dumps(asdict(cost)).encode())
    return cost


def _read_cost(file: Path) -> StepCost | None:
    """Read a stored cost; None if there is none or it is damaged."""
    try:
        stored = json.loads(file.read_bytes())
        return StepCost(**stored | {"estimate": CycleEstimate(**stored["estimate"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def sum_estimates(program: Program, lines: Sequence[Instruction]) -> CycleEstimate:
    """Return the estimate of instructions that run one after another."""
    cycles = sum(hlo.read_cycles(line) or 0 for line in lines)
    without = [line for line in lines if hlo.read_cycles(line) is None]
    return CycleEstimate(cycles=cycles, bytes_without=traffic.sum_bytes(program, without))


def make_call(config: Config, work: Work, target: Target, mesh: Mesh) -> StepCall:
    """Return the step as training would call it.

    Raises InputError if it depends on the device's memory, which is unknown.
    """
    runs = config.parallel.fleets_per_program
    size = choose_group_size(config, mesh.size, runs)
    spec = make_train_spec(config, len(work.task.classes), PARAMETER_GROUPS, size)
    clips = [np.broadcast_to(np.int16(0), length) for length in work.lengths]  # lengths that take no memory
    padded = audio_feed.find_padded_sizes(config, [[clips] * runs])
    audio = _shape_audio(config, spec, padded, target, mesh)
    if isinstance(audio, features.Crops):
        spec = audio_feed.limit_steps(spec, runs)
    return StepCall(spec, _shape_arguments(spec, audio, padded, work, runs, mesh))


def _compile(lowered: Any, call: StepCall, target: Target, devices: int) -> StepCost:
    begun = perf_counter()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"--devices {target.name}: expected a step that their compiler accepts, got: {reason}; choose more "
            "devices, a smaller config.train.batch_size or fewer config.variants"
        ) from error
    compile_s = perf_counter() - begun
    memory = step_costs.read_memory(compiled)
    program = hlo.read_program(compiled)
    step = traffic.select_step(program, call.spec.steps_per_dispatch)
    collectives = count_collectives(program, step, devices)
    return StepCost(
        flops=step_costs.count_flops(call.spec, call.arguments) / devices,
        bytes_accessed=traffic.sum_bytes(program, step),
        operations=sum(traffic.count_bytes(program, line) > 0 for line in step),
        arguments_bytes=memory.arguments,
        temporaries_bytes=memory.temporaries,
        code_bytes=memory.code,
        prefetched_bytes=call.prefetched_bytes(devices),
        collectives=collectives.numbers,
        bytes_sent=collectives.bytes_sent,
        estimate=sum_estimates(program, step),
        compile_s=round(compile_s, 1),
    )


def _compute_digest(program: str, target: Target) -> str:
    """Digest the inputs of a compilation, except the libraries that a GPU's compiler calls."""
    settings = {name: environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
    compiler = _find_version(_COMPILERS[target.platform])
    return private_cache.digest_program(target.name, target.kind, compiler, settings, program)


def _find_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _shape_arguments(
    spec: TrainSpec, audio: Audio, padded: PaddedSizes, work: Work, runs: int, mesh: Mesh
) -> tuple[Any, Audio, sampler.SamplingTable, jax.Array, DispatchArgs]:
    """Return the step's arguments as shapes on the mesh: state, audio, sampling table, keys (m, v), dispatch."""
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((runs, *leaf.shape), leaf.dtype), describe_state(spec))
    frames = [spec.model.spectrogram.frames(length) for length in work.lengths]
    tables = [make_phase1_table(work.task, frames)] * runs
    table = sampler.stack_tables(tables, padded.task_clips, padded.program_clips)
    keys = jnp.stack([sampler.make_keys(0, "plan", spec.variants, PHASE1)] * runs)
    each = jnp.zeros(runs, jnp.int32)
    dispatch = DispatchArgs(jnp.int32(0), each, each, jnp.zeros((runs, spec.steps_per_dispatch), jnp.float32))
    state, table, keys, dispatch = _replicate_shapes((state, table, keys, dispatch), mesh)
    return state, audio, table, keys, dispatch


def _shape_audio(config: Config, spec: TrainSpec, padded: PaddedSizes, target: Target, mesh: Mesh) -> Audio:
    """Return shapes of all clips if they fit on the devices, else of one dispatch's crops."""
    if target.platform != "cpu" and target.memory_bytes is None and config.data.resident == "auto":
        raise InputError(
            f"config.data.resident: expected device or host, because the memory of {target.kind} is unknown, got auto"
        )
    runs = config.parallel.fleets_per_program
    if padded.pages:  # the audio goes to the device
        pages = jax.ShapeDtypeStruct((padded.pages, audio_feed.PAGE_SAMPLES), jnp.int16)
        per_clip = jax.ShapeDtypeStruct((padded.program_clips,), jnp.int32)
        return _replicate_shapes(features.Waves(pages, per_clip, per_clip), mesh)  # pyright: ignore[reportArgumentType]
    shape = audio_feed.find_crops_shape(audio_feed.limit_steps(spec, runs), runs)
    split = NamedSharding(mesh, hardware.CROPS_SPLIT)
    return features.Crops(jax.ShapeDtypeStruct(shape, jnp.int16, sharding=split))  # pyright: ignore[reportArgumentType]


def _replicate_shapes[Tree](tree: Tree, mesh: Mesh) -> Tree:
    replicated = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=replicated), tree)
