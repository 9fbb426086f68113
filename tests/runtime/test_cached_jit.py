"""Tests of traces that are cached between processes."""

import os
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python

from asdjax.runtime import private_cache
from asdjax.runtime.cached_jit import cached_jit

ROWS = jax.ShapeDtypeStruct((3,), jnp.float32)
X = np.array([1.0, 2.0, 3.0], np.float32)


class Doubling:
    """Functions that double, and how often they were traced.

    JAX itself keeps a function's trace within a process.
    """

    def __init__(self) -> None:
        self.times = 0

    def make(self) -> Callable[[jax.Array], jax.Array]:
        """Return a function that JAX has not traced yet."""

        def double(x: jax.Array) -> jax.Array:
            self.times += 1
            return 2 * x

        return double


@pytest.fixture
def traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of cached traces, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "asdjax" / "traced"


def test_a_trace_serves_later_calls_and_computes_the_same(traces: Path):
    double = Doubling()
    for _ in range(2):
        np.testing.assert_array_equal(cached_jit(double.make(), "double", ROWS)(X), jax.jit(lambda x: 2 * x)(X))
    assert double.times == 1
    assert len(list(traces.iterdir())) == 1
    assert traces.stat().st_mode & 0o077 == 0


EMBED = """
from asdjax.perf.bench_step import make_bench_spec
from asdjax.fleet import embed
trace = embed.embed_magnitudes
embed.embed_magnitudes = lambda *of: print("traced") or trace(*of)
embed.jit_embed(make_bench_spec(("resnet50_512",), 4, 0.1).model, 2)
"""


def test_a_process_finds_what_another_traced(traces: Path):
    first, second = (python(EMBED, env={"PYTHONHASHSEED": seed}) for seed in ("1", "2"))
    assert (first.stdout, second.stdout) == ("traced\n", ""), first.stderr + second.stderr
    assert len(list(traces.iterdir())) == 1


def test_whatever_it_depends_on_makes_another_trace(traces: Path, monkeypatch: pytest.MonkeyPatch):
    double = Doubling()
    cached_jit(double.make(), "double", ROWS)
    cached_jit(double.make(), "two of it", ROWS)
    cached_jit(double.make(), "double", jax.ShapeDtypeStruct((4,), jnp.float32))
    before = jax.config.values["jax_default_matmul_precision"]
    jax.config.update("jax_default_matmul_precision", "highest")
    try:
        cached_jit(double.make(), "double", ROWS)
    finally:
        jax.config.update("jax_default_matmul_precision", before)
    monkeypatch.setattr(private_cache, "_digest_source", lambda: "after an update")
    cached_jit(double.make(), "double", ROWS)
    assert double.times == len(list(traces.iterdir())) == 5


@pytest.mark.parametrize("damage", [lambda content: content[:-1], lambda content: b"", lambda content: b"x" + content])
def test_a_damaged_trace_is_made_anew(traces: Path, damage):
    double = Doubling()
    cached_jit(double.make(), "double", ROWS)
    (file,) = traces.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    for _ in range(2):
        np.testing.assert_array_equal(cached_jit(double.make(), "double", ROWS)(X), 2 * X)
    assert double.times == 2


def test_where_nothing_can_be_kept_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    for _ in range(2):
        assert private_cache.make_folder("xla") is None
        np.testing.assert_array_equal(cached_jit(lambda x: 2 * x, "double", ROWS)(X), 2 * X)
    assert capsys.readouterr().err.count("compiled programs are not kept") == 1
    assert os.listdir(tmp_path) == ["file"]
