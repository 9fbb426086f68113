"""`asdjax plan`: what it refuses, and its figures against what is known otherwise."""

import json
import math
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
from conftest import PROJECT, SHALLOW, overrides, python, shallow_networks

from asdjax import features
from asdjax.cli.main import main
from asdjax.config import loading
from asdjax.config.fields import Config, default_config
from asdjax.errors import InputError
from asdjax.fleet import fleet_model
from asdjax.perf import gpu_targets, hlo, plan, planned_step
from asdjax.perf.collectives import collectives_of
from asdjax.perf.datasheets import Datasheet, find_datasheet
from asdjax.perf.plan_table import of_plan
from asdjax.perf.planned_step import Cost, Estimate
from asdjax.perf.targets import Target
from asdjax.perf.workload import make_work
from asdjax.runtime import hardware, private_cache

CONFIG = str(PROJECT / "configs" / "dcase2021.py")
CUDA = "jax_cuda13_plugin"
PLAN = "import sys; from asdjax.cli.main import main; sys.exit(main(['plan', *sys.argv[1:]]))"


def planned(devices: str, corpus: Path, out: Path, **changes: str) -> tuple[dict[str, Any], str]:
    """What `asdjax plan` writes as JSON, and what it says, in a process whose devices are its own."""
    words = ["--config", CONFIG, "--devices", devices, "--json", str(out), *overrides(corpus, **changes)]
    ran = python(PLAN, *words)
    assert ran.returncode == 0, ran.stderr
    return json.loads(out.read_text()), ran.stderr


@pytest.mark.parametrize(
    "devices",
    ["", "v5e", "v5e:0x1", "gpu:2x2", "cpu:1x1", "V5E:2x2", "cpu:-1", "h200", "h200:9", "h200:1x8", "b200:1", "v100:1"],
)
def test_names_of_no_devices_are_refused_in_one_line(devices: str, capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "--config", CONFIG, "--devices", devices]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--devices: expected a TPU's generation and shape (v5e:4x4, v5p:2x2x1, v6e:2x2), one to 8 " in line
    assert "of h200, h100, a100 (h200:8), gpu:N for GPUs of this machine or cpu:N" in line
    assert f"got {devices!r}" in line


def test_more_parts_of_a_processor_than_can_be_made_are_refused(capsys: pytest.CaptureFixture[str]):
    assert main(["plan", "--config", CONFIG, "--devices", "cpu:99999"]) == 2
    assert "--devices cpu:99999: expected at most 1024" in capsys.readouterr().err


def test_gpus_that_are_not_here_are_refused(capsys: pytest.CaptureFixture[str]):
    if hardware.on_accelerator():
        pytest.skip("there is a GPU here")
    assert main(["plan", "--config", CONFIG, "--devices", "gpu:2"]) == 2
    said = capsys.readouterr().err
    assert "--devices gpu:2: expected so many GPUs in this machine, got 0; for GPUs that are not here give" in said


def test_the_command_begins_no_device_before_the_plan_has_chosen_its_own():
    stand_in = (
        "import asdjax.perf.plan as module; from asdjax.perf.targets import parse_target; "
        "module.plan = lambda config, devices: sys.exit(f'{len(parse_target(devices).devices)} devices'); "
    )
    ran = python(PLAN.replace("; ", f"; {stand_in}", 1), "--config", CONFIG, "--devices", "cpu:2")
    assert ran.stderr == "2 devices\n"


@pytest.mark.skipif(bool(find_spec(CUDA)), reason="JAX's plugin for CUDA is here")
def test_gpus_that_are_not_here_without_the_plugin_are_refused():
    ran = python(PLAN, "--config", CONFIG, "--devices", "h200:1")
    assert ran.returncode == 2
    assert "--devices h200:1: expected JAX's plugin for CUDA" in ran.stderr
    assert "install asdjax[cuda]" in ran.stderr


@pytest.mark.parametrize("name", list(gpu_targets.GPUS))
def test_a_gpu_that_is_not_here_has_a_data_sheet_and_the_part_of_its_memory_that_jax_takes(name: str):
    sheet = find_datasheet(gpu_targets.GPUS[name].kind)
    assert sheet is not None
    assert gpu_targets.memory_bytes(sheet) == 0.75 * sheet.memory_bytes


@pytest.mark.parametrize("devices", ["v5e:3x5", "v9z:2x2", "tpu7x:2x2x1"])
def test_a_tpu_that_does_not_exist_or_without_libtpu_is_refused(devices: str):
    ran = python(PLAN, "--config", CONFIG, "--devices", devices)
    assert ran.returncode == 2
    assert f"--devices {devices}: expected a TPU's generation and shape" in ran.stderr
    assert "install asdjax[tpu]" in ran.stderr


@pytest.mark.usefixtures("quickly_compiled")
def test_a_step_over_eight_devices_has_an_eighth_on_each_and_reduces_every_gradient(corpus: Path, tmp_path: Path):
    changes = {"train__batch_size": "8"}
    alone, said = planned("cpu:1", corpus, tmp_path / "1.json", **changes)
    assert "compiling for cpu:1" in said
    shared, _ = planned("cpu:8", corpus, tmp_path / "8.json", **changes)
    assert alone["step"]["collectives"] == {}
    assert alone["step"]["bytes_sent"] == 0
    assert shared["fleet"]["batch_per_device"] == 1
    assert shared["step"]["flops"] == alone["step"]["flops"] / 8
    assert shared["step"]["temporaries_bytes"] < alone["step"]["temporaries_bytes"]
    assert (alone["fleet"]["precision"], alone["step"]["waiting_bytes"]) == ("float32", 0)
    unmet = 2 * (3 * 2 * 64 * 64) * 4  # two of three columns of two kernels of the last stage, on maps of one column
    gradients = parameter_bytes(corpus) - unmet
    assert gradients <= shared["step"]["bytes_sent"] / (2 * 7 / 8) < 2 * gradients
    assert alone["memory"]["fits"] is None
    assert alone["roofline"] is alone["estimate"] is None
    assert all(len(line) <= 80 for line in of_plan(shared).splitlines())


def parameter_bytes(corpus: Path) -> int:
    """What all-reducing a gradient of every parameter of conftest.TINY takes."""
    config = default_config()
    config.variants, config.width, config.data.root = ("resnet50_512",), 0.125, (str(corpus),)
    spec = fleet_model.make_spec(config, len(make_work(config).task.classes))
    return sum(4 * math.prod(a.shape) for a in fleet_model.abstract_model(spec).parameters["resnet50_512"].values())


def test_what_does_not_exist_yet_is_planned_at_the_size_of_2021():
    work = make_work(default_config())
    assert work.origin == "data is not here: planned for clips as many and as long as in 2021"
    assert (len(work.task.classes), len(work.task.clips), set(work.lengths)) == (6, 6018, {160_000})
    # 250 epochs of 6,000 source clips at a batch of 48, and 5,000 steps on the target domain, of seven machine types
    assert work.kinds == (7 * ((250 * 6000 // 48, 5000),),)
    assert (work.fleets, work.steps) == (7, 253_750)


def test_clips_are_counted_as_they_lie_there(corpus: Path):
    config = default_config()
    config.data.root = (str(corpus),)
    work = make_work(config)
    assert work.origin == str(corpus)
    assert (len(work.task.clips), set(work.lengths)) == (2 * (4 + 2), {32_000})


SHEET = Datasheet(flops_per_s=1e12, bytes_per_s=1e11, memory_bytes=1e9, interconnect_bytes_per_s=1e10, cycles_per_s=1e9)
COST = Cost(
    2e9, 1e9, 1234, 400_000_000, 500_000_000, 1_000_000, 10_000_000, {"all-reduce": 3}, 1e7, Estimate(3e6, 5e8), 60
)
DEVICES = [SimpleNamespace(process_index=host) for host in (0, 0, 1, 1)]
TARGET = Target("tpu:4", "tpu", DEVICES, "a TPU", SHEET, 1e9)


def test_the_roofline_by_hand():
    roofline = plan.roofline_of(COST, TARGET, steps=100)
    assert roofline is not None
    np.testing.assert_allclose(
        [
            roofline[what]
            for what in ("arithmetic_s", "memory_s", "collectives_s", "step_s", "run_s", "collectives_share")
        ],
        [2e-3, 1e-2, 1e-3, 1e-2, 1, 0.1],
    )
    run_s = pytest.approx(0.3)
    assert plan.estimate_of(COST, TARGET, steps=100) == {"step_s": 3e-3, "bytes_without": 5e8, "run_s": run_s}
    assert plan.estimate_of(COST._replace(estimate=Estimate(0, 1e9)), TARGET, steps=100) is None
    assert plan.memory_of(COST, TARGET) == {"needed_bytes": 911_000_000, "there_bytes": 1e9, "fits": True}


@pytest.mark.parametrize(
    ("sizes", "rows", "steps"),
    [((1, 1), 1, 26), ((1, 1), 2, 15), ((2, 1), 1, 20), ((2, 1), 2, 12), ((3, 1), 1, 19), ((4, 1), 1, 14)],
)
def test_a_stack_goes_on_until_its_longest_fleet_is_done(sizes: tuple[int, int], rows: int, steps: int):
    """In each of its phases. Four fleets are of a kind; in two rows, unstacked, the first takes 5 + 1 and then 4 + 1
    steps, the second 1 + 2, 7 and 4 + 1."""
    work = make_work(default_config())._replace(kinds=(((5, 1), (1, 2), (7, 0), (4, 1)), ((4, 1),)))
    assert work.steps_in_turn(sizes, rows) == steps


def test_each_kind_of_fleets_is_stacked_as_training_would(monkeypatch: pytest.MonkeyPatch):
    """At most seven of eight are two stacks of four, of seven one."""
    monkeypatch.setattr(plan, "parse_target", lambda _: TARGET)
    monkeypatch.setattr(plan, "cost_of", lambda *_: COST)
    config = default_config()
    config.parallel.fleets_per_program = 7
    work = make_work(config)._replace(kinds=(8 * ((5,),), 7 * ((3,),)))
    monkeypatch.setattr(plan, "make_work", lambda _: work)
    found = plan.plan(config, "any")
    assert found["fleet"]["stacked"] == 7
    assert found["roofline"]["run_s"] == pytest.approx(found["roofline"]["step_s"] * (5 + 5 + 3))


def test_a_plan_stacks_what_training_would(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    """On a GPU, unasked, what fits; fleets of unequal classes are no stack."""
    planned = []
    monkeypatch.setattr(plan, "parse_target", lambda _: TARGET._replace(platform="gpu", memory_bytes=100e9))
    monkeypatch.setattr(plan, "cost_of", lambda config, *_: planned.append(config.parallel.fleets_per_program) or COST)
    config = default_config()
    config.data.root, config.seed = (str(corpus),), (1, 2, 3)
    assert plan.plan(config, "any")["fleet"]["stacked"] == planned[-1] == 3
    assert config.parallel.fleets_per_program == 0
    work = make_work(config)
    ((fleet_steps, *_),) = work.kinds
    monkeypatch.setattr(plan, "make_work", lambda _: work._replace(kinds=((fleet_steps,) * 2, (fleet_steps,))))
    found = plan.plan(config, "any")
    assert found["fleet"]["stacked"] == planned[-1] == 2
    assert "fleets    3, 2 in one program, the largest of" in of_plan(found)
    np.testing.assert_allclose(found["roofline"]["run_s"], found["roofline"]["step_s"] * 2 * work.steps / 3)


def test_what_does_not_fit_is_told_and_is_exit_code_2(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(plan, "parse_target", lambda _: TARGET._replace(memory_bytes=5e8))
    monkeypatch.setattr(plan, "cost_of", lambda *_: COST)
    assert main(["plan", "--config", CONFIG, "--devices", "any", *overrides(corpus)]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "JAX can have 0.47: DOES NOT FIT" in said
    assert "1 GB to and from memory in 1,234 operations on each device, 3 all-reduce: 0.01 GB sent" in said
    assert "in bfloat16; in 2 hosts, while asdjax train runs in one" in said


def test_json_that_cannot_be_written_is_refused_before_anything_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "nowhere" / "plan.json"
    assert main(["plan", "--config", CONFIG, "--devices", "cpu:1", "--json", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--json {out}: cannot be written" in line


@pytest.fixture
def in_processor(corpus: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Config, Target]:
    """A tiny configuration, and this processor as if it were a TPU without a data sheet."""
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # the compilation cache is for all tests
    config = loading.load(CONFIG, dict(word.removeprefix("--config.").split("=") for word in overrides(corpus)))
    config.parallel.fleets_per_program = 1
    return config, Target("as-tpu", "tpu", jax.devices()[:1], "TPU v9", None, None)


ESTIMATED = """
ENTRY %main (x: f32[128]) -> f32[128] {
  %x = f32[128]{0:T(128)} parameter(0)
  %y = f32[128]{0:T(128)} sqrt(%x), backend_config={"window_config":{"estimated_cycles":"30"}}
  %z = f32[128]{0:T(128)} negate(%y), backend_config={"window_config":{"estimated_cycles":"12"}}
  ROOT %w = f32[128]{0:T(128)} copy(%z)
}
"""


def test_the_compiler_s_estimate_and_what_it_leaves_out():
    compiled = hlo.parsed(ESTIMATED)
    assert planned_step.estimated(compiled, list(hlo.executed(compiled))) == Estimate(
        cycles=42, bytes_without=2 * 4 * 128
    )


def test_the_step_is_planned_as_it_would_run_on_its_platform(in_processor: tuple[Config, Target]):
    config, target = in_processor
    config.data.resident = "device"
    with hardware.compiling_for("tpu"):
        call = planned_step.call_of(config, make_work(config), target, hardware.data_meshes(devices=target.devices)[0])
    assert (call.spec.precision, call.spec.steps_per_dispatch) == ("bfloat16", 50)
    assert isinstance(call.arguments[1], features.Waves)


def test_crops_that_wait_on_the_device_are_counted(in_processor: tuple[Config, Target]):
    config, target = in_processor
    config.data.resident = "host"
    call = planned_step.call_of(config, make_work(config), target, hardware.data_meshes(devices=target.devices)[0])
    audio = call.arguments[1]
    assert isinstance(audio, features.Crops)
    assert call.spec.steps_per_dispatch == len(audio.samples) == 1
    # two dispatches of one step, one variant, two clips a piece, four pieces, int16
    assert call.waiting_bytes(1) == 2 * 2 * 4 * call.spec.spectrogram.piece_samples * 2


def test_a_device_whose_memory_is_not_known_needs_the_user_s_word(in_processor: tuple[Config, Target]):
    config, target = in_processor
    with pytest.raises(InputError, match=r"config\.data\.resident: expected device or host, as the memory of TPU v9"):
        planned_step.cost_of(config, make_work(config), target)


def test_what_the_compiler_refuses_is_told_in_one_line(
    in_processor: tuple[Config, Target], monkeypatch: pytest.MonkeyPatch
):
    def refuse(_: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Ran out of memory\nin memory space hbm")

    config, target = in_processor
    config.data.resident = "host"
    monkeypatch.setattr(jax.stages.Lowered, "compile", refuse)
    monkeypatch.setattr(private_cache, "make_folder", lambda _: None)
    with pytest.raises(
        InputError, match=r"--devices as-tpu: .* smaller config\.train\.batch_size .* memory in memory space"
    ):
        planned_step.cost_of(config, make_work(config), target)


@pytest.mark.usefixtures("quickly_compiled")
def test_what_was_found_is_kept_and_found_anew_where_it_is_damaged(
    in_processor: tuple[Config, Target], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config, target = in_processor
    config.data.resident, config.width = "host", SHALLOW

    def found() -> tuple[Cost, bool]:
        cost = planned_step.cost_of(config, make_work(config), target)
        return cost, "compiling for as-tpu" in capfd.readouterr().err

    with shallow_networks():
        first, compiled = found()
        assert compiled
        assert found() == (first, False)
        (file,) = (tmp_path / "asdjax" / "plans").iterdir()
        file.write_bytes(file.read_bytes()[:40])
        anew, compiled = found()
    assert compiled
    assert anew._replace(compile_s=0) == first._replace(compile_s=0)


def test_a_plan_is_kept_whatever_else_compiles_here(
    in_processor: tuple[Config, Target], monkeypatch: pytest.MonkeyPatch
):
    _, target = in_processor
    installed = {"libtpu": "1", "jax-cuda13-pjrt": "1"}
    monkeypatch.setattr(planned_step, "_version", lambda package: installed.get(package, ""))
    first = planned_step._digest("HLO", target)
    installed["jax-cuda13-pjrt"] = "2"
    assert planned_step._digest("HLO", target) == first
    installed["libtpu"] = "2"
    assert planned_step._digest("HLO", target) != first


HLO = """
%fused (p: f32[10]) -> f32[10] {
  %p = f32[10]{0} parameter(0)
  ROOT %rs = f32[10]{0} reduce-scatter(%p), channel_id=3
}

%turn (a: f32[64]) -> f32[64] {
  %all-reduce.1 = (f32[64]{0}, f32[3,3,64,64]{3,2,1,0:T(8,128)}) all-reduce(%a, %b), channel_id=1
  %ag = (bf16[4,8]{1,0}, bf16[16,8]{1,0}) all-gather-start(%c), channel_id=2
  %ag.done = bf16[16,8]{1,0} all-gather-done(%ag)
  %fusion = f32[10]{0} fusion(%d), kind=kCustom, calls=%fused
  %both = ((bf16[4]{0}, bf16[8]{0}), (bf16[16]{0}, bf16[32]{0})) all-gather-start(%c, %d), channel_id=5
  %cp = (s32[5]{0}, s32[5]{0}, u32[], u32[]) collective-permute-start(%e), channel_id=4
  ROOT %add = f32[64]{0} add(%all-reduce.1, %f)
}

ENTRY %main (a: f32[64]) -> f32[64] {
  %a = f32[64]{0} parameter(0)
  %before = f32[1024]{0} all-reduce(%a), channel_id=6
  ROOT %while = f32[64]{0} while(%a), condition=%more, body=%turn
}
"""


def test_collectives_by_hand():
    dispatch = hlo.parsed(HLO)
    found = collectives_of(dispatch, hlo.executed(dispatch, "%turn"), devices=4)
    assert found.numbers == {"all-reduce": 1, "all-gather": 2, "reduce-scatter": 1, "collective-permute": 1}
    reduced, gathered, scattered, permuted = 4 * (64 + 9 * 64 * 64), 2 * (16 * 8 + 16 + 32), 4 * 10, 4 * 5
    assert found.bytes_sent == 0.75 * (2 * reduced + gathered + 4 * scattered) + permuted


@pytest.mark.parametrize(
    ("kind", "memory"), [("TPU v5 lite", 16 * 2**30), ("TPU v5", 95 * 2**30), ("NVIDIA H200", 141e9), ("cpu", None)]
)
def test_data_sheets_are_found_by_the_kind_of_device(kind: str, memory: float | None):
    sheet = find_datasheet(kind)
    assert (sheet.memory_bytes if sheet else None) == memory


@pytest.mark.slow
def test_a_tpu_that_is_not_here(corpus: Path, tmp_path: Path):
    if not find_spec("libtpu"):
        pytest.skip("needs the package libtpu (asdjax[tpu])")
    found, _ = planned("v5e:1x1", corpus, tmp_path / "plan.json")
    assert found["memory"] == {**found["memory"], "there_bytes": 16 * 2**30, "fits": True}
    assert found["fleet"]["precision"] == "bfloat16"
    assert found["roofline"]["step_s"] > 0
    assert found["estimate"]["step_s"] > found["roofline"]["arithmetic_s"]


@pytest.mark.slow
def test_gpus_that_are_not_here(corpus: Path, tmp_path: Path):
    if not find_spec(CUDA):
        pytest.skip("needs JAX's plugin for CUDA (asdjax[cuda])")
    found, _ = planned("h200:2", corpus, tmp_path / "plan.json")
    assert found["memory"] == {**found["memory"], "there_bytes": 0.75 * 141e9, "fits": True}
    assert (found["fleet"]["precision"], found["fleet"]["batch_per_device"]) == ("bfloat16", 2)
    assert found["step"]["collectives"].keys() >= {"all-reduce"}
    assert found["roofline"]["step_s"] > 0
    assert found["estimate"] is None
