"""The trainer's own compiled step on synthetic audio, ready to be timed.

Letters: m tasks in a stack, v variants, b batch.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from time import perf_counter
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from asdjax.config.fields import Config, default_config
from asdjax.fleet.fleet_model import declare, initial_model
from asdjax.models.variants import PARAMETER_GROUPS
from asdjax.perf import hlo, step_costs, traffic
from asdjax.runtime import hardware
from asdjax.training import batches, sampler
from asdjax.training.audio_feed import make_waves
from asdjax.training.batches import Audio
from asdjax.training.group_size import choose_group_size
from asdjax.training.state import TrainSpec, init_state, make_train_spec, stack_states
from asdjax.training.step import DispatchArgs, compile_steps

CLASSES, CLIPS, CLIP_SAMPLES = 6, 192, 160_000
"""One machine type's sections, and so many clips of 10 s: 61 MB, more than a cache holds."""


@functools.cache
def clips() -> list[np.ndarray]:
    """Noise, int16 (s,) each."""
    noise = np.random.default_rng(0).integers(-3000, 3000, (CLIPS, CLIP_SAMPLES), np.int16)
    return list(noise)


def make_bench_config(variants: Sequence[str], batch: int, width: float) -> Config:
    """The report's settings for these variants, of no recordings in particular."""
    config = default_config()
    config.data.root = ()
    config.variants, config.train.batch_size, config.width = tuple(variants), batch, width
    config.parallel.fleets_per_program = 1
    return config


def make_bench_spec(
    variants: Sequence[str], batch: int, width: float, *, fleets: int = 1, variants_per_group: int = 0
) -> TrainSpec:
    """Return the report's settings for some variants; a group size of 0 is chosen by the device's memory."""
    config = make_bench_config(variants, batch, width)
    config.train.variants_per_group = variants_per_group
    return make_train_spec(config, CLASSES, PARAMETER_GROUPS, choose_group_size(config, 1, fleets))


class StepInputs(NamedTuple):
    """What a step is given besides its state and turn, of all tasks of a stack: plan and keys (m, v)."""

    mesh: Mesh
    audio: Audio
    plan: sampler.SamplingTable
    keys: jax.Array


def make_inputs(spec: TrainSpec, tasks: int = 1) -> StepInputs:
    """The clips on the device, each task's own, and what is drawn from them."""
    mesh = hardware.data_meshes(len(jax.devices()))[0]
    frames = spec.model.spectrogram.frames(CLIP_SAMPLES)
    class_of_clip = np.repeat(np.arange(CLASSES), CLIPS // CLASSES)
    plan = sampler.make_table(class_of_clip.tolist(), [False] * CLIPS, [frames] * CLIPS, list(range(CLASSES)))
    keys = jnp.stack([sampler.make_keys(0, f"bench {i}", spec.variants, "phase1") for i in range(tasks)])
    waves = make_waves(clips() * tasks)
    return StepInputs(mesh, *hardware.replicated((waves, sampler.stack_tables([plan] * tasks), keys), mesh))


class SignalStage:
    """The first part of a step: draw, cut, mix, transform, standardise."""

    def __init__(self, spec: TrainSpec, inputs: StepInputs) -> None:
        plan, keys = jax.tree.map(lambda leaf: leaf[0], (inputs.plan, inputs.keys))
        make = jax.jit(functools.partial(_pieces, spec))
        self._make = functools.partial(make, inputs.audio, plan, keys)

    def run(self, steps: int) -> float:
        """Seconds of so many steps' pieces. On a CPU each step's are waited for: JAX would begin the next beside them,
        as it cannot in training."""
        begun, wait = perf_counter(), not hardware.on_accelerator()
        made = None
        for i in range(steps):
            made = self._make(jnp.int32(i))
            if wait:
                jax.block_until_ready(made)
        jax.block_until_ready(made)
        return perf_counter() - begun


def _pieces(
    spec: TrainSpec, audio: Audio, plan: sampler.SamplingTable, keys: jax.Array, step: jax.Array
) -> dict[str, jax.Array]:
    return batches.make_pieces(spec, audio, batches.draw_batches(spec, plan, keys, step))


class Step:
    """A fleet's program in training, or several tasks' fleets stacked in one: as many steps as are asked for, on one
    device.

    `flops` and `traffic` are of a step, as training/counts.py and compiled/traffic.py have them: on a CPU without most
    of the gradients of depthwise kernels, whose rows are looped over.
    """

    def __init__(self, spec: TrainSpec, tasks: int = 1) -> None:
        hardware.processor()  # that counts FLOPs: not found missing only after minutes of compiling
        self.spec, self.tasks, self._inputs = spec, tasks, make_inputs(spec, tasks)
        self._done, self._rate = 0, default_config().optimizer.learning_rate
        state = stack_states([init_state(spec, initial_model(spec.model, 0, "bench"))] * tasks)
        self._state = hardware.replicated(state, self._inputs.mesh)
        begun = perf_counter()
        steps = cast(jax.stages.Wrapped, compile_steps(spec, self._inputs.mesh))
        arguments = (self._state, *self._inputs[1:], self._turn(1))
        self._lowered = steps.lower(*arguments)
        self._program = self._lowered.compile()
        self.compile_s = perf_counter() - begun
        self.flops = step_costs.flops_of(spec, arguments)
        program = hlo.program_of(self._program)
        self.traffic = traffic.bytes_moved(program, traffic.of_step(program, spec.steps_per_dispatch))
        self.memory = step_costs.memory_of(self._program)
        self.signal = SignalStage(spec, self._inputs)

    def _turn(self, steps: int) -> DispatchArgs:
        size = self.spec.steps_per_dispatch
        first = jnp.full(self.tasks, self._done, jnp.int32)
        return DispatchArgs(
            jnp.int32(steps), first, first + steps, jnp.full((self.tasks, size), self._rate, jnp.float32)
        )

    def recompile(self, options: Mapping[str, str | bool]) -> hlo.Program:
        """With these options of XLA's; what runs from here on."""
        self._program = self._lowered.compile(compiler_options=dict(options))
        return hlo.program_of(self._program)

    def run(self, steps: int) -> float:
        """Seconds of so many training steps; the host waits for the last one only."""
        begun = perf_counter()
        left = steps
        while left:
            now = min(left, self.spec.steps_per_dispatch)
            turn = self._turn(now)
            self._state, _ = self._program(self._state, *self._inputs[1:], turn)
            self._done, left = self._done + now, left - now
        jax.block_until_ready(self._state)
        return perf_counter() - begun

    def parameters(self) -> dict[str, int]:
        """Of each backbone, the head left out."""
        return {
            variant: sum(math.prod(leaf.shape) for leaf in declare(self.spec.model, variant).parameters.values())
            for variant in self.spec.variants
        }
