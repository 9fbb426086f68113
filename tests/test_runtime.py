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
