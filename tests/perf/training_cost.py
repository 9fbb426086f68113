"""Measure the costs of training besides arithmetic: compiling, cold and cached, memory, and Python's time per step.

uv run python tests/perf/training_cost.py [BATCH]      full-size variants, one by one, then all six; minutes on a CPU
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np

from asdjax.cli.main import main as asdjax
from asdjax.config.fields import VARIANTS, default_config
from asdjax.data.synthetic.synthesis import Recipe, synthesize
from asdjax.models.variants import PARAMETER_GROUPS
from asdjax.perf import step_costs
from asdjax.runtime import hardware
from asdjax.training import loop, sampler
from asdjax.training import step as step_module
from asdjax.training.audio_feed import make_waves
from asdjax.training.state import describe_state, make_train_spec
from asdjax.training.step import DispatchArgs, StepMetrics

DISPATCHES = 5_000


def compile_step(names: Sequence[str], batch: int, width: float = 1.0) -> tuple[float, float, float]:
    """Return the seconds to compile the step, bytes of the state, and bytes of its temporaries by XLA's count."""
    config = default_config()
    config.variants, config.train.batch_size, config.train.steps_per_dispatch = tuple(names), batch, 1
    config.width = width
    spec = make_train_spec(config, 6, PARAMETER_GROUPS, 1)
    table = sampler.stack_tables([sampler.make_table(list(range(6)) * 2, [False] * 12, [313] * 12, list(range(6)))])
    waves = make_waves([np.zeros(160_000, np.int16)] * 12)
    keys = sampler.make_keys(0, "fan", spec.variants, "phase1")[None]
    dispatch = DispatchArgs(jnp.int32(1), jnp.zeros(1, jnp.int32), jnp.ones(1, jnp.int32), jnp.zeros((1, 1)))
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), describe_state(spec))
    step_module._compile_steps.cache_clear()
    begun = perf_counter()
    compiled = step_costs.lower_step(spec, hardware.make_meshes()[0], (shapes, waves, table, keys, dispatch)).compile()
    seconds = perf_counter() - begun
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(shapes))
    return seconds, state, step_costs.read_memory(compiled).temporaries


def measure_python(steps_per_dispatch: int) -> float:
    """Return the seconds of `asdjax train` per step with a program that takes no time, logging as by default."""

    def make_empty_steps(spec: Any, _: Any) -> Any:
        nothing = np.zeros((steps_per_dispatch, 1, len(spec.variants)), np.float32)
        return lambda state, *_: (state, StepMetrics(nothing, nothing, nothing))

    steps = DISPATCHES * steps_per_dispatch
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(loop, "compile_steps", make_empty_steps):
        data, times = Path(folder, "data"), []
        synthesize(
            data, Recipe(source_clips=4, target_clips=2, test_clips=1, sections=2, seconds=2.0), machines=("fan",)
        )
        for number in (1, 1, 2):  # the first warms up
            fields = {
                "data.root": data,
                "width": 0.05,
                "phase1.steps": number * steps,
                "phase2.strategies": "",
                "train.checkpoint_every_steps": 10**9,
                "train.steps_per_dispatch": steps_per_dispatch,
            }
            words = [f"--config.{field}={value}" for field, value in fields.items()]
            begun = perf_counter()
            assert asdjax(["train", "--config", "dcase2021", "--workdir", f"{folder}/{len(times)}", *words]) == 0
            times.append(perf_counter() - begun)
    return (times[2] - times[1]) / steps


def main() -> None:
    """Print a line for each variant, for all six, and for Python's time."""
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    with tempfile.TemporaryDirectory() as cache:
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        for names in [*((name,) for name in VARIANTS), VARIANTS]:
            cold, state, temporaries = compile_step(names, batch)
            jax.clear_caches()
            cached, *_ = compile_step(names, batch)
            name = names[0] if len(names) == 1 else "all six"
            print(
                f"{name:22}batch {batch}: compiled in {cold:5.1f} s, from the cache {cached:5.1f} s; state "
                f"{state / 2**20:6.0f} MiB, temporaries {temporaries / 2**30:5.2f} GiB",
                flush=True,
            )
    for size in (1, 50):
        print(f"{size:2} steps a dispatch: {1e6 * measure_python(size):.0f} us of Python a step")


if __name__ == "__main__":
    main()
