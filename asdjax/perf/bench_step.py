"""The trainer's compiled step on synthetic audio, ready to be timed. m runs in one program, v variants, b batch."""

import functools
import math
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from asdjax.config.fields import PHASE1, Config, default_config
from asdjax.fleet.fleet_model import declare, init_model
from asdjax.models.variants import PARAMETER_GROUPS
from asdjax.perf import hlo, step_costs, traffic
from asdjax.runtime import hardware
from asdjax.training import batches, sampler
from asdjax.training.audio_feed import make_waves
from asdjax.training.batches import Audio
from asdjax.training.group_size import choose_group_size
from asdjax.training.state import TrainSpec, init_state, make_train_spec, stack_states
from asdjax.training.step import DispatchArgs

# The sections of one machine type, and clips of 10 s: 61 MB, more than a cache holds.
CLASSES, CLIPS, CLIP_SAMPLES = 6, 192, 160_000


@functools.cache
def make_clips() -> list[np.ndarray]:
    """Return CLIPS clips of noise, each int16 (CLIP_SAMPLES,)."""
    noise = np.random.default_rng(0).integers(-3000, 3000, (CLIPS, CLIP_SAMPLES), np.int16)
    return list(noise)


def make_bench_config(variants: Sequence[str], batch: int, width: float) -> Config:
    """Return the report's settings for these variants, without recordings."""
    config = default_config()
    config.data.root = ()
    config.variants, config.train.batch_size, config.width = tuple(variants), batch, width
    config.parallel.fleets_per_program = 1
    return config


def make_bench_spec(variants: Sequence[str], batch: int, width: float, fleets: int = 1) -> TrainSpec:
    """Return the spec of `make_bench_config` for CLASSES classes and a program of some fleets."""
    config = make_bench_config(variants, batch, width)
    return make_train_spec(config, CLASSES, PARAMETER_GROUPS, choose_group_size(config, 1, fleets))


class StepInputs(NamedTuple):
    """A step's arguments besides its state and dispatch, for all runs of a program: table and keys (m, v)."""

    mesh: Mesh
    audio: Audio
    table: sampler.SamplingTable
    keys: jax.Array


def make_inputs(spec: TrainSpec, runs: int = 1) -> StepInputs:
    """Put the clips on the device, a copy for each run, with their sampling tables and keys."""
    mesh = hardware.make_meshes(len(jax.devices()))[0]
    frames = spec.model.spectrogram.frames(CLIP_SAMPLES)
    class_of_clip = np.repeat(np.arange(CLASSES), CLIPS // CLASSES)
    table = sampler.make_table(class_of_clip.tolist(), [False] * CLIPS, [frames] * CLIPS, list(range(CLASSES)))
    keys = jnp.stack([sampler.make_keys(0, f"bench {i}", spec.variants, PHASE1) for i in range(runs)])
    waves = make_waves(make_clips() * runs)
    return StepInputs(mesh, *hardware.replicate((waves, sampler.stack_tables([table] * runs), keys), mesh))


class SignalStage:
    """The first part of a step: draw, cut, mix, transform, standardise."""

    def __init__(self, spec: TrainSpec, inputs: StepInputs) -> None:
        table, keys = jax.tree.map(lambda leaf: leaf[0], (inputs.table, inputs.keys))
        make = jax.jit(functools.partial(_make_pieces, spec))
        self._make = functools.partial(make, inputs.audio, table, keys)

    def run(self, steps: int) -> float:
        """Make the pieces of `steps` steps; return the seconds.

        On a CPU each step is waited for. JAX would otherwise run several at once, which training cannot.
        """
        begun, wait = perf_counter(), not hardware.on_accelerator()
        pieces = None
        for i in range(steps):
            pieces = self._make(jnp.int32(i))
            if wait:
                jax.block_until_ready(pieces)
        jax.block_until_ready(pieces)
        return perf_counter() - begun


def _make_pieces(
    spec: TrainSpec, audio: Audio, table: sampler.SamplingTable, keys: jax.Array, step: jax.Array
) -> dict[str, jax.Array]:
    return batches.make_pieces(spec, audio, batches.draw_batches(spec, table, keys, step))


class BenchStep:
    """The program that trains one fleet, or several, compiled for one device.

    `flops` and `traffic` (bytes) are for one step, by perf/step_costs.py and perf/traffic.py. On a CPU they leave out
    most of the gradients of depthwise kernels, whose loop over rows is counted once.
    """

    def __init__(self, spec: TrainSpec, runs: int = 1) -> None:
        hardware.get_cpu()  # needed to count FLOPs: fails here rather than after minutes of compiling
        self.spec, self.runs, self._inputs = spec, runs, make_inputs(spec, runs)
        self._steps_done, self._rate = 0, default_config().optimizer.learning_rate
        state = stack_states([init_state(spec, init_model(spec.model, 0, "bench"))] * runs)
        self._state = hardware.replicate(state, self._inputs.mesh)
        begun = perf_counter()
        arguments = (self._state, *self._inputs[1:], self._make_dispatch(1))
        self._lowered = step_costs.lower_step(spec, self._inputs.mesh, arguments)
        self._compiled = self._lowered.compile()
        self.compile_s = perf_counter() - begun
        self.flops = step_costs.count_flops(spec, arguments)
        program = hlo.read_program(self._compiled)
        self.traffic = traffic.sum_bytes(program, traffic.select_step(program, spec.steps_per_dispatch))
        self.memory = step_costs.read_memory(self._compiled)
        self.signal = SignalStage(spec, self._inputs)

    def _make_dispatch(self, steps: int) -> DispatchArgs:
        size = self.spec.steps_per_dispatch
        first = jnp.full(self.runs, self._steps_done, jnp.int32)
        rates = jnp.full((self.runs, size), self._rate, jnp.float32)
        return DispatchArgs(jnp.int32(steps), first, first + steps, rates)

    def recompile(self, options: Mapping[str, str | bool]) -> hlo.Program:
        """Compile again with these XLA options, for all later runs; return the program."""
        self._compiled = self._lowered.compile(compiler_options=dict(options))
        return hlo.read_program(self._compiled)

    def run(self, steps: int) -> float:
        """Run `steps` training steps, waiting for the last only; return the seconds."""
        begun = perf_counter()
        left = steps
        while left:
            now = min(left, self.spec.steps_per_dispatch)
            dispatch = self._make_dispatch(now)
            self._state, _ = self._compiled(self._state, *self._inputs[1:], dispatch)
            self._steps_done, left = self._steps_done + now, left - now
        jax.block_until_ready(self._state)
        return perf_counter() - begun

    def count_parameters(self) -> dict[str, int]:
        """Return the number of parameters of each backbone, without its head."""
        return {
            variant: sum(math.prod(leaf.shape) for leaf in declare(self.spec.model, variant).parameters.values())
            for variant in self.spec.variants
        }
