"""The planned step: compiled as training would, its cost stored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest
from conftest import DEEP, PROJECT, SHALLOW, overrides, shallow_networks

from asdjax import features
from asdjax.config import loading
from asdjax.config.fields import Config
from asdjax.errors import InputError
from asdjax.perf import hlo, planned_step
from asdjax.perf.planned_step import CycleEstimate, StepCost
from asdjax.perf.targets import Target
from asdjax.perf.workload import make_work
from asdjax.runtime import hardware, jax_setup

CONFIG = str(PROJECT / "configs" / "dcase2021.py")


@pytest.fixture
def in_processor(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Target]:
    """Return a tiny configuration, and this processor as a target that claims to be a TPU without a data sheet."""
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # keeps the compilation cache that all tests share
    config = loading.load(
        CONFIG, dict(word.removeprefix("--config.").split("=") for word in overrides(corpus, width=str(DEEP)))
    )
    config.parallel.fleets_per_program = 1
    device = jax.devices()[:1]
    return config, Target(name="as-tpu", platform="tpu", devices=device, kind="TPU v9", sheet=None, memory_bytes=None)


ESTIMATED = """
ENTRY %main (x: f32[128]) -> f32[128] {
  %x = f32[128]{0:T(128)} parameter(0)
  %y = f32[128]{0:T(128)} sqrt(%x), backend_config={"window_config":{"estimated_cycles":"30"}}
  %z = f32[128]{0:T(128)} negate(%y), backend_config={"window_config":{"estimated_cycles":"12"}}
  ROOT %w = f32[128]{0:T(128)} copy(%z)
}
"""


def test_the_compiler_s_estimate_and_what_it_leaves_out():
    compiled = hlo.parse_program(ESTIMATED)
    assert planned_step.sum_estimates(compiled, list(hlo.iterate_executed(compiled))) == CycleEstimate(
        cycles=42, bytes_without=2 * 4 * 128
    )


def test_the_step_is_planned_as_it_would_run_on_its_platform(in_processor: tuple[Config, Target]):
    config, target = in_processor
    config.data.resident = "device"
    with hardware.compiling_for("tpu"):
        call = planned_step.make_call(
            config, make_work(config), target, hardware.make_meshes(devices=target.devices)[0]
        )
    assert (call.spec.model.precision, call.spec.steps_per_dispatch) == ("bfloat16", 50)
    assert isinstance(call.arguments[1], features.Waves)


def test_crops_that_wait_on_the_device_are_counted(in_processor: tuple[Config, Target]):
    config, target = in_processor
    config.data.resident = "host"
    call = planned_step.make_call(config, make_work(config), target, hardware.make_meshes(devices=target.devices)[0])
    audio = call.arguments[1]
    assert isinstance(audio, features.Crops)
    assert call.spec.steps_per_dispatch == len(audio.samples) == 1
    # two dispatches of one step, one variant, two clips a piece, four pieces, int16
    assert call.prefetched_bytes(1) == 2 * 2 * 4 * call.spec.model.spectrogram.piece_samples * 2


def test_a_device_whose_memory_is_not_known_needs_the_user_s_word(in_processor: tuple[Config, Target]):
    config, target = in_processor
    with pytest.raises(InputError, match=r"config\.data\.resident: expected device or host, because the memory of TPU"):
        planned_step.find_cost(config, make_work(config), target)


def test_what_the_compiler_refuses_is_told_in_one_line(
    in_processor: tuple[Config, Target], monkeypatch: pytest.MonkeyPatch
):
    def refuse(_: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory\nin memory space hbm")

    config, target = in_processor
    config.data.resident, config.width = "host", SHALLOW
    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    monkeypatch.setattr(jax_setup, "private_cache", lambda _: None)
    with (
        shallow_networks(),
        pytest.raises(
            InputError, match=r"--devices as-tpu: .* memory in memory space .* smaller config\.train\.batch_size"
        ),
    ):
        planned_step.find_cost(config, make_work(config), target)


def test_what_was_found_is_kept_and_found_anew_where_it_is_damaged(
    in_processor: tuple[Config, Target], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config, target = in_processor
    config.data.resident, config.width = "host", SHALLOW

    def found() -> tuple[StepCost, bool]:
        cost = planned_step.find_cost(config, make_work(config), target)
        return cost, "compiling for as-tpu" in capfd.readouterr().err

    with shallow_networks():
        first, compiled = found()
        assert compiled
        assert found() == (first, False)
        (file,) = (tmp_path / "asdjax" / "plans").iterdir()
        file.write_bytes(file.read_bytes()[:40])
        again, compiled = found()
    assert compiled
    assert replace(again, compile_s=0) == replace(first, compile_s=0)


def test_a_plan_is_kept_whatever_else_compiles_here(
    in_processor: tuple[Config, Target], monkeypatch: pytest.MonkeyPatch
):
    _, target = in_processor
    installed = {"libtpu": "1", "jax-cuda13-pjrt": "1"}
    monkeypatch.setattr(planned_step, "_find_version", lambda package: installed.get(package, ""))
    first = planned_step._compute_digest("HLO", target)
    installed["jax-cuda13-pjrt"] = "2"
    assert planned_step._compute_digest("HLO", target) == first
    installed["libtpu"] = "2"
    assert planned_step._compute_digest("HLO", target) != first
