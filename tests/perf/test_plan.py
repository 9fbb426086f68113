"""`asdjax plan`: its errors, and its figures compared with known ones."""

import json
import math
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import DEEP, PROJECT, overrides, python

from asdjax.cli.main import main
from asdjax.config.fields import default_config
from asdjax.fleet import fleet_model
from asdjax.perf import plan
from asdjax.perf.datasheets import Datasheet
from asdjax.perf.plan_table import format_plan
from asdjax.perf.planned_step import CycleEstimate, StepCost
from asdjax.perf.targets import Target
from asdjax.perf.workload import make_work

CONFIG = str(PROJECT / "configs" / "dcase2021.py")
CUDA = "jax_cuda13_plugin"
PLAN = "import sys; from asdjax.cli.main import main; sys.exit(main(['plan', *sys.argv[1:]]))"


def run_plan(devices: str, corpus: Path, out: Path, **changes: str) -> tuple[dict[str, Any], str]:
    """Run `asdjax plan` in a process with devices of its own; return its JSON and its standard error."""
    words = [
        "--config",
        CONFIG,
        "--devices",
        devices,
        "--json",
        str(out),
        *overrides(corpus, width=str(DEEP), **changes),
    ]
    ran = python(PLAN, *words)
    assert ran.returncode == 0, ran.stderr
    return json.loads(out.read_text()), ran.stderr


def test_the_command_begins_no_device_before_the_plan_has_chosen_its_own():
    stand_in = (
        "import asdjax.perf.plan as module; from asdjax.perf.targets import parse_target; "
        "module.plan = lambda config, devices: sys.exit(f'{len(parse_target(devices).devices)} devices'); "
    )
    ran = python(PLAN.replace("; ", f"; {stand_in}", 1), "--config", CONFIG, "--devices", "cpu:2")
    assert ran.stderr == "2 devices\n"


@pytest.mark.slow
def test_a_step_over_eight_devices_has_an_eighth_on_each_and_reduces_every_gradient(corpus: Path, tmp_path: Path):
    changes = {"train__batch_size": "8"}
    alone, said = run_plan("cpu:1", corpus, tmp_path / "1.json", **changes)
    assert "compiling for cpu:1" in said
    shared, _ = run_plan("cpu:8", corpus, tmp_path / "8.json", **changes)
    assert alone["step"]["collectives"] == {}
    assert alone["step"]["bytes_sent"] == 0
    assert shared["fleet"]["batch_per_device"] == 1
    assert shared["step"]["flops"] == alone["step"]["flops"] / 8
    assert shared["step"]["temporaries_bytes"] < alone["step"]["temporaries_bytes"]
    assert (alone["fleet"]["precision"], alone["step"]["prefetched_bytes"]) == ("float32", 0)
    unmet = 2 * (3 * 2 * 64 * 64) * 4  # two of three columns of two kernels of the last stage, on maps of one column
    gradients = count_parameter_bytes(corpus) - unmet
    assert gradients <= shared["step"]["bytes_sent"] / (2 * 7 / 8) < 2 * gradients
    assert alone["memory"]["fits"] is None
    assert alone["roofline"] is alone["estimate"] is None
    assert all(len(line) <= 80 for line in format_plan(shared).splitlines())


def count_parameter_bytes(corpus: Path) -> int:
    """Return the bytes of all parameters of `run_plan`'s fleet, which are those of its gradients."""
    config = default_config()
    config.variants, config.width, config.data.root = ("resnet50_512",), DEEP, (str(corpus),)
    spec = fleet_model.make_spec(config, len(make_work(config).task.classes))
    return sum(4 * math.prod(a.shape) for a in fleet_model.describe_model(spec).parameters["resnet50_512"].values())


SHEET = Datasheet(flops_per_s=1e12, bytes_per_s=1e11, memory_bytes=1e9, interconnect_bytes_per_s=1e10, cycles_per_s=1e9)
COST = StepCost(
    flops=2e9,
    bytes_accessed=1e9,
    operations=1234,
    arguments_bytes=400_000_000,
    temporaries_bytes=500_000_000,
    code_bytes=1_000_000,
    prefetched_bytes=10_000_000,
    collectives={"all-reduce": 3},
    bytes_sent=1e7,
    estimate=CycleEstimate(cycles=3e6, bytes_without=5e8),
    compile_s=60,
)
DEVICES = [SimpleNamespace(process_index=host) for host in (0, 0, 1, 1)]
TARGET = Target(name="tpu:4", platform="tpu", devices=DEVICES, kind="a TPU", sheet=SHEET, memory_bytes=1e9)


def test_the_roofline_by_hand():
    roofline = plan.compute_roofline(COST, TARGET, steps=100)
    assert roofline is not None
    np.testing.assert_allclose(
        [
            roofline[what]
            for what in ("arithmetic_s", "memory_s", "collectives_s", "step_s", "run_s", "collectives_share")
        ],
        [2e-3, 1e-2, 1e-3, 1e-2, 1, 0.1],
    )
    run_s = pytest.approx(0.3)
    assert plan.compute_estimate(COST, TARGET, steps=100) == {"step_s": 3e-3, "bytes_without": 5e8, "run_s": run_s}
    without_estimate = replace(COST, estimate=CycleEstimate(cycles=0, bytes_without=1e9))
    assert plan.compute_estimate(without_estimate, TARGET, steps=100) is None
    assert plan.compare_memory(COST, TARGET) == {"needed_bytes": 911_000_000, "available_bytes": 1e9, "fits": True}


def test_each_kind_of_fleets_is_stacked_as_training_would(monkeypatch: pytest.MonkeyPatch):
    # at most seven per program: eight fleets are two programs of four, seven are one
    monkeypatch.setattr(plan, "parse_target", lambda _: TARGET)
    monkeypatch.setattr(plan, "find_cost", lambda *_: COST)
    config = default_config()
    config.parallel.fleets_per_program = 7
    work = make_work(config)._replace(kinds=(8 * ((5,),), 7 * ((3,),)))
    monkeypatch.setattr(plan, "make_work", lambda _: work)
    found = plan.plan(config, "any")
    assert found["fleet"]["fleets_per_program"] == 7
    assert found["roofline"]["run_s"] == pytest.approx(found["roofline"]["step_s"] * (5 + 5 + 3))


def test_a_plan_stacks_what_training_would(corpus: Path, monkeypatch: pytest.MonkeyPatch):
    # by default as many as fit on a GPU; fleets with other classes share no program
    sizes = []
    monkeypatch.setattr(plan, "parse_target", lambda _: replace(TARGET, platform="gpu", memory_bytes=100e9))
    monkeypatch.setattr(plan, "find_cost", lambda config, *_: sizes.append(config.parallel.fleets_per_program) or COST)
    config = default_config()
    config.data.root, config.seed = (str(corpus),), (1, 2, 3)
    assert plan.plan(config, "any")["fleet"]["fleets_per_program"] == sizes[-1] == 3
    assert config.parallel.fleets_per_program == 0
    work = make_work(config)
    ((fleet_steps, *_),) = work.kinds
    monkeypatch.setattr(plan, "make_work", lambda _: work._replace(kinds=((fleet_steps,) * 2, (fleet_steps,))))
    found = plan.plan(config, "any")
    assert found["fleet"]["fleets_per_program"] == sizes[-1] == 2
    assert "fleets    3 in all, 2 per program; " in format_plan(found)
    np.testing.assert_allclose(found["roofline"]["run_s"], found["roofline"]["step_s"] * 2 * work.steps / 3)


def test_what_does_not_fit_is_told_and_is_exit_code_2(
    corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(plan, "parse_target", lambda _: replace(TARGET, memory_bytes=5e8))
    monkeypatch.setattr(plan, "find_cost", lambda *_: COST)
    assert main(["plan", "--config", CONFIG, "--devices", "any", *overrides(corpus)]) == 2
    said = " ".join(capsys.readouterr().out.split())
    assert "0.47 GiB available to JAX: DOES NOT FIT" in said
    assert "2 GFLOP and 1 GB of memory traffic in 1,234 operations on each device" in said
    assert "between devices 3 all-reduce, 10 MB sent by each" in said
    assert "bfloat16; they are in 2 hosts, but asdjax train uses one host" in said


def test_json_that_cannot_be_written_is_refused_before_anything_is_compiled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "nowhere" / "plan.json"
    assert main(["plan", "--config", CONFIG, "--devices", "cpu:1", "--json", str(out)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--json {out}: cannot be written" in line


@pytest.mark.slow
def test_a_tpu_that_is_not_here(corpus: Path, tmp_path: Path):
    if not find_spec("libtpu"):
        pytest.skip("needs the package libtpu (asdjax[tpu])")
    found, _ = run_plan("v5e:1x1", corpus, tmp_path / "plan.json")
    assert found["memory"] == {**found["memory"], "available_bytes": 16 * 2**30, "fits": True}
    assert found["fleet"]["precision"] == "bfloat16"
    assert found["roofline"]["step_s"] > 0
    assert found["estimate"]["step_s"] > found["roofline"]["arithmetic_s"]


@pytest.mark.slow
def test_gpus_that_are_not_here(corpus: Path, tmp_path: Path):
    if not find_spec(CUDA):
        pytest.skip("needs JAX's plugin for CUDA (asdjax[cuda])")
    found, _ = run_plan("h200:2", corpus, tmp_path / "plan.json")
    assert found["memory"] == {**found["memory"], "available_bytes": 0.75 * 141e9, "fits": True}
    assert (found["fleet"]["precision"], found["fleet"]["batch_per_device"]) == ("bfloat16", 2)
    assert found["step"]["collectives"].keys() >= {"all-reduce"}
    assert found["roofline"]["step_s"] > 0
    assert found["estimate"] is None
