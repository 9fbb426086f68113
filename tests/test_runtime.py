"""What XLA is told, and that it knows it."""

import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from asdjax import runtime


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
def test_other_platforms_than_gpus_are_told_nothing(platform: str) -> None:
    assert runtime.compiler_options(platform) is None


def test_the_options_of_a_gpu_are_ones_that_xla_has() -> None:
    options = runtime.compiler_options("gpu")
    assert options
    assert jax.jit(lambda x: x + 1, compiler_options=options)(jnp.ones(2)).tolist() == [2, 2]
    with pytest.raises(jax.errors.JaxRuntimeError, match="No such compile option"):
        jax.jit(lambda x: x + 1, compiler_options={next(iter(options)) + "_": True})(jnp.ones(2))


@pytest.mark.parametrize("gpu", [False, True])
def test_a_plugin_that_finds_no_gpu_is_news_only_where_there_is_one(
    gpu: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Path, "glob", lambda *_: iter([Path("/dev/nvidia0")] if gpu else []))
    of_jax = logging.getLogger("jax._src.xla_bridge")
    try:
        raise RuntimeError("no driver")
    except RuntimeError:
        of_jax.exception("Jax plugin configuration error")
    of_jax.warning("something else")
    told = ["Jax plugin configuration error"] if gpu else []
    assert caplog.messages == [*told, "something else"]
