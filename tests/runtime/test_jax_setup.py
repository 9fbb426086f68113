"""Tests of JAX's setup: compiler options, numbers independent of the environment, missing devices."""

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from conftest import python

from asdjax.runtime import jax_setup


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_other_platforms_than_gpus_are_told_nothing(platform: str) -> None:
    assert jax_setup.compiler_options(platform) is None


def test_the_options_of_a_gpu_are_ones_that_xla_has() -> None:
    options = jax_setup.compiler_options("gpu")
    assert options
    assert jax.jit(lambda x: x + 1, compiler_options=options)(jnp.ones(2)).tolist() == [2, 2]
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(lambda x: x + 1, compiler_options={next(iter(options)) + "_": True})(jnp.ones(2))


@pytest.mark.parametrize(
    ("plugin", "gpu", "short"), [("cuda13", False, True), ("cuda13", True, False), ("x", False, False)]
)
def test_a_plugin_for_cuda_where_there_is_no_gpu_is_told_of_in_a_line(
    plugin: str, gpu: bool, short: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter([Path("/dev/nvidia0")] if gpu else []))
    try:
        raise RuntimeError("no driver")
    except RuntimeError:
        logging.getLogger("jax._src.xla_bridge").exception("calling jax_plugins.xla_%s.initialize()", plugin)
    (record,) = caplog.records
    assert (record.exc_info is None) == short
    assert ("found no GPU here" in record.getMessage()) == short


DRAWN = """
import hashlib, sys
import jax, jax.numpy as jnp, numpy as np
from asdjax.runtime import jax_setup
from asdjax.training import sampler

jax_setup.prepare()
plan = sampler.make_table([0, 0, 1, 1], [False] * 4, [40] * 4, (0, 1))
key = sampler.make_keys(0, "fan", ["a"], "phase1")[0]
draw = sampler.draw_batch(key, jnp.int32(3), plan, batch=8, piece_frames=32, max_weight=0.5)
weights = jax.random.normal(sampler.make_key(5, "x"), (16, 16))
product = jax.jit(lambda x: jnp.tanh(x @ x.T / (1 + jnp.arange(16))))(weights)
for array in (*draw, weights, product):
    print(array.dtype, hashlib.sha256(np.asarray(array).tobytes()).hexdigest())
"""

SWITCHES = {
    "JAX_ENABLE_X64": "1",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_RANDOM_SEED_OFFSET": "7",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "warn",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DEFAULT_DTYPE_BITS": "32",
    "JAX_LEGACY_PRNG_KEY": "error",
    "JAX_DISABLE_JIT": "1",
    "JAX_DEBUG_NANS": "1",
}


def test_draws_types_and_products_are_the_same_whatever_the_environment_says() -> None:
    plain, switched = (python(DRAWN, env=env) for env in ({}, SWITCHES))
    assert plain.returncode == 0, plain.stderr
    assert switched.stdout == plain.stdout
    assert plain.stdout.count("\n") == 8
    assert "JAX_ENABLE_X64=1" in switched.stderr
    assert "ignored, as a run's random draws and types are settled by its configuration" in switched.stderr
    assert "ignored" not in plain.stderr


def test_the_pinned_values_are_those_that_jax_has_by_itself() -> None:
    """In a plain environment, pinning changes nothing."""
    before = {name: jax.config.values[name] for name in jax_setup._PINNED if name in jax.config.values}
    jax_setup.pin_numbers()
    assert {name: jax.config.values[name] for name in before} == before
    assert len(before) >= 15


@pytest.mark.parametrize(
    ("platforms", "advice"),
    [
        ("cuda", "install asdjax[cuda] where there is such a device, or unset it, or set it to cpu"),
        pytest.param("tpu", "install asdjax[tpu] where", marks=pytest.mark.slow),
        pytest.param("nonsense", "(Unable to initialize backend 'nonsense': ", marks=pytest.mark.slow),
    ],
)
def test_a_platform_that_jax_does_not_find_is_refused_in_one_line(platforms: str, advice: str, tmp_path: Path) -> None:
    run = "import sys; from asdjax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    words = ["train", "--config", "dcase2021", "--workdir", str(tmp_path / "run")]
    ran = python(run, *words, env={"JAX_PLATFORMS": platforms})
    assert ran.returncode == 2
    (line,) = ran.stderr.splitlines()
    assert line.startswith(
        f"asdjax train: JAX_PLATFORMS={platforms}: expected a platform that JAX finds here, got none"
    )
    assert advice in line
    assert not (tmp_path / "run").exists()
