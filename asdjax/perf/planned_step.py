"""The training step of a configuration compiled for devices, and what the compiler says of it.

m tasks in a stack, v variants.
"""

import json
import math
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from os import environ
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from asdjax import features
from asdjax.config.fields import Config
from asdjax.errors import InputError
from asdjax.models.variants import PARAMETER_GROUPS
from asdjax.perf import hlo, step_costs, traffic
from asdjax.perf.collectives import collectives_of
from asdjax.perf.hlo import Instruction, Program
from asdjax.perf.targets import Target
from asdjax.perf.workload import Work
from asdjax.runtime import hardware, private_cache
from asdjax.runtime.progress import log
from asdjax.training import audio_feed, sampler
from asdjax.training.batches import Audio
from asdjax.training.group_size import choose_group_size
from asdjax.training.phases import make_phase1_table
from asdjax.training.state import TrainSpec, abstract_state, make_train_spec
from asdjax.training.step import DispatchArgs, compile_steps

_COMPILERS = {"cpu": "jaxlib", "gpu": "jax-cuda13-pjrt", "tpu": "libtpu"}
"""The package that compiles for a platform."""


class Estimate(NamedTuple):
    """Cycles by the compiler's own estimate, which only a TPU's makes; bytes that move in what it makes none of."""

    cycles: float
    bytes_without: float


class Cost(NamedTuple):
    """Of one device's part of a step: FLOPs by XLA's count; bytes read from its memory and written there; operations
    that move any, on a GPU about a kernel each; bytes that lie there (arguments: audio, parameters, velocity;
    temporaries; code; crops that wait for later dispatches); what it tells other devices; the compiler's estimate;
    seconds to compile."""

    flops: float
    bytes_accessed: float
    operations: int
    arguments_bytes: int
    temporaries_bytes: int
    code_bytes: int
    waiting_bytes: int
    collectives: dict[str, int]
    bytes_sent: float
    estimate: Estimate
    compile_s: float


def cost_of(config: Config, work: Work, target: Target) -> Cost:
    """Compile the step, or read what was found when the same one was compiled for the same devices; to be called
    within `parallel.compiling_for`.

    Raises InputError where the compiler refuses it, as it does where memory is too small.
    """
    hardware.processor()  # that counts FLOPs: not found missing only after minutes of compiling
    jax.config.update("jax_enable_compilation_cache", False)  # what is compiled for other devices cannot be read back
    mesh = hardware.data_meshes(config.parallel.device_groups, target.devices)[0]
    hardware.require_divisible(config.train.batch_size, mesh)
    call = call_of(config, work, target, mesh)
    steps = cast(jax.stages.Wrapped, compile_steps(call.spec, mesh))
    lowered = steps.lower(*call.arguments)
    cache = private_cache.make_folder("plans")
    file = cache / f"{_digest(lowered.as_text(), target)}.json" if cache else None
    found = _read(file) if file else None
    if found is None:
        log(f"compiling for {target.name}, which may take minutes")
        found = _compiled(lowered, call, target, mesh.size)
        if file:
            private_cache.write(file, json.dumps(as_json(found)).encode())
    return found


def _read(file: Path) -> Cost | None:
    """What was found before; None where there is nothing, or it is damaged."""
    try:
        kept = json.loads(file.read_bytes())
        return Cost(**kept | {"estimate": Estimate(**kept["estimate"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def as_json(cost: Cost) -> dict[str, Any]:
    """Every field by its name."""
    return cost._asdict() | {"estimate": cost.estimate._asdict()}


def estimated(compiled: Program, lines: Sequence[Instruction]) -> Estimate:
    """Of these, one after another."""
    cycles = sum(hlo.cycles(line) or 0 for line in lines)
    return Estimate(cycles, sum(traffic.bytes_of(compiled, line) for line in lines if hlo.cycles(line) is None))


class Call(NamedTuple):
    """A spec's step, and the shapes that training would call it with."""

    spec: TrainSpec
    arguments: tuple[Any, Audio, sampler.SamplingTable, jax.Array, DispatchArgs]

    def waiting_bytes(self, devices: int) -> int:
        """Of each device's part of the crops that wait there for the next dispatches, as training/feed.py has it."""
        audio = self.arguments[1]
        return 2 * 2 * math.prod(audio.samples.shape) // devices if isinstance(audio, features.Crops) else 0


def call_of(config: Config, work: Work, target: Target, mesh: Mesh) -> Call:
    """The step as training would call it."""
    stacked = config.parallel.fleets_per_program
    size = choose_group_size(config, mesh.size, stacked)
    spec = make_train_spec(config, len(work.task.classes), PARAMETER_GROUPS, size)
    audio = _audio(config, spec, work, stacked, target, mesh)
    if isinstance(audio, features.Crops):
        spec = audio_feed.limit_steps(spec, stacked)
    return Call(spec, _inputs(spec, audio, work, stacked, mesh))


def _compiled(lowered: Any, call: Call, target: Target, devices: int) -> Cost:
    begun = perf_counter()
    try:
        program = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(
            f"--devices {target.name}: expected a step that their compiler takes; choose more devices, a "
            f"smaller config.train.batch_size or fewer config.variants; it said: {reason}"
        ) from error
    compile_s = perf_counter() - begun
    memory = step_costs.memory_of(program)
    compiled = hlo.program_of(program)
    step = traffic.of_step(compiled, call.spec.steps_per_dispatch)
    collectives = collectives_of(compiled, step, devices)
    return Cost(
        flops=step_costs.flops_of(call.spec, call.arguments) / devices,
        bytes_accessed=traffic.bytes_moved(compiled, step),
        operations=sum(traffic.bytes_of(compiled, line) > 0 for line in step),
        arguments_bytes=memory.arguments,
        temporaries_bytes=memory.temporaries,
        code_bytes=memory.code,
        waiting_bytes=call.waiting_bytes(devices),
        collectives=collectives.numbers,
        bytes_sent=collectives.bytes_sent,
        estimate=estimated(compiled, step),
        compile_s=round(compile_s, 1),
    )


def _digest(program: str, target: Target) -> str:
    """Of what a compiled program depends on, but for the libraries that a GPU's compiler calls."""
    settings = {name: environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")}
    compiler = _version(_COMPILERS[target.platform])
    return private_cache.digest_program(target.name, target.kind, compiler, settings, program)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _inputs(
    spec: TrainSpec, audio: Audio, work: Work, stacked: int, mesh: Mesh
) -> tuple[Any, Audio, sampler.SamplingTable, jax.Array, DispatchArgs]:
    """What the step is given, as shapes on the mesh: state, audio, plan, keys, turn."""
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((stacked, *leaf.shape), leaf.dtype), abstract_state(spec))
    frames = [spec.model.spectrogram.frames(length) for length in work.lengths]
    plan = make_phase1_table(work.task, frames)
    keys = jnp.stack([sampler.make_keys(0, "plan", spec.variants, "phase1")] * stacked)
    each = jnp.zeros(stacked, jnp.int32)
    turn = DispatchArgs(jnp.int32(0), each, each, jnp.zeros((stacked, spec.steps_per_dispatch), jnp.float32))
    state, plan, keys, turn = _everywhere((state, sampler.stack_tables([plan] * stacked), keys, turn), mesh)
    return state, audio, plan, keys, turn


def _audio(config: Config, spec: TrainSpec, work: Work, stacked: int, target: Target, mesh: Mesh) -> Audio:
    """All clips where they fit on the devices, else the crops of a dispatch: shapes."""
    if target.platform != "cpu" and target.memory_bytes is None and config.data.resident == "auto":
        raise InputError(
            f"config.data.resident: expected device or host, as the memory of {target.kind} is not known, got auto"
        )
    clips = [np.broadcast_to(np.int16(0), length) for length in work.lengths] * stacked  # lengths without memory
    if audio_feed.is_resident(config, clips):
        pages = jax.ShapeDtypeStruct((audio_feed.count_pages(clips), audio_feed.PAGE_SAMPLES), jnp.int16)
        of_clip = jax.ShapeDtypeStruct((len(clips),), jnp.int32)
        return _everywhere(features.Waves(pages, of_clip, of_clip), mesh)  # pyright: ignore[reportArgumentType]
    shape = audio_feed.crops_shape(audio_feed.limit_steps(spec, stacked), stacked)
    split = NamedSharding(mesh, hardware.CROPS_SPLIT)
    return features.Crops(jax.ShapeDtypeStruct(shape, jnp.int16, sharding=split))  # pyright: ignore[reportArgumentType]


def _everywhere[Tree](tree: Tree, mesh: Mesh) -> Tree:
    """Shapes of arrays that lie whole on every device."""
    on_all = NamedSharding(mesh, PartitionSpec())
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=on_all), tree)
